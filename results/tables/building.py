"""A grid's runs as a table: rows and columns as the grid declares them, figures as they were measured (no torch)."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from statistics import fmean, stdev
from typing import Any

import pandas as pd

from mixmae.experiment.metric import Metric
from mixmae.fields.identity import Key
from mixmae.fields.texts import many
from mixmae.presentation.checks import table_columns
from mixmae.presentation.columns import ALIASES, SCORED, canonical, named, of_pretraining, shown
from mixmae.presentation.comparisons import Compared, compared_rows
from mixmae.presentation.declaration import Declaration, Selected, TableSpec
from mixmae.presentation.row import references
from mixmae.presentation.shown import NO_RUN, BySetting, Shown, by_setting, cells, varying
from results.published import Published, comparable, differences, named_by, published_for, taken_for
from results.rows.machines import computed_on
from results.rows.shown import all_runs, shown_runs
from results.tables.comparing import Compares, Comparing, compare
from results.tables.controls import Beside, standing, standings
from results.tables.convergence import Lengths, lengths_of, note, unconverged
from results.tables.equal_time import SLOWER, of_time, sentence
from results.tables.families import Families, over_all_families
from results.tables.significance import Scored, significance
from results.tables.table import SCALED, Cell, Figures, Row, Standing, Table, label_of
from results.tables.twins import OF_TWINS, of_no_setting, twins_of

MEMORY = "Memory is the most that torch had allocated in a step of pretraining, as mixmae bench grid counts it."
UNTUNED = (
    "A budget changes the length of pretraining alone: in every arm rates and batch are those of the grid, "
    "not tuned anew for that length."
)
Parts = Sequence[Sequence[Sequence[Shown]]]
"""Runs by row and column of figures."""
NAMED = 8
"""Runs that a note names; more are counted."""
NAMED_COLUMNS = 2
"""Columns of a reference by which the heading of its differences names it; one of more is named below the table."""


def build_table(frame: pd.DataFrame, spec: TableSpec, declaration: Declaration) -> Table:
    """A row for each distinct value of the spec's columns, and of those that must be added to average over seeds only;
    what was not pretrained comes last, below a rule. A column of figures for each stage and value of `across`. Where
    the spec says what is compared, so are the rows, and nothing else is tested; a summary has a row a setting.

    Raises ValueError for an unknown sweep, where `across` is among the rows, and where a number that the grid says was
    published is not in published.csv; `mixmae.presentation.shown.MixedCell` where a cell would average runs that differ
    in more than their seed and no column tells them apart.
    """
    if spec.across in spec.rows:
        raise ValueError(f"table {spec.name}: {spec.across} is among the rows and across; leave one of them out")
    selected = declaration.selected(spec.stages, spec.sweeps)
    runs = all_runs(frame, declaration, spec.sweeps, {evaluation.name for evaluation in selected})
    figures, columns = _figures(runs, selected, spec), table_columns(runs, spec, declaration)
    groups = [group for _, group in cells(runs, columns)]
    groups.sort(key=_rank)
    labels = [tuple(label_of(column, group) for column in columns) for group in groups]
    parts = [[column.of_these(group) for column in figures] for group in groups]
    title = f"{scale_words(declaration.scale)}: {spec.title or spec.name}" if declaration.scale else spec.title
    table = Table(spec.name, title, declaration.scale, columns, figures, (), (spec.note,) if spec.note else ())
    costs = (*_of_splits(runs, figures), *_reached(runs), *_at_equal_time(frame, declaration, (runs, figures, columns)))
    if spec.summary:
        return _summary(table, over_all_families(spec.summary, figures, columns, groups, parts), runs, costs)
    body = tuple(
        Row(
            label, tuple(_cell(*cell, declaration) for cell in zip(line, figures, strict=True)), standings=standings(of)
        )
        for label, line, of in zip(labels, parts, groups, strict=True)
    )
    if spec.lengths and not declaration.scale:
        longer = all_runs(frame, declaration, spec.lengths, {one.name for one in declaration.selected()})
        table, body = _with_lengths(table, body, parts, lengths_of(longer))
    if spec.twins:
        table, body = _with_twins(
            table, body, parts, by_setting(shown_runs(frame, declaration, spec.twins), of_no_setting)
        )
    names = [", ".join(label.named() for label in line if label.value not in (None, "-")) for line in labels]
    beside = Beside(columns, names, figures, parts)
    table = replace(table, rows=body, notes=(*table.notes, *beside.notes()))
    if compared := compared_rows(spec, columns, [group[0] for group in groups]):
        asked = Compares(spec, compared, figures, names, parts, _minus(spec, compared, groups))
        return _comparing(table, asked, compare(asked, declaration), runs, costs)
    scored = [[_scored(part, column.of.metric) for part, column in zip(line, figures, strict=True)] for line in parts]
    significant = significance([column.text() for column in figures], names, scored)
    notes = (_of_figures(figures), *_of_published(table, runs), *_of_scale(table, runs), *costs)
    return replace(
        table,
        rows=tuple(_changed(row, "best", bests) for row, bests in zip(body, significant.best, strict=True)),
        notes=(*table.notes, *notes, *significant.notes, *_uncounted(runs), *computed_on(runs)),
    )


def _comparing(table: Table, asked: Compares, found: Comparing, runs: Sequence[Shown], costs: Sequence[str]) -> Table:
    """The table with its rows compared: below it a few sentences, all else folded away."""
    notes = (_of_figures(table.figures), *found.notes, *_of_scale(table, runs), *costs, *_counted_out(runs))
    return replace(
        table,
        rows=tuple(_changed(row, "compared", line) for row, line in zip(table.rows, found.differences, strict=True)),
        notes=(*table.notes, *notes),
        folded=(*found.folded, *_of_published(table, runs), *_uncounted(runs), *computed_on(runs)),
        minus=asked.minus if len(asked.spec.reference) <= NAMED_COLUMNS else "the reference",
    )


def _summary(table: Table, found: Families, runs: Sequence[Shown], costs: Sequence[str]) -> Table:
    table = replace(table, columns=(found.column,), rows=found.rows, minus=found.minus, estimates=found.estimates)
    notes = (_of_figures(table.figures), *found.notes, *_of_scale(table, runs), *costs, *_counted_out(runs))
    return replace(table, notes=(*table.notes, *notes), folded=(*found.folded, *_uncounted(runs), *computed_on(runs)))


def _with_lengths(table: Table, body: Sequence[Row], parts: Parts, lengths: Lengths) -> tuple[Table, tuple[Row, ...]]:
    """The table with how lengths were judged, and its rows with what is said of each cell."""
    metrics = [column.of.metric for column in table.figures]
    said = [[unconverged(part, lengths, metric) for part, metric in zip(line, metrics, strict=True)] for line in parts]
    told = note([mark for line in said for mark in line if mark is not None])
    marks = [[mark or "" for mark in line] for line in said]
    rows = tuple(_changed(row, "unconverged", line) for row, line in zip(body, marks, strict=True))
    return replace(table, notes=(*table.notes, *told)), rows


def _with_twins(table: Table, body: Sequence[Row], parts: Parts, others: BySetting) -> tuple[Table, tuple[Row, ...]]:
    """The table with what twins are, and its rows with those of each cell."""
    metrics = [column.of.metric for column in table.figures]
    found = [[twins_of(part, others, metric) for part, metric in zip(line, metrics, strict=True)] for line in parts]
    rows = tuple(_changed(row, "twins", line) for row, line in zip(body, found, strict=True))
    told = (OF_TWINS,) if any(one for line in found for one in line) else ()
    return replace(table, notes=(*table.notes, *told)), rows


def _changed(row: Row, field: str, values: Sequence[Any]) -> Row:
    """The row with a field of each of its cells set."""
    pairs = zip(row.cells, values, strict=True)
    return replace(row, cells=tuple(cell and replace(cell, **{field: value}) for cell, value in pairs))


def _minus(spec: TableSpec, compared: Compared, groups: Sequence[Sequence[Shown]]) -> str:
    """What the row is called that others are compared with, by the columns that say which it is."""
    said = spec.primary.of if spec.primary else spec.reference
    place = next(place for place in compared.references if place is not None)
    return ", ".join(label_of(canonical(column), groups[place]).named() for column in said)


def scale_words(scale: str) -> str:
    """What a scale is called at the beginning of a title."""
    return f"{scale[0].upper()}{scale[1:]} scale"


# ---------------------------------------------------------------------------------------------------- rows and columns


def _figures(runs: Sequence[Shown], selected: Sequence[Selected], spec: TableSpec) -> tuple[Figures, ...]:
    if spec.across is None:
        return tuple(map(Figures, selected))
    across = canonical(spec.across)
    groups = [(of, cells([run for run in runs if run.name == of.name], [across])) for of in selected]
    return tuple(
        Figures(of, label_of(across, group))
        for of, with_value in groups
        for _, group in with_value
        if not _everywhere(across, group, with_value)
    )


def _everywhere(across: str, runs: Sequence[Shown], all_of_them: Sequence[Any]) -> bool:
    """Whether runs that no method pretrained stand in the columns of those that one did, and need none of their own."""
    return of_pretraining(across) and len(all_of_them) > 1 and all(run.method in references() for run in runs)


def _rank(runs: Sequence[Shown]) -> tuple[bool, bool, int]:
    """Puts rows of methods first, then upper references, then controls."""
    below = standings(runs)
    return below != (), below != () and Standing.UPPER not in below, references().index(runs[0].method) if below else 0


# ------------------------------------------------------------------------------------------------------------- figures


def _cell(runs: Sequence[Shown], column: Figures, declaration: Declaration) -> Cell | None:
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
    )


def _published(run: Shown, of: Selected, declaration: Declaration) -> Published | None:
    """What the grid names for such a run, else what was published of its declared settings."""
    for entry in declaration.expected:
        expected = declaration.select(entry.stage)
        if entry.published and (expected.name, expected.metric) == (of.name, of.metric) and run.meets(entry.where):
            return named_by(entry.published, entry.mean, of.metric)
    return published_for(run, of.metric.name)


def _scored(runs: Sequence[Shown], metric: Metric) -> Scored | None:
    if not runs or standing(runs[0]) is Standing.UPPER:
        return None
    seeds = {run.seed: metric.better(run.figures[metric.name]) for run in runs if run.done}
    return Scored(frozenset(run.key[1] for run in runs), seeds, runs[0].method in references())


# --------------------------------------------------------------------------------------------------------------- notes


def _of_published(table: Table, runs: Sequence[Shown]) -> list[str]:
    """What is to be known of the published numbers, where there are any."""
    published = [cell for row in table.rows for cell in row.cells if cell and cell.published]
    if not published:
        return []
    images = (f"The images of {ours} are taken to be those of {theirs}." for ours, theirs in taken_for(runs))
    return [_of_differences(published, table.scale), *dict.fromkeys(images)]


def _of_scale(table: Table, runs: Sequence[Shown]) -> list[str]:
    if not table.scale:
        return []
    changes = "; ".join([*_shrunk(runs), "optimisation and evaluations are those of the scale"])
    return [f"{SCALED} {scale_words(table.scale)}, at which nothing was published: {changes}."]


def _reached(runs: Sequence[Shown]) -> Iterator[str]:
    """Yields what each pretraining cost in percent of its budget, in how many epochs, and what memory its steps take
    where that is known; and what a budget does not change."""
    several = varying(runs, ["encoder"])
    by_budget: dict[str, dict[str, None]] = {}
    for (budget, *names), group in cells(runs, ["budget", "method", *several]):
        if budget is not None:
            for (epochs, reached, memory), _ in cells(group, ["pretrain_epochs", "budget_reached", "budget_memory"]):
                who = " ".join(shown(column, name) for column, name in zip(["method", *several], names, strict=True))
                takes = "" if memory is None else f", {shown('budget_memory', memory)} a step"
                by_budget.setdefault(budget, {})[f"{who} {reached:g} % ({many(epochs, 'epoch')}{takes})"] = None
    for budget, reached in by_budget.items():
        yield f"Cost reached of {budget}: {', '.join(reached)}."
    if any(run.value("budget_memory") is not None for run in runs):
        yield MEMORY
    if by_budget:
        yield UNTUNED


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


def _of_splits(runs: Sequence[Shown], figures: Sequence[Figures]) -> Iterator[str]:
    """Yields which figures are of other images than those of val."""
    for column in figures:
        splits = {run.value(SCORED) for run in column.of_these(runs)} - {None, "val"}
        for split in sorted(splits):
            yield f"{column.text()}: on the images set aside as {split}, not on val."


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


def _counted_out(runs: Sequence[Shown]) -> list[str]:
    """How many runs are not counted, and why; which they are is `_uncounted`."""
    states = Counter({run.key: run.state for run in runs if run.state != "done"}.values())
    known = {"not launched or not readable" if state == NO_RUN else state: states[state] for state in sorted(states)}
    return [f"Not counted: {', '.join(f'{count} {state}' for state, count in known.items())}."] if known else []


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
