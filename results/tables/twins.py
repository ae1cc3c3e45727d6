"""How far a figure moves where nothing but the last bit of the initial weights is another (no torch)."""

from collections.abc import Sequence
from math import sqrt
from statistics import variance

from mixmae.experiment.metric import Metric
from mixmae.presentation.columns import BUDGET
from mixmae.presentation.shown import BySetting, Shown
from results.tables.table import Twins

OF_TWINS = (
    "± of twins: the standard deviation (n - 1) over runs that differ in the last bit of every initial weight alone "
    "(perturb), pooled over seeds."
)


def twins_of(runs: Sequence[Shown], others: BySetting, metric: Metric) -> Twins | None:
    """The twins of a cell of `runs`; None where no seed has two. others: those that are done, by their setting but for
    what is `of_no_setting`."""
    by_seed: dict[int, dict[str, float]] = {}
    for run in others.get(runs[0].setting(of_no_setting), ()) if runs else ():
        by_seed.setdefault(run.seed, {})[run.key[1]] = run.figures[metric.name]
    several = [list(figures.values()) for figures in by_seed.values() if len(figures) > 1]
    if not several:
        return None
    freedom = [len(figures) - 1 for figures in several]
    pooled = sum(variance(figures) * weight for figures, weight in zip(several, freedom, strict=True)) / sum(freedom)
    return Twins(sqrt(pooled), sum(map(len, several)))


def of_no_setting(path: str) -> bool:
    return path in ("seed", "perturb") or path.startswith(BUDGET)
