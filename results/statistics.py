"""Comparisons over few seeds: paired and Welch's t-tests, Holm's correction, what a test could have found; means over
families and over all that was measured; McNemar's test of two single models (no torch).

Smallest detectable difference: with n pairs whose differences have the standard deviation s (n - 1), the paired t
statistic of a true difference d follows the noncentral t distribution with n - 1 degrees of freedom and noncentrality c
= d √n / s. A two-sided test at level α rejects where |t| > q, the 1 - α/2 quantile of the central t, so its power is
P(t > q | c) + P(t < -q | c). d = c s / √n, at the c whose power is 0.8.

Interquartile mean and probability of improvement are those of rliable (Agarwal et al. 2021, "Deep reinforcement
learning at the edge of the statistical precipice", section 4.3): a task is an evaluation in a family, a run its
pretraining. Their intervals are percentiles of a stratified bootstrap: within each family pretrainings are drawn with
replacement, each with all of its evaluations, and those of two methods independently.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import inf, sqrt
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np

ALPHA = 0.05
CONFIDENCE = 0.95
"""The level of confidence intervals."""
POWER = 0.8
FEWEST = 3
"""Seeds, or matched pairs of them, below which nothing is claimed."""
NOTHING = 1e-6
"""In the unit of a figure: what differs by no more is the same; one image of a million is 1e-4."""

RESAMPLES = 10_000
"""Of a bootstrap."""
TRIMMED = 0.25
"""The share of scores that an interquartile mean leaves out at either end."""

Seeds = Mapping[int, float]
"""A figure by the seed of its run."""
Pretrainings = Mapping[Any, Sequence[Sequence[float]]]
"""By family the scores of pretrainings, higher is better: a row a pretraining, a column an evaluation of it."""


@dataclass(frozen=True)
class Comparison:
    """Two settings compared over the `pairs` seeds they share: the mean of the differences, first minus second, and
    their standard deviation (n - 1). p is None where no test is made: with fewer than FEWEST pairs, or where the
    differences do not vary. correlation: Pearson's, of the two figures over the pairs; None with fewer than FEWEST, or
    where one of them does not vary."""

    pairs: int
    difference: float | None
    spread: float | None
    p: float | None
    correlation: float | None = None

    @property
    def is_positive(self) -> bool:
        """Whether the first is higher on average."""
        return self.difference is not None and self.difference > 0

    @property
    def half(self) -> float | None:
        """Half the t interval of CONFIDENCE around the mean, t · s / √n; None with fewer than FEWEST pairs."""
        from scipy.stats import t

        if self.spread is None or self.pairs < FEWEST:
            return None
        return float(t.ppf((1 + CONFIDENCE) / 2, self.pairs - 1) * self.spread / sqrt(self.pairs))


@dataclass(frozen=True)
class Verdict:
    """What can be said of the best of some settings.

    leader: the index of the setting with the highest mean, None where several share it or nothing is finished.
    outcome: "best" where every rival is significantly worse, else why that is not claimed. comparisons: of the leader
    with each rival, by the rival's index. corrected: their p after Holm's correction (empty unless every pair was
    tested).
    """

    leader: int | None
    outcome: Literal["best", "not significant", "too few pairs", "constant", "tied", "no rival", "untested"]
    comparisons: dict[int, Comparison]
    corrected: dict[int, float]

    def detectable(self) -> list[float]:
        """The smallest difference to each rival that would have been found, at the strictest of Holm's levels."""
        alpha = ALPHA / len(self.comparisons)
        return [
            smallest_detectable(compared.pairs, compared.spread, alpha)
            for compared in self.comparisons.values()
            if compared.spread is not None
        ]


def best_of(column: Sequence[Seeds], untested: Collection[int] = ()) -> Verdict:
    """Whether one of the settings in `column` is significantly the best: highest on average, and above every rival by a
    two-sided paired t-test over matched seeds, Holm-corrected. Those without a finished run are rivals too.

    untested: places of settings that are no rivals; where one of them has the highest mean, nothing is claimed.
    """
    means = [sum(sorted(seeds.values())) / len(seeds) if seeds else -inf for seeds in column]
    highest = max(means, default=-inf)
    leaders = [place for place, mean in enumerate(means) if mean > -inf and highest - mean <= NOTHING]
    if len(leaders) != 1:
        few = any(len(column[place]) < FEWEST for place in leaders)
        return Verdict(None, "no rival" if not leaders else "too few pairs" if few else "tied", {}, {})
    (leader,) = leaders
    if leader in untested:
        return Verdict(leader, "untested", {}, {})
    rivals = [place for place in range(len(column)) if place != leader and place not in untested]
    comparisons = {place: paired(column[leader], column[place]) for place in rivals}
    if not comparisons:
        return Verdict(leader, "no rival", {}, {})
    if any(compared.pairs < FEWEST for compared in comparisons.values()):
        return Verdict(leader, "too few pairs", comparisons, {})
    ps = [compared.p for compared in comparisons.values() if compared.p is not None]
    if len(ps) < len(comparisons):
        return Verdict(leader, "constant", comparisons, {})
    corrected = dict(zip(comparisons, holm(ps), strict=True))
    better = all(corrected[place] <= ALPHA and comparisons[place].is_positive for place in rivals)
    return Verdict(leader, "best" if better else "not significant", comparisons, corrected)


def paired(first: Seeds, second: Seeds) -> Comparison:
    """A two-sided paired t-test over the seeds that both have."""
    from scipy.stats import ttest_rel

    matched = sorted(first.keys() & second.keys())
    differences = [first[seed] - second[seed] for seed in matched]
    if not matched:
        return Comparison(0, None, None, None)
    mean, spread = sum(differences) / len(matched), _spread(differences)
    ours, theirs = [first[seed] for seed in matched], [second[seed] for seed in matched]
    correlation = _correlation(ours, theirs)
    if len(matched) < FEWEST or spread <= NOTHING:
        return Comparison(len(matched), mean, spread, None, correlation)
    return Comparison(len(matched), mean, spread, float(ttest_rel(ours, theirs).pvalue), correlation)


def _correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    from scipy.stats import pearsonr

    if len(first) < FEWEST or min(_spread(first), _spread(second)) <= NOTHING:
        return None
    return float(pearsonr(first, second).statistic)


def welch(first: Collection[float], second: Collection[float]) -> float | None:
    """p of Welch's two-sided t-test; None with fewer than FEWEST figures of either, or where neither varies."""
    from scipy.stats import ttest_ind

    if min(len(first), len(second)) < FEWEST or max(_spread(first), _spread(second)) <= NOTHING:
        return None
    return float(ttest_ind(list(first), list(second), equal_var=False).pvalue)


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's step-down correction: of m p-values the i-th smallest times m - i + 1, at most 1, never below the one
    before."""
    corrected, before = [0.0] * len(ps), 0.0
    for rank, place in enumerate(sorted(range(len(ps)), key=lambda place: ps[place])):
        before = min(1.0, max(before, (len(ps) - rank) * ps[place]))
        corrected[place] = before
    return corrected


def smallest_detectable(pairs: int, spread: float, alpha: float) -> float:
    """The true difference that a two-sided paired t-test at level `alpha` finds with a power of 0.8, where differences
    have the standard deviation `spread`; in its unit."""
    return _noncentrality(pairs - 1, alpha) * spread / sqrt(pairs)


@cache
def _noncentrality(degrees: int, alpha: float) -> float:
    """The noncentrality at which the test has the power POWER."""
    from scipy.optimize import brentq
    from scipy.stats import nct, t

    critical = t.ppf(1 - alpha / 2, degrees)

    def lacking(noncentrality: float) -> float:
        # The lower tail is the mirrored upper one: nct.cdf gives NaN far out.
        return nct.sf(critical, degrees, noncentrality) + nct.sf(critical, degrees, -noncentrality) - POWER

    upper = critical
    while lacking(upper) < 0:
        upper *= 2
    return brentq(lacking, 0, upper)


def _spread(figures: Collection[float]) -> float:
    """Standard deviation (n - 1); 0 for a single figure."""
    if len(figures) < 2:
        return 0.0
    mean = sum(figures) / len(figures)
    return sqrt(sum((figure - mean) ** 2 for figure in figures) / (len(figures) - 1))


# ------------------------------------------------------------------------------------------------------------ families


def over_families(of_family: Mapping[Any, Seeds]) -> Seeds:
    """Each seed's figure averaged over the families, of the seeds that every family has."""
    shared = set.intersection(*(set(seeds) for seeds in of_family.values())) if of_family else set()
    return {seed: sum(seeds[seed] for seeds in of_family.values()) / len(of_family) for seed in sorted(shared)}


@dataclass(frozen=True)
class Estimate:
    """A figure and the CONFIDENCE interval of its bootstrap; None with fewer than FEWEST pretrainings in a family, of
    which too few samples can be drawn."""

    value: float
    low: float | None
    high: float | None


def interquartile_mean(scores: Pretrainings) -> Estimate:
    """The mean of the middle half of all scores."""
    import numpy as np
    from scipy.stats import trim_mean

    families = [np.asarray(rows, dtype=float) for rows in scores.values()]
    generator = np.random.default_rng(0)
    drawn = [rows[_drawn(generator, len(rows))].reshape(RESAMPLES, -1) for rows in families]
    value = trim_mean(np.concatenate([rows.ravel() for rows in families]), TRIMMED)
    return _estimate(value, trim_mean(np.concatenate(drawn, axis=1), TRIMMED, axis=1), [*scores.values()])


def probability_of_improvement(first: Pretrainings, second: Pretrainings) -> Estimate:
    """The probability that a run of the first scores higher than one of the second on the same task, a tie counting one
    half: the mean over tasks of the Mann-Whitney statistic over the number of pairs. Both have the same families."""
    import numpy as np

    generator = np.random.default_rng(0)
    values, drawn, tasks = 0.0, np.zeros(RESAMPLES), 0
    for family, rows in first.items():
        ours, theirs = np.asarray(rows, dtype=float), np.asarray(second[family], dtype=float)
        # (ours, theirs, evaluations): 1 where the first is higher, 1/2 where both are equal.
        wins = (np.sign(ours[:, None] - theirs[None]) + 1) / 2
        of_ours, of_theirs = (_weights(generator, len(side)) for side in (ours, theirs))
        drawn += np.einsum("ri,ijk,rj->r", of_ours, wins, of_theirs, optimize=True)
        values += wins.mean(axis=(0, 1)).sum()
        tasks += wins.shape[2]
    return _estimate(values / tasks, drawn / tasks, [*first.values(), *second.values()])


def _drawn(generator: "np.random.Generator", rows: int) -> "np.ndarray[Any, Any]":
    """(RESAMPLES, rows) places of rows, drawn with replacement."""
    return generator.integers(rows, size=(RESAMPLES, rows))


def _weights(generator: "np.random.Generator", rows: int) -> "np.ndarray[Any, Any]":
    """(RESAMPLES, rows): the share that each row has of what is drawn with replacement."""
    return generator.multinomial(rows, [1 / rows] * rows, size=RESAMPLES) / rows


def _estimate(value: float, drawn: "np.ndarray[Any, Any]", families: Sequence[Collection[Any]]) -> Estimate:
    """families: the pretrainings of each, of which those of `drawn` are."""
    import numpy as np

    if min(map(len, families)) < FEWEST:
        return Estimate(float(value), None, None)
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(float(value), float(low), float(high))


# -------------------------------------------------------------------------------------------------------- single models


def mcnemar(first: int, second: int) -> float:
    """p of McNemar's exact test, two-sided: of the cases that two models decide differently, `first` are right by the
    first alone and `second` by the second alone, which is binomial with 1/2 where both are equally good. 1 where there
    is no such case."""
    from scipy.stats import binomtest

    return float(binomtest(first, first + second).pvalue) if first + second else 1.0
