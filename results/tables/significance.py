"""What may be said of the best of each column of a table (no torch)."""

from collections.abc import Sequence
from dataclasses import dataclass

from mixmae.fields.texts import many
from results.statistics import ALPHA, POWER, Verdict, best_of

_NAMED = 3
"""Rivals that a note names; more are counted."""
_TEST = (
    "Bold: the best of its column, significantly better than each rival there (two-sided paired t-test over matched "
    f"seeds, Holm-corrected in the column, α = {ALPHA:g})."
)
_DETECTABLE = (
    f"Smallest detectable difference: found with {100 * POWER:g} % power at the strictest corrected level, given the "
    "spread of the paired differences."
)
_NO_CLAIM = {
    "too few pairs": "no claim, since fewer than three seeds are matched with some rival",
    "constant": "no claim, since the differences to some rival do not vary",
    "tied": "no claim, since several share the best mean",
}


@dataclass(frozen=True)
class Scored:
    """The runs of a cell: their ids, their figures by seed of those that are done, higher is better, and whether they
    are a reference, which pretrained nothing."""

    ids: frozenset[str]
    seeds: dict[int, float]
    reference: bool


@dataclass(frozen=True)
class Significance:
    """best: by row and column, whether the cell is significantly the best of its column. notes: how that was found."""

    best: list[list[bool]]
    notes: list[str]


@dataclass(frozen=True)
class _Judged:
    """A column: its settings, each the rows that share its runs, and what can be said of them."""

    rows: list[list[int]]
    untested: list[int]
    verdict: Verdict

    @property
    def best(self) -> list[int]:
        leader = self.verdict.leader
        return self.rows[leader] if self.verdict.outcome == "best" and leader is not None else []


def significance(
    columns: Sequence[str], rows: Sequence[str], scored: Sequence[Sequence[Scored | None]]
) -> Significance:
    """columns, rows: their names; scored: by row and column. Rows that share their runs are one rival, references of
    one run are none."""
    judged = [_judged(list(column)) for column in zip(*scored, strict=True)]
    claims: dict[str, list[str]] = {}
    exempt: dict[str, None] = {}
    for name, column in zip(columns, judged, strict=False):  # without rows nothing is judged
        if column.verdict.outcome != "no rival":
            names = [" = ".join(rows[row] for row in same) for same in column.rows]
            claims.setdefault(_claim(column.verdict, names), []).append(name)
            if column.verdict.outcome != "too few pairs":
                exempt |= dict.fromkeys(names[place] for place in column.untested)
    notes = [f"{'; '.join(named)}: {text}." for text, named in claims.items()]
    if notes:
        tested = any(column.verdict.corrected for column in judged)
        notes.insert(0, f"{_TEST} {_DETECTABLE}" if tested else _TEST)
    if exempt:
        notes.append(f"With one run, no rival: {'; '.join(exempt)}.")
    return Significance([[row in column.best for column in judged] for row in range(len(rows))], notes)


def _judged(column: Sequence[Scored | None]) -> _Judged:
    settings: dict[frozenset[str], list[int]] = {}
    for row, cell in enumerate(column):
        if cell is not None:
            settings.setdefault(cell.ids, []).append(row)
    rows = list(settings.values())
    cells = [cell for same in rows if (cell := column[same[0]]) is not None]
    untested = [place for place, cell in enumerate(cells) if cell.reference and len(cell.seeds) == 1]
    return _Judged(rows, untested, best_of([cell.seeds for cell in cells], untested))


def _claim(verdict: Verdict, names: Sequence[str]) -> str:
    """What a note says of a column in which some setting leads."""
    if verdict.outcome in _NO_CLAIM:
        return _NO_CLAIM[verdict.outcome]
    assert verdict.leader is not None  # none leads where means are tied or nothing is finished: no rival
    leader = names[verdict.leader]
    if verdict.outcome == "untested":
        return f"no claim, since {leader}, with one run, is best"
    if verdict.outcome == "best":
        return f"{leader}, corrected p at most {max(verdict.corrected.values()):.2g} ({_power(verdict)})"
    compared = verdict.comparisons
    close = [place for place, p in verdict.corrected.items() if p > ALPHA or not compared[place].is_positive]
    others = f" and {len(close) - _NAMED} more" if len(close) > _NAMED else ""
    named = "; ".join(f"{names[place]} (corrected p = {verdict.corrected[place]:.2g})" for place in close[:_NAMED])
    return f"none, since {leader} is not significantly better than {named}{others} ({_power(verdict)})"


def _power(verdict: Verdict) -> str:
    pairs = _span([compared.pairs for compared in verdict.comparisons.values()], "{:d}")
    rivals = len(verdict.comparisons)
    detectable = _span(verdict.detectable(), "{:.2f}")
    return f"n = {pairs}, {many(rivals, 'rival')}, smallest detectable difference {detectable}"


def _span(numbers: Sequence[float], form: str) -> str:
    least, most = form.format(min(numbers)), form.format(max(numbers))
    return least if least == most else f"{least} to {most}"
