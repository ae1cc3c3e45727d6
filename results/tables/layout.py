"""A table as text: its header, its body with the marks of footnotes, and the footnotes (no torch)."""

from dataclasses import dataclass, field, replace
from string import ascii_lowercase

from mixmae.presentation.columns import MISSING, label
from results.statistics import Estimate
from results.tables.table import SCALED, Cell, Difference, Label, Row, Table

_MINUS = "\N{MINUS SIGN}"
_OURS = "ours"
_TWINS = "± of twins"
DECIDED = "*"
"""What a difference that decides is marked with."""


@dataclass(frozen=True)
class ShownCell:
    """A cell as text. sort: what it is sorted by, "" where there is nothing. marks: of footnotes, SCALED or DECIDED."""

    text: str
    sort: float | str = ""
    figure: bool = False
    bold: bool = False
    marks: tuple[str, ...] = ()

    def plain(self) -> str:
        """The text with its marks in brackets."""
        return " ".join([self.text, *(mark if mark in (SCALED, DECIDED) else f"[{mark}]" for mark in self.marks)])


@dataclass(frozen=True)
class Head:
    """A heading over the columns from `start`, before `end`; a leaf stands over its one column alone."""

    text: str
    start: int
    end: int
    leaf: bool


@dataclass(frozen=True)
class TableLayout:
    """A table as text. header: the headings of each column from the outermost one in. labels: how many columns hold
    labels. general: notes on the whole table. folded: those that are shown when they are asked for. settings: what
    differs from a published setting, or is to be said of a training's length, by letter. sources: numbered from 1,
    where numbers were published."""

    header: list[tuple[str, ...]]
    labels: int
    body: list[list[ShownCell]]
    general: tuple[str, ...]
    settings: dict[str, str]
    sources: list[str]
    folded: tuple[str, ...] = ()
    above: int | None = None
    """Rows above a rule; None where there is none."""

    def flat_header(self) -> list[str]:
        """The headings in one line. A column of our figures is called as the evaluation."""
        return [", ".join(part for part in path if part != _OURS) for path in self.header]

    def levels(self) -> list[list[Head]]:
        """The headings line by line; one that stands over nothing else reaches from its line down to the body."""
        return [_level(self.header, depth) for depth in range(max(map(len, self.header)))]

    def notes(self) -> list[str]:
        """All notes, with the marks that refer to them."""
        lettered = [f"[{letter}] {text}" for letter, text in self.settings.items()]
        numbered = [f"[{number}] {text}" for number, text in enumerate(self.sources, 1)]
        return [*self.general, *self.folded, *lettered, *numbered]


def laid_out(table: Table) -> TableLayout:
    """Lays a table out: for each column of figures ours, then, where some row has them, the deviation of twins, the
    difference to the row that it is compared with, the published number and the difference to that; then the
    estimates."""
    header: list[tuple[str, ...]] = [(label(column),) for column in table.columns]
    for place, figures in enumerate(table.figures):
        path = figures.path()
        further = [_TWINS] * table.has_twins(place) + [f"minus {table.minus}"] * table.has_compared(place)
        further += ["published"] * table.has_published(place) + ["difference"] * table.has_difference(place)
        header += [(*path, what) for what in (_OURS, *further)] if further else [path]
    header += [(estimated.heading,) for estimated in table.estimates]
    notes = _Footnotes()
    body = [_line(table, row, notes) for row in table.rows]
    settings = {letter: text for text, letter in notes.letters.items()}
    above = table.above if 0 < table.above < len(body) else None
    numbered = list(notes.numbers)
    return TableLayout(header, len(table.columns), body, table.notes, settings, numbered, table.folded, above)


def _level(header: list[tuple[str, ...]], depth: int) -> list[Head]:
    heads: list[Head] = []
    before = None
    for place, path in enumerate(header):
        if len(path) <= depth:
            before = None
        elif len(path) > depth + 1 and path[: depth + 1] == before:
            heads[-1] = replace(heads[-1], end=place + 1)
        else:
            heads.append(Head(path[depth], place, place + 1, leaf=len(path) == depth + 1))
            before = path[: depth + 1]
    return heads


@dataclass
class _Footnotes:
    """Footnotes, numbered and lettered in the order in which they are first referred to."""

    numbers: dict[str, str] = field(default_factory=dict)
    letters: dict[str, str] = field(default_factory=dict)

    def source(self, text: str) -> str:
        return self.numbers.setdefault(text, str(len(self.numbers) + 1))

    def setting(self, text: str) -> str:
        return self.letters.setdefault(text, _letter(len(self.letters)))


def _letter(place: int) -> str:
    """a … z, aa, ab …"""
    before = _letter(place // 26 - 1) if place >= 26 else ""
    return before + ascii_lowercase[place % 26]


def _line(table: Table, row: Row, notes: _Footnotes) -> list[ShownCell]:
    line = [ShownCell(label.text(), _sorted(label)) for label in row.labels]
    if row.standings:
        place = table.columns.index("method") if "method" in table.columns else 0
        line[place] = replace(line[place], text=f"{line[place].text} ({', '.join(row.standings)})")
    for place, cell in enumerate(row.cells):
        other = (notes.setting("; ".join(cell.differs)),) if cell and cell.differs else ()
        short = (notes.setting(cell.unconverged),) if cell and cell.unconverged else ()
        scaled = (SCALED,) if table.scale else ()
        line.append(_ours(cell, scaled + other + short))
        if table.has_twins(place):
            line.append(_twins(cell))
        if table.has_compared(place):
            line.append(_compared(cell, scaled))
        if table.has_published(place):
            line.append(_theirs(cell, notes))
        if table.has_difference(place):
            line.append(_difference(cell, other))
    return line + [_estimate(estimate) for estimate in row.estimates]


def _sorted(label: Label) -> float | str:
    value = label.value
    if value in (None, "-"):
        return ""
    if isinstance(value, tuple):
        value = value[0] if value and isinstance(value[0], int | float) else label.text()
    return label.text() if isinstance(value, str | bool) else float(value)


def _ours(cell: Cell | None, marks: tuple[str, ...]) -> ShownCell:
    if cell is None or cell.mean is None:
        return ShownCell(MISSING, figure=True)
    spread = "" if cell.std is None else f" ± {cell.metric.text(cell.std)}"
    return ShownCell(f"{cell.metric.text(cell.mean)}{spread} (n={cell.n})", cell.mean, True, cell.best, marks)


def _twins(cell: Cell | None) -> ShownCell:
    if cell is None or cell.twins is None:
        return ShownCell(MISSING, figure=True)
    return ShownCell(f"{cell.metric.text(cell.twins.std)} (n={cell.twins.n})", cell.twins.std, True)


def _theirs(cell: Cell | None, notes: _Footnotes) -> ShownCell:
    if cell is None or cell.published is None:
        return ShownCell(MISSING, figure=True)
    published = cell.published
    return ShownCell(f"{published.value:g}", published.value, True, marks=(notes.source(published.cited()),))


def _difference(cell: Cell | None, marks: tuple[str, ...]) -> ShownCell:
    if cell is None or cell.difference is None:
        return ShownCell(MISSING, figure=True)
    return ShownCell(signed(cell.difference, cell.metric.format), round(cell.difference, 6), True, marks=marks)


def _compared(cell: Cell | None, marks: tuple[str, ...]) -> ShownCell:
    if cell is None or cell.compared is None or cell.compared.comparison.difference is None:
        return ShownCell(MISSING, figure=True)
    found, mean = cell.compared, cell.compared.comparison.difference
    decided = (DECIDED,) if found.decided else ()
    return ShownCell(difference_text(found, cell.metric.format), mean, True, found.decided, marks + decided)


def difference_text(found: Difference, form: str) -> str:
    """ "+1.20 [−0.30, +2.70]", or with too few seeds for an interval "+1.20 (n=1)"; "–" where no seed is matched."""
    mean, half = found.comparison.difference, found.comparison.half
    if mean is None:
        return MISSING
    if half is None:
        return f"{signed(mean, form)} (n={found.comparison.pairs})"
    return f"{signed(mean, form)} [{signed(mean - half, form)}, {signed(mean + half, form)}]"


def signed(value: float, form: str) -> str:
    return number(value, f"+{form}")


def number(value: float, form: str) -> str:
    """The value with a minus sign in place of a hyphen."""
    return format(value, form).replace("-", _MINUS)


def _estimate(found: Estimate | None) -> ShownCell:
    if found is None:
        return ShownCell(MISSING, figure=True)
    interval = "" if found.low is None else f" [{found.low:.2f}, {found.high:.2f}]"
    return ShownCell(f"{found.value:.2f}{interval}", found.value, True)
