"""Experiments as files that may build on recipes and on one another (no torch)."""

from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from mixmae.experiment.experiment import Experiment
from mixmae.fields.documents import ConfigError, Value, load, overlay, validated
from mixmae.fields.nearest import instead

# --------------------------------------------------------------------------------------------- experiments and bases


def read_experiment(path: Path) -> tuple[Experiment, Value]:
    """The experiment in the file at `path`, and where its parts were written. Raises ConfigError."""
    if not path.exists() and str(path) in (recipe.stem for recipe in recipe_files()):
        raise ConfigError([f"{path} is a recipe; write a file with the line base: {path}, and name that"])
    written = load(path)
    if isinstance(written.data, dict) and "sweeps" in written.data:
        raise ConfigError([f"{path} is a grid, of several experiments; run it with: mixmae grid run {path}"])
    document = with_base(written, (path.resolve(),))
    return validated(Experiment, document), document


def with_base(document: Value, read: tuple[Path, ...]) -> Value:
    """`document` laid over what its `base:` names, if anything. `read` holds the files it was reached through."""
    if not isinstance(document.data, dict) or "base" not in document.data:
        return document
    rest = Value({name: item for name, item in document.data.items() if name != "base"}, document.mark)
    return overlay(load_base(document.data["base"], read), rest)


def load_base(name: Value, read: tuple[Path, ...]) -> Value:
    """What `base: name` stands for: a recipe's name, or a path from the folder of the file that names it."""
    if not isinstance(name.data, str):
        raise name.mark.error("expected a recipe's name or a path ending in .yaml", ("base",))
    path = _base_path(name, read[-1].parent)
    if path.resolve() in read:
        raise name.mark.error(f"{name.data} is its own base; name another", ("base",))
    base = load(path)
    if not isinstance(base.data, dict):
        raise base.mark.error("expected an experiment: name: value lines")
    return with_base(base, (*read, path.resolve()))


def _base_path(name: Value, folder: Path) -> Path:
    if name.data.endswith((".yaml", ".yml")):
        path = folder / Path(name.data).expanduser()
        if not path.is_file():
            raise name.mark.error(f"no file {path}; write a recipe's name or the path of a YAML file", ("base",))
        return path
    recipes = {path.stem: path for path in recipe_files()}
    if name.data not in recipes:
        what = instead(name.data, recipes, f"write one of {', '.join(sorted(recipes))}, or a .yaml path")
        raise name.mark.error(f"no recipe {name.data!r}; {what}", ("base",))
    return recipes[name.data]


def recipe_files() -> Iterator[Path]:
    """The recipes that come with this package: experiments to build on by name."""
    yield from sorted(Path(str(resources.files("mixmae.experiment") / "recipes")).glob("*.yaml"))
