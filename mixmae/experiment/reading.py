"""Experiments as files that may build on recipes and on one another (no torch)."""

from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mixmae.experiment.experiment import Experiment
from mixmae.fields.documents import (
    ConfigError,
    Value,
    as_chosen,
    find,
    load,
    mark_of,
    name_of,
    overlay,
    plain,
    validated,
)
from mixmae.fields.messages import in_words
from mixmae.fields.model import FieldPath
from mixmae.fields.nearest import instead
from mixmae.fields.specs import UnknownName
from mixmae.methods.methods import methods

# --------------------------------------------------------------------------------------------- experiments and bases


def read_experiment(path: Path) -> tuple[Experiment, Value]:
    """The experiment in the file at `path`, and where its parts were written. Raises ConfigError."""
    written = _written(path)
    document = settled(with_base(written, (path.resolve(),)))
    return validated(Experiment, document), document


def read_reference(path: Path) -> Experiment | None:
    """The experiment in the file at `path` with the method in whose epochs its budget is said; None where that is its
    own, or it has no such budget. Raises ConfigError."""
    written = _written(path)
    document = settled(with_base(written, (path.resolve(),)))
    other = length_of(document)
    if other is None or other == name_of(document.data["method"]):
        return None
    chosen = Value({**written.data, "method": Value(other, written.mark)}, written.mark)
    return reference_of(settled(with_base(chosen, (path.resolve(),))), document)


def reference_of(other: Value, document: Value) -> Experiment:
    """What a document is with the method in whose epochs its budget is said. Raises ConfigError where that cannot be
    had, at the budget."""
    try:
        return validated(Experiment, other)
    except ConfigError as error:
        what = f"{length_of(document)} cannot be had here: {'; '.join(error.lines)}"
        raise mark_of(document, EPOCHS_OF).error(what, EPOCHS_OF) from None


def _written(path: Path) -> Value:
    if not path.exists() and str(path) in (recipe.stem for recipe in recipe_files()):
        raise ConfigError([f"{path} is a recipe; write a file with the line base: {path}, and name that"])
    written = load(path)
    if isinstance(written.data, dict) and "sweeps" in written.data:
        raise ConfigError([f"{path} is a grid, of several experiments; run it with: mixmae grid run {path}"])
    return written


def settled(document: Value) -> Value:
    """A document of all layers as an experiment has it: with what `methods` says of its method, without `methods` and
    `tuned_for`. Raises ConfigError where they name a method or a field that there is not."""
    if not isinstance(document.data, dict):
        return document
    if (said := document.data.get("methods")) is not None:
        _check_methods(said)
    tuned_for(document)
    experiment = as_chosen(document)
    return Value({name: item for name, item in experiment.data.items() if name != TUNED_FOR}, experiment.mark)


EPOCHS_OF = ("pretrain", "budget", "epochs_of")


def length_of(document: Value) -> str | None:
    """The method in whose epochs a document's budget is said; None where it has no such budget. Raises ConfigError
    where there is no such method that pretrains."""
    named = find(document, EPOCHS_OF)
    if named is None or named.data is None:
        return None
    _check_name(named.data, named, EPOCHS_OF)
    if not methods[named.data].pretrains:
        pretrain = ", ".join(spec.name for spec in methods if spec.pretrains)
        raise named.mark.error(f"{named.data} pretrains nothing; write one of {pretrain}", EPOCHS_OF)
    return str(named.data)


TUNED_FOR = "tuned_for"
"""Names the methods that a file's pretraining was tuned for; not part of an experiment."""


def tuned_for(document: Value) -> list[str] | None:
    """The methods that a document says its pretraining was tuned for; None where it does not. Raises ConfigError."""
    named = document.data.get(TUNED_FOR)
    if named is None:
        return None
    if not isinstance(named.data, list):
        raise named.mark.error("expected a list of methods, such as [mixmae]", (TUNED_FOR,))
    for number, name in enumerate(named.data):
        _check_name(name.data, name, (TUNED_FOR, number))
    return [name.data for name in named.data]


def _check_name(name: Any, written: Value, path: FieldPath) -> None:
    try:
        methods[str(name)]
    except UnknownName as error:
        raise written.mark.error(str(error), path) from None


def _check_methods(said: Value) -> None:
    if not isinstance(said.data, dict):
        raise said.mark.error("expected a mapping (name: value lines), a method each", ("methods",))
    lines: list[str] = []
    for name, fields in said.data.items():
        _check_name(name, fields, ("methods", name))
        if not isinstance(fields.data, dict):
            raise fields.mark.error("expected a mapping (name: value lines)", ("methods", name))
        config, written = methods[name].config, {"name": name, **plain(fields)}
        try:
            config.model_validate(written)
        except ValidationError as error:
            # What is missing may be written where the method is chosen.
            wrong = [(find(fields, path), path, what) for path, what in in_words(error, config, written)]
            lines += [at.mark.complaint(what, ("methods", name, *path)) for at, path, what in wrong if at]
    if lines:
        raise ConfigError(lines)


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
