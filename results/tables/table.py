"""A table as figures: what its rows and columns are of, and its cells (no torch)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from mixmae.experiment.metric import Metric
from mixmae.presentation.columns import ALIASES, named, of_pretraining, shown
from mixmae.presentation.declaration import Selected
from mixmae.presentation.row import references
from mixmae.presentation.shown import Shown
from results.published import Published
from results.statistics import ALPHA, Comparison, Estimate

SCALED = "\N{DAGGER}"
"""What every figure of runs at a scale is marked with."""


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
        """The runs whose figures belong into it: of those that no method pretrained in every column across what only
        pretrained runs have."""
        across = self.across
        own = [run for run in runs if run.name == self.of.name]
        if across is None:
            return own
        everywhere = references() if of_pretraining(across.column) else ()
        return [run for run in own if run.value(across.column) == across.value or run.method in everywhere]


@dataclass(frozen=True)
class Difference:
    """A row's figure minus that of the row that it is compared with. corrected: p after Holm's correction, of a
    comparison that decides and was tested."""

    comparison: Comparison
    corrected: float | None = None

    @property
    def decided(self) -> bool:
        return self.corrected is not None and self.corrected <= ALPHA


@dataclass(frozen=True)
class Twins:
    """Runs that differ in the last bit of their initial weights alone: the standard deviation (n - 1) of their figures,
    pooled over seeds, and how many there are."""

    std: float
    n: int


@dataclass(frozen=True)
class Cell:
    """A figure over the `n` seeds that are done; std has n - 1 and is None for one seed.

    differs: of a cell with a mean, what of its setting is another than where `published` comes from. comparable:
    whether a difference to that means something. best: significantly the best of its column. compared: with another
    row, where the table says with which. unconverged: what is to be said of a training that is not known to be long
    enough. twins: their deviation, where the table names some.
    """

    metric: Metric
    n: int = 0
    mean: float | None = None
    std: float | None = None
    published: Published | None = None
    differs: tuple[str, ...] = ()
    comparable: bool = False
    best: bool = False
    compared: Difference | None = None
    unconverged: str = ""
    twins: Twins | None = None

    @property
    def difference(self) -> float | None:
        """Ours minus the published number; None where they do not compare."""
        if not self.comparable or self.mean is None or self.published is None:
            return None
        return self.mean - self.published.value


class Standing(StrEnum):
    """What a run is that no method pretrained: trained with labels before it was evaluated, or not trained before."""

    UPPER = "upper reference"
    CONTROL = "control"


@dataclass(frozen=True)
class Row:
    """A cell for each of the table's figures, None where the grid has no such run; and a value for each of its
    estimates. standings: what its runs are, of a row that stands below the methods'."""

    labels: tuple[Label, ...]
    cells: tuple[Cell | None, ...]
    estimates: tuple[Estimate | None, ...] = ()
    standings: tuple[Standing, ...] = ()

    @property
    def values(self) -> tuple:
        return tuple(label.value for label in self.labels)


@dataclass(frozen=True)
class Estimated:
    """A column of estimates over all that a row was measured by. name: in CSV."""

    name: str
    heading: str


@dataclass(frozen=True)
class Table:
    """columns: what the labels of a row are values of. scale: what all figures were run at, None for full scale; the
    title begins with it then. notes: general ones; those of single cells are made of the cells. folded: notes that are
    shown when they are asked for. minus: what is subtracted where rows are compared. estimates: columns behind those of
    figures."""

    name: str
    title: str
    scale: str | None
    columns: tuple[str, ...]
    figures: tuple[Figures, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    folded: tuple[str, ...] = ()
    minus: str = ""
    estimates: tuple[Estimated, ...] = ()

    @property
    def above(self) -> int:
        """How many rows stand above the rule, below which are those that methods are read against."""
        return sum(not row.standings for row in self.rows)

    def has_published(self, place: int) -> bool:
        """Whether some row has a published number in that column of figures."""
        return any(cell.published for cell in self._column(place))

    def has_difference(self, place: int) -> bool:
        """Whether some row has a published number there that compares with ours."""
        return any(cell.comparable for cell in self._column(place))

    def has_compared(self, place: int) -> bool:
        """Whether some row is compared there with another."""
        return any(cell.compared for cell in self._column(place))

    def has_unconverged(self, place: int) -> bool:
        """Whether some training there is not known to be long enough."""
        return any(cell.unconverged for cell in self._column(place))

    def has_twins(self, place: int) -> bool:
        """Whether some row has twins there."""
        return any(cell.twins for cell in self._column(place))

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
