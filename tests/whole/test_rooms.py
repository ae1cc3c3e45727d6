"""The rooms of the house: which may import which, and that what describes itself is known by its name nowhere else."""

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ablations
import baselines
import cli
import mixmae
import results
from mixmae.data.sources import sources
from mixmae.encoders.families import families
from mixmae.experiment.jobs import StageJob
from mixmae.experiment.stages import stages
from mixmae.methods.methods import methods
from mixmae.presentation.plots import plot_kinds

PACKAGES = [Path(package.__file__).parent for package in (results, ablations, baselines, mixmae)]
TOP = ["cli", "results", "ablations", "baselines", "mixmae"]
ROOMS = [
    "work", "evaluations", "training", "tracking", "weights", "runs", "cost", "presentation", "experiment", "methods",
    "encoders", "data", "attention", "files", "fields",
]  # fmt: skip
"""Of mixmae: each imports only rooms listed below it."""
MOST_ARGUMENTS = 6

NAMES = {name for specs in (families, methods, sources, stages, plot_kinds) for name in specs.names()}
OTHER_MEANINGS = {
    "mixmae": "the program, its packages and what logs",
    "loss": "a figure of results and lines of metrics.jsonl",
    "pretrain": "a block of experiment files, and what rows call it",
    "bars": "how seaborn draws errors",
    "torchvision": "the package",
}
"""Names of specs that are other words too."""
ALLOWED = {
    ("mixmae/encoders/vit", "mae"): "a ViT's own way to be built and initialised",
    ("mixmae/presentation/declaration.py", "finetune"): "a task of published.csv",
}


@functools.cache
def modules() -> dict[str, ast.Module]:
    """Every module that is shipped, by its path from the top."""
    files = [(Path(cli.__file__), "cli.py")]
    files += [(path, path.relative_to(place.parent).as_posix()) for place in PACKAGES for path in place.rglob("*.py")]
    return {name: ast.parse(path.read_text("utf-8")) for path, name in files}


def imported(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Lazy imports and those for types included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            assert node.module
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def place(dotted: str) -> tuple[int, int] | None:
    """Of a module, the higher the lower in the house; None of other programs."""
    top, *rest = dotted.split(".")
    if top not in TOP:
        return None
    if top != "mixmae" or not rest or rest[0] not in ROOMS:
        return TOP.index(top), 0 if top != "mixmae" or rest[:1] == ["task"] else len(ROOMS)
    return TOP.index(top), ROOMS.index(rest[0])


def test_every_folder_of_the_library_is_a_room():
    (library,) = [path for path in PACKAGES if path.name == "mixmae"]
    assert {path.name for path in library.iterdir() if path.is_dir() and path.name != "__pycache__"} == set(ROOMS)
    assert {path.name for path in library.glob("*.py")} == {"__init__.py", "task.py"}


def test_no_import_runs_upward():
    upward = []
    for name, tree in modules().items():
        own = place(name.removesuffix(".py").replace("/", ".").removesuffix(".__init__"))
        for line, dotted in imported(tree):
            other = place(dotted)
            if other is not None and other < own:
                upward.append(f"{name}:{line} imports {dotted}")
    assert not upward


def test_inits_are_empty_or_offer_their_own_room():
    for name, tree in modules().items():
        if name.endswith("/__init__.py"):
            room = name.removesuffix("/__init__.py").replace("/", ".")
            own = [dotted for _, dotted in imported(tree) if place(dotted)]
            assert all(dotted.startswith(f"{room}.") for dotted in own), name


def test_functions_take_few_arguments():
    """Commands apart, whose options are their arguments."""
    many = []
    for name, tree in modules().items():
        if name.endswith("commands.py") or name == "cli.py":
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                count = sum(argument.arg not in ("self", "cls") for argument in every)
                if count > MOST_ARGUMENTS:
                    many.append(f"{name}:{node.lineno} {node.name} takes {count}")
    assert not many


def literals(tree: ast.Module) -> Iterator[ast.Constant]:
    """The strings that are no docstrings."""
    said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said:
            yield node


@pytest.mark.parametrize("name", sorted(NAMES - set(OTHER_MEANINGS)))
def test_a_spec_is_known_by_its_name_in_its_own_folder_alone(name):
    found = []
    for module, tree in modules().items():
        if f"/{name}/" in f"/{module}" or any(module.startswith(start) for start, word in ALLOWED if word == name):
            continue
        found += [f"{module}:{node.lineno}" for node in literals(tree) if node.value == name]
    assert not found


def test_other_meanings_are_of_names():
    assert set(OTHER_MEANINGS) <= NAMES and {word for _, word in ALLOWED} <= NAMES


CONFIGS = {
    *(spec.config.__name__ for specs in (families, methods, sources) for spec in specs),
    *(spec.recipe.__name__ for spec in stages),
    *(job.__name__ for job in (StageJob, *StageJob.__subclasses__())),
}
"""The classes of what is configured."""


def probes(tree: ast.Module) -> Iterator[str]:
    """Calls that look at what an object is, in place of asking its spec."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            asked = {name.id for name in ast.walk(node.args[-1]) if isinstance(name, ast.Name)} if node.args else set()
            if (
                node.func.id in ("hasattr", "vars")
                or (node.func.id == "getattr" and len(node.args) == 3)
                or (node.func.id == "isinstance" and asked & CONFIGS)
            ):
                yield f"{node.lineno} {ast.unparse(node)}"


def test_no_config_is_probed():
    found = []
    for module, tree in modules().items():
        if not set(module.split("/")) & NAMES - {"mixmae"}:
            found += [f"{module}:{probe}" for probe in probes(tree)]
    errors = ["cli.py:getattr(error, 'option_name', None)", "mixmae/runs/cause.py:getattr(error, 'cause', None)"]
    assert sorted(re.sub(r":\d+ ", ":", probe) for probe in found) == errors


def test_a_probe_is_seen():
    code = "vars(a)\ngetattr(a, 'b', None)\nisinstance(a, SwinConfig)\ngetattr(a, b)\nisinstance(a, str)"
    assert [probe.split()[0] for probe in probes(ast.parse(code))] == ["1", "2", "3"]


@pytest.mark.slow
def test_the_library_offers_names_that_it_imports_when_they_are_asked_for():
    code = "import mixmae, sys; before = 'torch' in sys.modules; mixmae.load; print(before, 'torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False True\n"
    with pytest.raises(AttributeError, match="no attribute 'layout'"):
        mixmae.layout  # noqa: B018
