"""Rows against those that their grid says they are compared with, and what a table says of it (no torch)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mixmae.experiment.metric import TOP1, Metric
from mixmae.fields.texts import many
from mixmae.presentation.columns import canonical, label
from mixmae.presentation.comparisons import Compared
from mixmae.presentation.declaration import Declaration, Primary, TableSpec
from mixmae.presentation.shown import Shown, ids
from results.statistics import ALPHA, CONFIDENCE, FEWEST, POWER, Comparison, Seeds, holm, paired, smallest_detectable
from results.tables.layout import difference_text, number
from results.tables.single_models import Single, told_of_single_models
from results.tables.table import Difference, Figures, label_of

INTERVALS = f"{100 * CONFIDENCE:g} % t intervals"


@dataclass(frozen=True)
class Compares:
    """The cells of a table and how its rows are compared. parts: by row and column the runs of a cell. rows: the names
    of the rows. minus: what is subtracted."""

    spec: TableSpec
    compared: Compared
    figures: Sequence[Figures]
    rows: Sequence[str]
    parts: Sequence[Sequence[Sequence[Shown]]]
    minus: str

    def pair(self, row: int, column: int) -> tuple[Sequence[Shown], Sequence[Shown]] | None:
        """The runs of a cell and of the one that it is compared with; None where there is none, or it has the same
        runs."""
        reference = self.compared.references[row]
        if reference is None:
            return None
        own, other = self.parts[row][column], self.parts[reference][column]
        return (own, other) if own and other and ids(own) != ids(other) else None

    def text(self, row: int, column: int) -> str:
        reference = self.compared.references[row]
        assert reference is not None, "only what is compared is named"
        return f"{self.figures[column].text()}: {self.rows[row]} minus {self.rows[reference]}"


@dataclass(frozen=True)
class Comparing:
    """differences: by row and column. notes: the sentences below the table. folded: what is behind them."""

    differences: list[list[Difference | None]]
    notes: list[str]
    folded: list[str]


def seeds_of(runs: Sequence[Shown], metric: Metric) -> Seeds:
    """The figures of those that are done, by seed."""
    return {run.seed: run.figures[metric.name] for run in runs if run.done}


def compare(asked: Compares, declaration: Declaration) -> Comparing:
    """Every row minus the one that it is compared with, in every column; those that decide after Holm's correction over
    all of them, also over those that cannot be tested yet."""
    found: list[list[Difference | None]] = []
    for row in range(len(asked.rows)):
        pairs = [asked.pair(row, column) for column in range(len(asked.figures))]
        metrics = [figures.of.metric for figures in asked.figures]
        found.append([pair and _difference(*pair, metric) for pair, metric in zip(pairs, metrics, strict=True)])
    decide = _deciding(asked, found, declaration)
    ps = [found[row][column].comparison.p for row, column in decide]  # type: ignore[union-attr]
    for (row, column), p, corrected in zip(decide, ps, holm([1.0 if p is None else p for p in ps]), strict=True):
        difference = found[row][column]
        if difference is not None and p is not None:
            found[row][column] = replace(difference, corrected=corrected)
    one_seed = [place for place in decide if 0 < _comparison(found, place).pairs < FEWEST]
    told = told_of_single_models([_single(asked, place) for place in one_seed], asked.parts) if one_seed else None
    intervals = any(one is not None and one.comparison.half is not None for line in found for one in line)
    notes = [_said(asked, found, decide), *(told.notes if told else ())]
    lines = [*(_explained(decide) if intervals else ()), *_lines(asked, found, decide)]
    return Comparing(found, notes, [*lines, *(told.folded if told else ())])


def _difference(own: Sequence[Shown], other: Sequence[Shown], metric: Metric) -> Difference:
    return Difference(paired(seeds_of(own, metric), seeds_of(other, metric)))


def _deciding(
    asked: Compares, found: Sequence[Sequence[Difference | None]], declaration: Declaration
) -> list[tuple[int, int]]:
    """The rows and columns of the comparisons that decide."""
    if asked.spec.primary is None:
        return []
    figure = declaration.select(asked.spec.primary.evaluation).figure
    columns = [place for place, column in enumerate(asked.figures) if column.of.figure == figure]
    rows = sorted(asked.compared.primary)
    return [(row, column) for row in rows for column in columns if found[row][column] is not None]


def _comparison(found: Sequence[Sequence[Difference | None]], place: tuple[int, int]) -> Comparison:
    difference = found[place[0]][place[1]]
    assert difference is not None
    return difference.comparison


def _single(asked: Compares, place: tuple[int, int]) -> Single:
    row, column = place
    pair = asked.pair(row, column)
    assert pair is not None
    return Single(asked.text(row, column), column, *pair, counted=asked.figures[column].of.metric == TOP1)


# ------------------------------------------------------------------------------------------------------------ sentences


def _said(asked: Compares, found: Sequence[Sequence[Difference | None]], decide: Sequence[tuple[int, int]]) -> str:
    within = _within(asked.spec.within)
    what = f"Differences are a row's figure minus that of {asked.minus}{within}, paired over seeds, with {INTERVALS}"
    if asked.spec.primary is None:
        return f"{what}; none of them decides anything."
    stars = [found[row][column] for row, column in decide]
    decided = sum(difference is not None and difference.decided for difference in stars)
    primary = f"{_declared(asked.spec.primary, asked)}, {many(len(decide), 'comparison')}"
    tested = [_comparison(found, place) for place in decide if _comparison(found, place).p is not None]
    kept = f"bold with a star where p ≤ {ALPHA:g} after Holm's correction over those: {decided} of {len(decide)}"
    untested = len(decide) - len(tested)
    sentences = [f"Declared in the grid as what decides: {primary}.", f"{what}; {kept}. All others are secondary."]
    if tested:
        found_with = f"{_detectable(tested, len(decide))}{_unit(asked, decide)} with {100 * POWER:g} % power"
        sentences.append(f"It could find {found_with}.")
    if untested:
        sentences.append(f"Not tested, with fewer than {FEWEST} matched seeds or no variation: {untested}.")
    return " ".join(sentences)


def _unit(asked: Compares, decide: Sequence[tuple[int, int]]) -> str:
    unit = asked.figures[decide[0][1]].of.metric.difference_unit
    return f" {unit}" if unit else ""


def _declared(primary: Primary, asked: Compares) -> str:
    """ "linear, MixMAE against SimMIM and MAE within each encoder"."""
    runs = [next(run for part in asked.parts[row] for run in part) for row in sorted(asked.compared.primary)]
    names = dict.fromkeys(label_of(canonical(primary.column), [run]).named() for run in runs)
    return f"{primary.evaluation}, {asked.minus} against {' and '.join(names)}{_within(primary.within)}"


def _within(columns: Sequence[str]) -> str:
    return f" within each {' and '.join(map(label, columns))}" if columns else ""


def _detectable(tested: Sequence[Comparison], family: int) -> str:
    differences = [_smallest(compared, family) for compared in tested]
    least, most = (f"{find(differences):.2f}" for find in (min, max))
    return least if least == most else f"{least} to {most}"


def _smallest(compared: Comparison, family: int) -> float:
    assert compared.spread is not None
    return smallest_detectable(compared.pairs, compared.spread, ALPHA / family)


# ------------------------------------------------------------------------------------------------------------- details


def _explained(decide: Sequence[tuple[int, int]]) -> list[str]:
    texts = ["r is the correlation of the two figures over the matched seeds."]
    if decide:
        texts = [
            "Tested: two-sided paired t-test over matched seeds. Holm's correction counts every comparison declared, "
            f"{many(len(decide), 'comparison')}, tested or not. What it could find: the true difference that the test "
            f"finds with {100 * POWER:g} % power at the strictest corrected level, given the spread of the paired "
            f"differences. {texts[0]}"
        ]
    return texts


def _lines(
    asked: Compares, found: Sequence[Sequence[Difference | None]], decide: Sequence[tuple[int, int]]
) -> list[str]:
    """A line a comparison that has an interval: those that decide first."""
    places = [(row, column) for column in range(len(asked.figures)) for row in range(len(asked.rows))]
    ordered = [*decide, *(place for place in places if place not in decide)]
    lines = []
    for row, column in ordered:
        difference = found[row][column]
        if difference is not None and difference.comparison.half is not None:
            text = difference_text(difference, asked.figures[column].of.metric.format)
            family = len(decide) if (row, column) in decide else 0
            lines.append(f"{asked.text(row, column)} {text}{_evidence(difference, family)}.")
    return lines


def _evidence(difference: Difference, family: int) -> str:
    """family: how many comparisons decide, where this is one of them."""
    compared = difference.comparison
    parts = [many(compared.pairs, "seed")]
    parts += [f"r = {number(compared.correlation, '.2f')}"] if compared.correlation is not None else []
    if difference.corrected is not None and compared.p is not None:
        parts += [f"p = {compared.p:.2g}, corrected {difference.corrected:.2g}"]
        parts += [f"could find {_smallest(compared, family):.2f}"]
    return "".join(f", {part}" for part in parts)
