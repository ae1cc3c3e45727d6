"""A grid's runs as a table: rows and columns as the grid declares them, figures as they were measured (no torch)."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

import pandas as pd

from mixmae.experiment.metric import Metric
from mixmae.fields.identity import Key
from mixmae.presentation.checks import table_columns
from mixmae.presentation.columns import ALIASES, canonical, named, shown
from mixmae.presentation.declaration import Declaration, Selected, TableSpec
from mixmae.presentation.row import references
from mixmae.presentation.shown import NO_RUN, Shown, cells, varying
from results.published import Published, comparable, differences, named_by, published_for, taken_for
from results.rows.machines import computed_on
from results.rows.shown import shown_runs
from results.tables.equal_time import SLOWER, of_time, sentence
from results.tables.significance import Scored, significance

SCALED = "\N{DAGGER}"
"""What every figure of runs at a scale is marked with."""
NAMED = 8
"""Runs that a note names; more are counted."""


@dataclass(frozen=True)
class Label:
    """A value of a row or of a column as the grid declares it, and `ran`: what the runs had, where a scale made another
    of it."""

    column: str
    value: Any
    ran: tuple[Any, ...] = ()

    def text(self) -> str:
        """ "20 for 600": what was run for what was declared."""
        was = " or ".join(shown(self.column, value) for value in self.ran)
        absent = ALIASES[self.column].absent if self.column in ALIASES else None
        declared = absent if was and self.value is None and absent else shown(self.column, self.value)
        return f"{was} for {declared}" if was else declared

    def named(self) -> str:
        """The text with what it is a value of, where it does not say it."""
        return named(self.column, self.text())


def label_of(column: str, runs: Sequence[Shown]) -> Label:
    """The label of runs that share the value."""
    declared, was = runs[0].value(column), dict.fromkeys(run.was(column) for run in runs)
    return Label(column, declared, () if set(was) == {declared} else tuple(was))


@dataclass(frozen=True)
class Figures:
    """A column of figures of an evaluation; where the table has `across`, of the runs with one value of it."""

    of: Selected
    across: Label | None = None

    def path(self) -> tuple[str, ...]:
        """Its headings, from the outermost one in."""
        return (self.of.label, *((self.across.named(),) if self.across else ()))

    def text(self) -> str:
        return ", ".join(self.path())

    def of_these(self, runs: Sequence[Shown]) -> list[Shown]:
        """The runs whose figures belong into it."""
        across = self.across
        own = [run for run in runs if run.name == self.of.name]
        return own if across is None else [run for run in own if run.value(across.column) == across.value]


@dataclass(frozen=True)
class Cell:
    """A figure over the `n` seeds that are done; std has n - 1 and is None for one seed.

    differs: of a cell with a mean, what of its setting is another than where `published` comes from. comparable:
    whether a difference to that means something. best: significantly the best of its column.
    """

    metric: Metric
    n: int = 0
    mean: float | None = None
    std: float | None = None
    published: Published | None = None
    differs: tuple[str, ...] = ()
    comparable: bool = False
    best: bool = False

    @property
    def difference(self) -> float | None:
        """Ours minus the published number; None where they do not compare."""
        if not self.comparable or self.mean is None or self.published is None:
            return None
        return self.mean - self.published.value


@dataclass(frozen=True)
class Row:
    """A cell for each of the table's figures, None where the grid has no such run."""

    labels: tuple[Label, ...]
    cells: tuple[Cell | None, ...]

    @property
    def values(self) -> tuple:
        return tuple(label.value for label in self.labels)


@dataclass(frozen=True)
class Table:
    """columns: what the labels of a row are values of. scale: what all figures were run at, None for full scale; the
    title begins with it then. notes: general ones; those of single cells are made of the cells."""

    name: str
    title: str
    scale: str | None
    columns: tuple[str, ...]
    figures: tuple[Figures, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]

    def has_published(self, place: int) -> bool:
        """Whether some row has a published number in that column of figures."""
        return any(cell.published for cell in self._column(place))

    def has_difference(self, place: int) -> bool:
        """Whether some row has a published number there that compares with ours."""
        return any(cell.comparable for cell in self._column(place))

    def _column(self, place: int) -> Iterator[Cell]:
        return (cell for row in self.rows if (cell := row.cells[place]))

    def text(self) -> tuple[list[str], list[list[str]], list[str]]:
        """Header, body and footnotes as plain text, without what is bold elsewhere."""
        from results.tables.layout import laid_out

        layout = laid_out(self)
        return (
            layout.flat_header(),
            [[cell.plain() for cell in line] for line in layout.body],
            layout.notes(),
        )


def build_table(frame: pd.DataFrame, spec: TableSpec, declaration: Declaration) -> Table:
    """A row for each distinct value of the spec's columns, and of those that must be added to average over seeds only;
    what was not pretrained comes last. A column of figures for each stage and value of `across`.

    Raises ValueError for an unknown sweep, where `across` is among the rows, and where a number that the grid says was
    published is not in published.csv; `mixmae.presentation.shown.MixedCell` where a cell would average runs that differ
    in more than their seed and no column tells them apart.
    """
    if spec.across in spec.rows:
        raise ValueError(f"table {spec.name}: {spec.across} is among the rows and across; leave one of them out")
    selected = declaration.selected(spec.stages)
    runs = _runs(shown_runs(frame, declaration, spec.sweeps), selected, declaration.absent(spec.sweeps))
    figures, columns = _figures(runs, selected, spec), table_columns(runs, spec, declaration)
    groups = [group for _, group in cells(runs, columns)]
    if "method" in columns:
        groups.sort(key=lambda group: _rank(group[0].method))
    labels = [tuple(label_of(column, group) for column in columns) for group in groups]
    parts = [[column.of_these(group) for column in figures] for group in groups]
    significant = significance(
        [column.text() for column in figures],
        [", ".join(label.named() for label in line if label.value not in (None, "-")) for line in labels],
        [[_scored(part, column.of.metric) for part, column in zip(line, figures, strict=True)] for line in parts],
    )
    body = tuple(
        Row(label, tuple(_cell(*cell, declaration) for cell in zip(line, figures, bests, strict=True)))
        for label, line, bests in zip(labels, parts, significant.best, strict=True)
    )
    notes = (
        *[spec.note] * bool(spec.note),
        *_notes(runs, declaration.scale, figures, body),
        *_reached(runs),
        *_at_equal_time(frame, declaration, (runs, figures, columns)),
        *significant.notes,
        *_uncounted(runs),
        *computed_on(runs),
    )
    title = f"{scale_words(declaration.scale)}: {spec.title or spec.name}" if declaration.scale else spec.title
    return Table(spec.name, title, declaration.scale, columns, figures, body, notes)


def scale_words(scale: str) -> str:
    """What a scale is called at the beginning of a title."""
    return f"{scale[0].upper()}{scale[1:]} scale"


# ---------------------------------------------------------------------------------------------------- rows and columns


def _runs(started: Sequence[Shown], selected: Sequence[Selected], planned: Sequence[Shown]) -> list[Shown]:
    """The runs under the names that are selected, those that have a folder first."""
    known, names = {run.key for run in started}, {evaluation.name for evaluation in selected}
    return [run for run in (*started, *(run for run in planned if run.key not in known)) if run.name in names]


def _figures(runs: Sequence[Shown], selected: Sequence[Selected], spec: TableSpec) -> tuple[Figures, ...]:
    if spec.across is None:
        return tuple(map(Figures, selected))
    across = canonical(spec.across)
    groups = [(of, cells([run for run in runs if run.name == of.name], [across])) for of in selected]
    return tuple(Figures(of, label_of(across, group)) for of, with_value in groups for _, group in with_value)


def _rank(method: str) -> int:
    return references().index(method) + 1 if method in references() else 0


# ------------------------------------------------------------------------------------------------------------- figures


def _cell(runs: Sequence[Shown], column: Figures, best: bool, declaration: Declaration) -> Cell | None:
    if not runs:
        return None
    metric = column.of.metric
    figures = [run.figures[metric.name] for run in runs if run.done]
    published = _published(runs[0], column.of, declaration)
    return Cell(
        metric,
        n=len(figures),
        mean=fmean(figures) if figures else None,
        std=stdev(figures) if len(figures) > 1 else None,
        published=published,
        differs=differences(runs[0], published) if published and figures else (),
        comparable=published is not None and declaration.scale is None and comparable(runs[0], published),
        best=best,
    )


def _published(run: Shown, of: Selected, declaration: Declaration) -> Published | None:
    """What the grid names for such a run, else what was published of its declared settings."""
    for entry in declaration.expected:
        expected = declaration.select(entry.stage)
        if entry.published and (expected.name, expected.metric) == (of.name, of.metric) and run.meets(entry.where):
            return named_by(entry.published, entry.mean, of.metric)
    return published_for(run, of.metric.name)


def _scored(runs: Sequence[Shown], metric: Metric) -> Scored | None:
    if not runs:
        return None
    seeds = {run.seed: metric.better(run.figures[metric.name]) for run in runs if run.done}
    return Scored(frozenset(run.key[1] for run in runs), seeds, runs[0].method in references())


# --------------------------------------------------------------------------------------------------------------- notes


def _notes(runs: Sequence[Shown], scale: str | None, figures: Sequence[Figures], body: Sequence[Row]) -> list[str]:
    notes = [_of_figures(figures)]
    published = [cell for row in body for cell in row.cells if cell and cell.published]
    if published:
        notes.append(_of_differences(published, scale))
        notes += dict.fromkeys(
            f"The images of {ours} are taken to be those of {theirs}." for ours, theirs in taken_for(runs)
        )
    if scale:
        kept = "optimisation and evaluations are those of the scale"
        changes = "; ".join([*_shrunk(runs), kept])
        notes.append(f"{SCALED} {scale_words(scale)}, at which nothing was published: {changes}.")
    return notes


def _reached(runs: Sequence[Shown]) -> Iterator[str]:
    """Yields what each pretraining cost in percent of its budget, and in how many epochs."""
    several = varying(runs, ["encoder"])
    by_budget: dict[str, dict[str, None]] = {}
    for (budget, *names), group in cells(runs, ["budget", "method", *several]):
        if budget is not None:
            for (epochs, reached), _ in cells(group, ["pretrain_epochs", "budget_reached"]):
                who = " ".join(shown(column, name) for column, name in zip(["method", *several], names, strict=True))
                by_budget.setdefault(budget, {})[f"{who} {reached:g} % ({epochs} epochs)"] = None
    for budget, reached in by_budget.items():
        yield f"Cost reached of {budget}: {', '.join(reached)}."


def _at_equal_time(
    frame: pd.DataFrame, declaration: Declaration, table: tuple[Sequence[Shown], Sequence[Figures], Sequence[str]]
) -> Iterator[str]:
    """Yields whether the ranking holds at other speeds, where there are budgets in hours. table: its runs, its columns
    of figures and those before them."""
    runs, figures, columns = table
    if any(run.value(SLOWER) is not None for run in runs):
        every = shown_runs(frame, declaration)
        lines = [
            of_time(column.of_these(runs), column.of_these(every), columns, (column.text(), column.of.metric))
            for column in figures
        ]
        yield from sentence([line for part in lines for line in part])


def _of_figures(figures: Sequence[Figures]) -> str:
    """What the figures are, where they are of several kinds each with its evaluations."""
    metrics: dict[str, list[str]] = {}
    for column in figures:
        metric = column.of.metric
        text = f"{metric.label} in {metric.unit}" if metric.unit else metric.label
        text += "" if metric.higher_is_better else ", lower is better"
        metrics.setdefault(text, []).append(column.of.stage)
    with_stages = [f"{text} ({', '.join(dict.fromkeys(stages))})" for text, stages in metrics.items()]
    what = "; ".join(with_stages if len(with_stages) > 1 else metrics) or "figures"
    return f"{what[0].upper()}{what[1:]}, mean ± std (n - 1) over n seeds."


def _of_differences(published: Sequence[Cell], scale: str | None) -> str:
    comparable = [cell.comparable for cell in published]
    if scale:
        return "No differences are given: the published numbers are of the full scale."
    if not any(comparable):
        return "No differences are given: the published numbers are of other data."
    otherwise = "" if all(comparable) else "; none is given where that is of other data"
    units = " or ".join(dict.fromkeys(cell.metric.difference_unit for cell in published))
    return f"Differences are ours minus the published number, in {units}{otherwise}."


def _shrunk(runs: Sequence[Shown]) -> Iterable[str]:
    """Yields the values that a scale has changed, column by column: what was run for what was declared."""
    for column in ALIASES:
        pairs: dict[tuple, list[Shown]] = {}
        for _, group in cells(runs, [column]):
            for run in group:
                pairs.setdefault((run.value(column), run.was(column)), []).append(run)
        labels = [label_of(column, group) for group in pairs.values()]
        changed = ", ".join(dict.fromkeys(label.text() for label in labels if label.ran))
        if changed:
            yield named(column, changed)


def _uncounted(runs: Sequence[Shown]) -> list[str]:
    notes, states = [], {run.key: run.state for run in runs if run.state not in ("done", NO_RUN)}
    for state in sorted(set(states.values())):
        notes.append(f"Not counted, {state}: {_listed([key for key, other in states.items() if other == state])}.")
    absent = sorted({run.key for run in runs if run.state == NO_RUN})
    if absent:
        notes.append(f"Not counted, not launched or not readable: {_listed(absent)}.")
    return notes


def _listed(runs: Sequence[Key]) -> str:
    text = ", ".join("/".join(run) for run in runs[:NAMED])
    return f"{text} and {len(runs) - NAMED} more" if len(runs) > NAMED else text
