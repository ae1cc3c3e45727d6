"""Means over families: what a method does whatever the encoder, beside its rivals, without decision (no torch)."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from mixmae.fields.texts import many
from mixmae.presentation.columns import canonical, label, shown
from mixmae.presentation.comparisons import summarised
from mixmae.presentation.declaration import Summary
from mixmae.presentation.shown import Shown
from results.statistics import (
    CONFIDENCE,
    RESAMPLES,
    Pretrainings,
    Seeds,
    interquartile_mean,
    over_families,
    paired,
    probability_of_improvement,
)
from results.tables.comparing import INTERVALS, seeds_of
from results.tables.layout import difference_text, number
from results.tables.table import Cell, Difference, Estimated, Figures, Label, Row, label_of


@dataclass(frozen=True)
class Families:
    """The rows of a table over families. estimates: columns behind its figures. notes: the sentences below it. folded:
    what is behind them."""

    column: str
    rows: tuple[Row, ...]
    minus: str
    estimates: tuple[Estimated, ...]
    notes: list[str]
    folded: list[str]


@dataclass(frozen=True)
class _Setting:
    """A method in every family. parts: by family, then by column, its runs."""

    label: Label
    parts: dict[Any, Sequence[Sequence[Shown]]]

    def seeds(self, column: int, figures: Figures) -> Seeds:
        """Its figure in a column, averaged over families, by seed."""
        return over_families({family: seeds_of(of[column], figures.of.metric) for family, of in self.parts.items()})

    def scores(self, columns: Sequence[int], figures: Sequence[Figures]) -> Pretrainings | None:
        """By family the scores of its pretrainings that have all evaluations; None where a family has no such."""
        scores = {}
        for family, of in self.parts.items():
            by_column = [seeds_of(of[column], figures[column].of.metric) for column in columns]
            complete = sorted(set.intersection(*(set(seeds) for seeds in by_column)))
            metrics = [figures[column].of.metric for column in columns]
            scores[family] = [
                [metric.better(seeds[seed]) for metric, seeds in zip(metrics, by_column, strict=True)]
                for seed in complete
            ]
        return scores if all(scores.values()) else None


def over_all_families(
    summary: Summary,
    figures: Sequence[Figures],
    columns: Sequence[str],
    groups: Sequence[Sequence[Shown]],
    parts: Sequence[Sequence[Sequence[Shown]]],
) -> Families:
    """columns, groups, parts: of a table with a row for each setting and family. Raises NotOneRow."""
    column, over = canonical(summary.column), canonical(summary.over)
    places = summarised(summary, columns, [group[0] for group in groups])
    settings = [
        _Setting(
            label_of(column, groups[next(iter(of.values()))]), {family: parts[place] for family, place in of.items()}
        )
        for of in places
    ]
    families = [shown(over, family) for family in places[0]]
    measured = _with_runs(settings[0], figures)
    minus, alike = settings[0].label.named(), _alike(measured, figures)
    middle = (Estimated("iqm", "interquartile mean"),) if alike else ()
    estimates = (*middle, Estimated("better", f"P({minus} is better)"))
    rows = tuple(_row(setting, settings[0], measured, figures, alike) for setting in settings)
    seeds = f"{many(len(families), label(over))} ({', '.join(families)})"
    notes = [
        f"Each seed's figure is averaged over {seeds}; differences are those to {minus}, paired over seeds, with "
        f"{INTERVALS}. Nothing is decided here."
    ]
    return Families(column, rows, minus, estimates, notes, _explained(rows, figures, minus, alike))


def _with_runs(setting: _Setting, figures: Sequence[Figures]) -> list[int]:
    """The columns in which every family of a setting has runs."""
    return [place for place in range(len(figures)) if all(of[place] for of in setting.parts.values())]


def _alike(measured: Sequence[int], figures: Sequence[Figures]) -> bool:
    """Whether the figures are of one kind, so that a mean over them is one."""
    kinds = {(figures[place].of.metric.unit, figures[place].of.metric.higher_is_better) for place in measured}
    return kinds != set() and len(kinds) == 1 and next(iter(kinds))[1]


def _row(setting: _Setting, first: _Setting, measured: Sequence[int], figures: Sequence[Figures], alike: bool) -> Row:
    cells: list[Cell | None] = []
    for place, column in enumerate(figures):
        if place not in measured:
            cells.append(None)
            continue
        seeds = setting.seeds(place, column)
        values = list(seeds.values())
        compared = None if setting is first else Difference(paired(seeds, first.seeds(place, column)))
        mean, std = fmean(values) if values else None, stdev(values) if len(values) > 1 else None
        cells.append(Cell(column.of.metric, len(values), mean, std, compared=compared))
    own, others = (one.scores(measured, figures) if measured else None for one in (setting, first))
    improved = None if setting is first or not own or not others else probability_of_improvement(others, own)
    middle = interquartile_mean(own) if own else None
    return Row((setting.label,), tuple(cells), (middle, improved) if alike else (improved,))


def _explained(rows: Sequence[Row], figures: Sequence[Figures], minus: str, alike: bool) -> list[str]:
    over = f"over {', '.join(column.text() for column in figures)} in every family"
    middle = f"Interquartile mean: of the middle half of all scores {over}. " if alike else ""
    texts = [
        f"{middle}P({minus} is better): the probability that one of its pretrainings scores higher than one of the "
        f"row's, averaged {over}, a tie counting one half. As rliable defines them (Agarwal et al. 2021), with "
        f"{100 * CONFIDENCE:g} % intervals: percentiles of {RESAMPLES:,} resamples, in each of which as many "
        "pretrainings as there are in a family are drawn from it with replacement, each with all of its evaluations.",
        "r is the correlation of the two averages over the matched seeds.",
    ]
    for row in rows:
        for column, cell in zip(figures, row.cells, strict=True):
            if cell and cell.compared and cell.compared.comparison.half is not None:
                compared = cell.compared.comparison
                r = f", r = {number(compared.correlation, '.2f')}" if compared.correlation is not None else ""
                text = difference_text(cell.compared, cell.metric.format)
                seeds = many(compared.pairs, "seed")
                texts.append(f"{column.text()}: {row.labels[0].named()} minus {minus} {text}, {seeds}{r}.")
    return texts
