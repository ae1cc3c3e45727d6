"""A grid as those see it who show its results: `mixmae.presentation.declaration.Declaration` (no torch)."""

from collections.abc import Iterator

from ablations.grid.file import Grid
from ablations.plan.plan import Plan
from mixmae.cost.multiply_adds import pretraining_step
from mixmae.fields.documents import SAID_OF, Mark, Value
from mixmae.presentation.columns import ALIASES, canonical
from mixmae.presentation.declaration import Declaration

WHOLE = (ALIASES["budget"].path,)
"""Paths whose mappings are one value in a row."""


def declare(grid: Grid, plan: Plan, commands: tuple[str, ...] = ()) -> Declaration:
    """What the grid declares of the runs of its plan. commands: that run it and show its results."""
    pretrainings = (entry for entry in plan.entries if not entry.job.spec.measures)
    steps = ((entry.key, pretraining_step(entry.job)) for entry in pretrainings)
    return Declaration(
        name=grid.name,
        title=grid.spec.title,
        scale=grid.scale,
        commands=commands,
        tables=grid.spec.tables,
        plots=grid.spec.plots,
        expected=grid.spec.expected,
        members=plan.members,
        planned={entry.key: entry.row for entry in plan.entries},
        configs={entry.key: entry.config for entry in plan.entries},
        names={entry.key: entry.names for entry in plan.entries if entry.names},
        cases={entry.key: entry.cases for entry in plan.entries if entry.cases},
        swept={column: str(mark) for column, mark in _swept(grid.document)},
        macs={key: step for key, step in steps if step},
        hours=plan.hours,
    )


def _swept(document: Value) -> Iterator[tuple[str, Mark]]:
    """Yields the columns that a grid file sweeps, in the order in which it writes them, and where."""
    seen: set[str] = set()
    for sweep in document.data["sweeps"].data:
        for name, value in _assigned(sweep):
            for column, mark in _columns(name, value):
                if column not in seen:
                    seen.add(column)
                    yield column, mark


def _assigned(sweep: Value) -> Iterator[tuple[str, Value]]:
    """Yields every dotted path that a sweep assigns to, and what."""
    for block in ("product", "zip"):
        for name, values in sweep.data[block].data.items() if block in sweep.data else ():
            yield from ((name, Value(value.data, values.mark)) for value in values.data)
    if "trials" in sweep.data:
        yield from ((name, Value(None, of.mark)) for name, of in sweep.data["trials"].data["draw"].data.items())
    for case in sweep.data["list"].data if "list" in sweep.data else ():
        yield from case.data.items()
    yield from sweep.data["set"].data.items() if "set" in sweep.data else ()


def _columns(path: str, value: Value) -> Iterator[tuple[str, Mark]]:
    """Yields the columns of what is assigned to a path of an experiment."""
    if isinstance(value.data, dict) and path not in WHOLE:
        for name, item in value.data.items():
            yield from _columns(path if name == "name" else f"{path}.{name}", item)
        return
    parts = path.split(".")
    if parts[0] in SAID_OF:
        yield canonical(".".join([SAID_OF[parts[0]], *parts[2:]])), value.mark
    elif parts[0] == "evaluations":
        short = canonical(".".join(["evaluation", *parts[2:]]))
        if len(parts) > 2:
            yield short if short in ALIASES else path, value.mark
    elif path != "seed":
        yield canonical(path), value.mark
