"""A grid's runs as a table: rows and columns as the grid declares them, figures as they were measured (no torch)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any, get_args

import numpy as np
import pandas as pd

from mixmae.presentation.declaration import Column, Declaration, TableSpec
from results.cells import REFERENCES, STAGE_LABELS, cells, member_ids, separating_columns, shown
from results.declared import NO_RUN, RAN, declared_rows, meets, ran
from results.published import IMAGENET, Published, comparable, differences, named, published_for
from results.tables.significance import Scored, significance

COLUMN_LABELS = {
    "pretrain_epochs": "epochs",
    "masked_attention": "masked attention",
    "mix_embedding": "mix embedding",
    "normalised_target": "normalised target",
    "decoder_depth": "decoder depth",
    "decoder_width": "decoder width",
    "labels_per_class": "labels a class",
    "fraction": "share of labels",
    "image_size": "image size",
}

SPEAKING = ("method", "encoder", "data", "fill", "weights")
"""Columns whose values say what they are."""
SCALED = "\N{DAGGER}"
"""What every figure of runs at a scale is marked with."""
Run = dict[str, Any]
"""A declared row."""
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
        every = was and self.value is None and self.column in ("labels_per_class", "fraction")
        declared = "all" if every else shown(self.column, self.value)
        return f"{was} for {declared}" if was else declared

    def named(self) -> str:
        """The text with what it is a value of, where it does not say it."""
        if self.column in SPEAKING:
            return self.text()
        return f"{COLUMN_LABELS.get(self.column, self.column)} {self.text()}"


@dataclass(frozen=True)
class Figures:
    """A column of figures: a stage, of the runs with one value of the table's `across` where it has that."""

    stage: str
    across: Label | None = None

    def text(self) -> str:
        if self.across is None:
            return STAGE_LABELS[self.stage]
        return f"{STAGE_LABELS[self.stage]}, {self.across.named()}"


@dataclass(frozen=True)
class Cell:
    """Top-1 in percent over the `n` seeds that are done; std has n - 1 and is None for one seed.

    differs: of a cell with a mean, what of its setting is another than where `published` comes from. comparable:
    whether a difference to that means something. best: significantly the best of its column.
    """

    n: int
    mean: float | None
    std: float | None
    published: Published | None = None
    differs: tuple[str, ...] = ()
    comparable: bool = False
    best: bool = False

    @property
    def difference(self) -> float | None:
        """Ours minus the published number, in points; None where they do not compare."""
        return self.mean - self.published.value if self.comparable and self.mean is not None else None


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
        return any(row.cells[place] and row.cells[place].published for row in self.rows)

    def has_difference(self, place: int) -> bool:
        """Whether some of them compares with ours."""
        return any(row.cells[place] and row.cells[place].comparable for row in self.rows)

    def text(self) -> tuple[list[str], list[list[str]], list[str]]:
        """Header, body and footnotes as plain text; what is bold elsewhere is not told."""
        from results.tables.layout import laid_out

        layout = laid_out(self)
        return (
            layout.flat_header(),
            [[entry.plain() for entry in line] for line in layout.body],
            layout.notes(),
        )


def build_table(frame: pd.DataFrame, spec: TableSpec, declaration: Declaration) -> Table:
    """A row for each distinct value of the spec's columns, and of those that must be added to average over seeds only;
    what was not pretrained comes last. A column of figures for each stage and value of `across`.

    Raises ValueError for an unknown sweep, where `across` is among the rows, and where a number that the grid says was
    published is not in published.csv; `results.cells.MixedCell` where a cell would average runs that differ in more
    than their seed and no column tells them apart.
    """
    if spec.across in spec.rows:
        raise ValueError(f"table {spec.name}: {spec.across} is among the rows and across; leave one of them out")
    rows = declared_rows(frame, declaration, spec.sweeps, spec.stages)
    figures, columns = _figures(rows, spec), _columns(rows, spec)
    groups = _groups(rows, columns)
    if "method" in columns:
        groups.sort(key=lambda group: _rank(group[0]["method"]))
    labels = [tuple(label_of(column, group) for column in columns) for group in groups]
    parts = [[_part(group, column) for column in figures] for group in groups]
    found = significance(
        [column.text() for column in figures],
        [", ".join(label.named() for label in line if label.value not in (None, "-")) for line in labels],
        [[_scored(part) for part in line] for line in parts],
    )
    body = tuple(
        Row(label, tuple(_cell(part, declaration, best) for part, best in zip(line, bests, strict=True)))
        for label, line, bests in zip(labels, parts, found.best, strict=True)
    )
    planned = {pair for pair in member_ids(declaration.members, spec.sweeps) if pair[0] in spec.stages}
    notes = (
        *[spec.note] * bool(spec.note),
        *_notes(rows, declaration.scale, body),
        *found.notes,
        *_uncounted(rows, planned),
    )
    title = f"{scale_words(declaration.scale)}: {spec.title or spec.name}" if declaration.scale else spec.title
    return Table(spec.name, title, declaration.scale, columns, figures, body, notes)


def scale_words(scale: str) -> str:
    """What a scale is called at the beginning of a title."""
    return f"{scale[0].upper()}{scale[1:]} scale"


# ---------------------------------------------------------------------------------------------------- rows and columns


def _columns(rows: pd.DataFrame, spec: TableSpec) -> tuple[str, ...]:
    """What the rows of the table are told apart by."""
    keys, within = spec.rows, ["stage", spec.across] if spec.across else ["stage"]
    if "method" not in (*keys, spec.across) and rows["method"].isin(REFERENCES).any():
        keys = ("method", *keys)
    absent = rows["state"] == NO_RUN
    return separating_columns(rows[absent], separating_columns(rows[~absent], keys, within), within)


def _figures(rows: pd.DataFrame, spec: TableSpec) -> tuple[Figures, ...]:
    if spec.across is None:
        return tuple(Figures(stage) for stage in spec.stages)
    groups = [(stage, _groups(rows[rows["stage"] == stage], [spec.across])) for stage in spec.stages]
    return tuple(Figures(stage, label_of(spec.across, group)) for stage, found in groups for group in found)


def _groups(rows: pd.DataFrame, columns: Sequence[str]) -> list[list[Run]]:
    """The runs that agree in the columns, in the order in which they are shown."""
    runs = rows.to_dict("records")
    groups = cells(rows[list(columns)].reset_index(drop=True), columns)
    return [[runs[place] for place in group.index] for _, group in groups]


def label_of(column: str, runs: Sequence[Run]) -> Label:
    """Of declared rows that share the value."""
    declared = _plain(runs[0][column])
    was = dict.fromkeys(_plain(run[RAN + column]) for run in runs)
    return Label(column, declared, () if set(was) == {declared} else tuple(was))


def _part(runs: Sequence[Run], column: Figures) -> list[Run]:
    """The runs of a row that belong into a column of figures."""
    across = column.across
    return [
        run
        for run in runs
        if run["stage"] == column.stage and (across is None or _plain(run[across.column]) == across.value)
    ]


def _plain(value: Any) -> Any:
    """As Python has it; None where there is none."""
    if pd.isna(value):
        return None
    return value.item() if isinstance(value, np.generic) else value


def _rank(method: str) -> int:
    return REFERENCES.index(method) + 1 if method in REFERENCES else 0


# ------------------------------------------------------------------------------------------------------------- figures


def _cell(runs: Sequence[Run], declaration: Declaration, best: bool) -> Cell | None:
    if not runs:
        return None
    top1 = [run["top1"] for run in runs if run["state"] == "done"]
    published = _published(runs[0], declaration)
    return Cell(
        n=len(top1),
        mean=fmean(top1) if top1 else None,
        std=stdev(top1) if len(top1) > 1 else None,
        published=published,
        differs=differences(ran(runs[0]), published) if published and top1 else (),
        comparable=published is not None and declaration.scale is None and comparable(runs[0], published),
        best=best,
    )


def _published(row: Run, declaration: Declaration) -> Published | None:
    """What the grid names for such a run, else what was published of its declared settings."""
    for entry in declaration.expected:
        if entry.published and entry.stage == row["stage"] and meets(row, entry.where):
            return named(entry.published, entry.top1)
    return published_for(row)


def _scored(runs: Sequence[Run]) -> Scored | None:
    if not runs:
        return None
    seeds = {run["seed"]: run["top1"] for run in runs if run["state"] == "done"}
    return Scored(frozenset(run["id"] for run in runs), seeds, runs[0]["method"] in REFERENCES)


# --------------------------------------------------------------------------------------------------------------- notes


def _notes(rows: pd.DataFrame, scale: str | None, body: Sequence[Row]) -> list[str]:
    notes = ["Top-1 accuracy in %, mean ± std (n - 1) over n seeds."]
    published = [cell for row in body for cell in row.cells if cell and cell.published]
    if published:
        notes.append(_of_differences([cell.comparable for cell in published], scale))
    if published and (rows[RAN + "data"] == "image_folder").any():
        notes.append(f"The images of image_folder are taken to be those of {IMAGENET}.")
    if scale:
        kept = "optimisation and evaluations are those of the scale"
        said = "; ".join([*_shrunk(rows), kept])
        notes.append(f"{SCALED} {scale_words(scale)}, at which nothing was published: {said}.")
    return notes


def _of_differences(comparable: Sequence[bool], scale: str | None) -> str:
    if scale:
        return "No differences are given: the published numbers are of the full scale."
    if not any(comparable):
        return "No differences are given: the published numbers are of other data."
    otherwise = "" if all(comparable) else "; none is given where that is of other data"
    return f"Differences are ours minus the published number, in points{otherwise}."


def _shrunk(rows: pd.DataFrame) -> Iterable[str]:
    """What was run for what was declared, by column."""
    for column in get_args(Column):
        labels = [label_of(column, group) for group in _groups(rows[[column, RAN + column]], [column, RAN + column])]
        changed = ", ".join(dict.fromkeys(label.text() for label in labels if label.ran))
        if changed:
            yield changed if column in SPEAKING else f"{COLUMN_LABELS.get(column, column)} {changed}"


def _uncounted(rows: pd.DataFrame, planned: set[tuple[str, str]]) -> list[str]:
    notes = []
    rows = rows[rows["state"] != NO_RUN]
    unfinished = rows[rows["state"] != "done"].drop_duplicates(["stage", "id"])
    for state, runs in unfinished.groupby("state", sort=True):
        notes.append(f"Not counted, {state}: {_listed([(run.stage, run.id) for run in runs.itertuples()])}.")
    absent = sorted(planned - set(zip(rows["stage"], rows["id"], strict=True)))
    if absent:
        notes.append(f"Not counted, not launched or not readable: {_listed(absent)}.")
    return notes


def _listed(runs: Sequence[tuple[str, str]]) -> str:
    named = ", ".join("/".join(run) for run in runs[:NAMED])
    return f"{named} and {len(runs) - NAMED} more" if len(runs) > NAMED else named
