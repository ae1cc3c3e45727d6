"""Tests over few seeds, against scipy's formulas written out, Holm's worked example, simulation, and laws that hold."""

from itertools import product
from math import comb, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import stdtr
from scipy.stats import mannwhitneyu, ttest_rel

from results.statistics import (
    ALPHA,
    POWER,
    best_of,
    holm,
    interquartile_mean,
    mcnemar,
    over_families,
    paired,
    probability_of_improvement,
    smallest_detectable,
    welch,
)


def seeds(*figures):
    return dict(enumerate(figures))


# ------------------------------------------------------------------------------------------------------------- tests


def test_a_paired_t_test_is_that_of_the_differences():
    """Differences 1, 2, 3, 6: mean 3, std sqrt(14 / 3), t = 3 / (std / 2)."""
    found = paired({0: 11.0, 1: 12.0, 2: 13.0, 3: 16.0, 9: 99.0}, {3: 10.0, 2: 10.0, 1: 10.0, 0: 10.0, 8: 1.0})
    assert (found.pairs, found.difference) == (4, 3.0)
    assert found.spread == pytest.approx(sqrt(14 / 3))
    assert found.p == pytest.approx(2 * stdtr(3, -3 / (sqrt(14 / 3) / 2)))


def test_welchs_test_is_the_textbooks():
    """Means 2 and 7, variances 1 and 4, n 3 and 3: t = 5 / sqrt(5 / 3), degrees (5 / 3)^2 / ((1 / 9 + 16 / 9) / 2)."""
    degrees = (5 / 3) ** 2 / ((1 / 9 + 16 / 9) / 2)
    assert welch([1.0, 2.0, 3.0], [5.0, 7.0, 9.0]) == pytest.approx(2 * stdtr(degrees, -5 / sqrt(5 / 3)))


def test_the_interval_is_that_of_the_differences_and_the_correlation_that_of_the_figures():
    first, second = np.random.default_rng(1).normal(80, 2, (2, 6))
    found = paired(seeds(*first), seeds(*second))
    interval = ttest_rel(first, second).confidence_interval(0.95)
    assert (found.difference - found.half, found.difference + found.half) == pytest.approx(
        (interval.low, interval.high)
    )
    assert found.correlation == pytest.approx(np.corrcoef(first, second)[0, 1])


def test_there_is_no_correlation_of_two_pairs_or_of_what_does_not_vary():
    assert paired(seeds(1.0, 2.0), seeds(0.0, 0.5)).correlation is None
    assert paired(seeds(1.0, 2.0, 4.0), seeds(5.0, 5.0, 5.0)).correlation is None
    assert paired(seeds(1.0, 2.0, 4.0), seeds(6.0, 7.0, 9.0)).correlation == pytest.approx(1)


def test_no_test_below_three_or_without_variation():
    assert paired(seeds(1.0, 2.0), seeds(0.0, 0.5)).p is None
    assert paired(seeds(1.0, 2.0, 3.0), {7: 1.0}).pairs == 0
    constant = paired(seeds(91.2, 90.4, 88.8), seeds(90.1, 89.3, 87.7))
    assert (constant.p, constant.pairs, constant.difference) == (None, 3, pytest.approx(1.1))
    assert paired(seeds(1.0, 1.0, 1.0), seeds(1.0, 1.0, 1.0)).p is None
    assert welch([1.0, 2.0], [5.0, 7.0, 9.0]) is None
    assert welch([1.0, 1.0, 1.0], [2.0, 2.0, 2.0]) is None


def test_holm_by_hand():
    """Sorted .005, .01, .03, .04 times 4, 3, 2, 1: .02, .03, .06, .04, and the last is not below the one before."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02] and holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_what_stepping_down_rejects(ps):
    order = sorted(range(len(ps)), key=lambda place: ps[place])
    rejected = set()
    for rank, place in enumerate(order):
        if (len(ps) - rank) * ps[place] > ALPHA:
            break
        rejected.add(place)
    assert {place for place, p in enumerate(holm(ps)) if p <= ALPHA} == rejected


@pytest.mark.parametrize(("pairs", "spread", "alpha"), [(3, 1.7, 0.05), (3, 0.4, 0.01), (5, 2.0, 0.05 / 3)])
def test_the_smallest_detectable_difference_is_found_as_often_as_said(pairs, spread, alpha):
    difference = smallest_detectable(pairs, spread, alpha)
    drawn = np.random.default_rng(pairs).normal(difference, spread, (100_000, pairs))
    t = drawn.mean(axis=1) / (drawn.std(axis=1, ddof=1) / sqrt(pairs))
    assert np.mean(2 * stdtr(pairs - 1, -abs(t)) <= alpha) == pytest.approx(POWER, abs=0.005)


def test_the_smallest_detectable_difference_of_many_pairs_is_the_normal_ones():
    """(1.959964 + 0.841621) standard errors."""
    assert smallest_detectable(100_000, 1.0, 0.05) == pytest.approx(2.801585 / sqrt(100_000), rel=1e-3)


@pytest.mark.parametrize("rivals", [1, 10, 100, 1000])
def test_the_smallest_detectable_difference_is_a_number_at_every_level(rivals):
    assert 5 < smallest_detectable(3, sqrt(3), ALPHA / rivals) < 500


# ---------------------------------------------------------------------------------------------------------------- best

CLEAR = [seeds(90.0, 91.1, 92.3), seeds(80.1, 81.0, 82.2), seeds(70.0, 71.3, 72.1)]


def test_the_best_is_above_every_rival_after_correction():
    verdict = best_of(CLEAR)
    assert (verdict.leader, verdict.outcome) == (0, "best")
    low, high = sorted(paired(CLEAR[0], rival).p for rival in CLEAR[1:])
    assert sorted(verdict.corrected.values()) == pytest.approx([2 * low, max(high, 2 * low)])
    assert verdict.detectable() == [
        smallest_detectable(3, comparison.spread, ALPHA / 2) for comparison in verdict.comparisons.values()
    ]


def test_a_rival_that_is_significant_alone_may_not_be_among_many():
    """Differences 4, 5, 6.6 have p = 0.021: below 0.05, above 0.05 / 3."""
    close, rivals = seeds(84.0, 85.0, 86.6), [seeds(80.0, 80.0, 80.0)] * 3
    assert paired(close, rivals[0]).p == pytest.approx(0.0213, abs=1e-3)
    assert best_of([close, rivals[0]]).outcome == "best"
    assert best_of([close, *rivals]).outcome == "not significant"


@pytest.mark.parametrize(
    ("column", "untested", "said"),
    [
        ([seeds(90.0, 91.0, 92.0), seeds(80.0, 81.5)], (), "too few pairs"),
        ([seeds(90.0, 91.0, 92.0), {}], (), "too few pairs"),
        ([seeds(90.0, 91.0, 92.0), {5: 80.0, 6: 81.0, 7: 82.0}], (), "too few pairs"),
        ([seeds(90.0, 91.0, 92.0), seeds(80.0, 81.0, 82.0)], (), "constant"),
        ([seeds(90.0, 91.0, 92.0), seeds(92.0, 91.0, 90.0)], (), "tied"),
        ([seeds(90.0), seeds(90.0), seeds(80.0)], (), "too few pairs"),
        ([seeds(90.0, 91.0, 92.0)] * 2, (), "tied"),
        ([seeds(90.0, 95.0, 92.0), seeds(91.0, 89.0, 93.0)], (), "not significant"),
        ([seeds(90.0, 91.1, 92.0), seeds(95.0)], (1,), "untested"),
        ([seeds(90.0, 91.1, 92.0), seeds(80.0)], (1,), "no rival"),
        ([seeds(90.0, 91.1, 92.0)], (), "no rival"),
        ([{}, {}], (), "no rival"),
        ([], (), "no rival"),
    ],
)
def test_nothing_is_claimed_without_ground(column, untested, said):
    assert best_of(column, untested).outcome == said


def test_a_lower_mean_over_the_matched_seeds_is_no_ground():
    """The leader's mean is made by seeds that the rival has not."""
    leader = {0: 80.0, 1: 80.2, 2: 80.1, 3: 99.0, 4: 99.0, 5: 99.0, 6: 99.0}
    verdict = best_of([leader, {0: 85.0, 1: 85.3, 2: 85.2}])
    assert verdict.leader == 0 and verdict.corrected[1] < ALPHA and verdict.outcome == "not significant"


ROWS = st.builds(
    lambda level, figures: {seed: level + figure / 40 for seed, figure in figures.items()},
    st.sampled_from([0, 20, 40, 60]),
    st.dictionaries(st.integers(0, 4), st.integers(0, 200), min_size=3, max_size=5),
)
"""Often far apart, so that there is a best."""
COLUMNS = st.lists(ROWS, min_size=2, max_size=4)


def best(column):
    verdict = best_of(column)
    return verdict.leader if verdict.outcome == "best" else None


@settings(max_examples=40)
@given(COLUMNS, st.randoms(use_true_random=False))
def test_the_order_of_rows_and_seeds_changes_nothing(column, random):
    order = list(range(len(column)))
    random.shuffle(order)
    shuffled = [dict(random.sample(list(column[place].items()), len(column[place]))) for place in order]
    found = best(shuffled)
    assert (None if found is None else order[found]) == best(column)


@settings(max_examples=40)
@given(COLUMNS, st.integers(-40, 40))
def test_a_constant_added_to_all_changes_nothing(column, shift):
    moved = [{seed: figure + shift for seed, figure in row.items()} for row in column]
    assert best(moved) == best(column)


@settings(max_examples=40)
@given(COLUMNS)
def test_the_best_has_the_highest_mean_and_every_single_test_agrees(column):
    found = best(column)
    if found is not None:
        means = [sum(row.values()) / len(row) for row in column]
        assert means[found] == max(means)
        rivals = [paired(column[found], row) for place, row in enumerate(column) if place != found]
        assert all(rival.p <= ALPHA and rival.difference > 0 for rival in rivals)


# ------------------------------------------------------------------------------------------------------------ families


def test_each_seed_is_averaged_over_the_families_that_all_have_it():
    found = over_families({"swin": {0: 80.0, 1: 82.0, 2: 90.0}, "pvt": {1: 70.0, 0: 60.0, 7: 1.0}})
    assert found == {0: 70.0, 1: 76.0}
    assert over_families({}) == {} and over_families({"swin": {0: 1.0}, "pvt": {1: 1.0}}) == {}


def test_an_averaged_difference_is_the_mean_of_the_families_differences():
    """Differences of (1, 2, 6) and (3, 4, 2) by seed: (2, 3, 4), mean 3, half an interval 4.3027 / sqrt(3)."""
    first = {"swin": seeds(81.0, 82.0, 86.0), "pvt": seeds(63.0, 64.0, 62.0)}
    second = {"swin": seeds(80.0, 80.0, 80.0), "pvt": seeds(60.0, 60.0, 60.0)}
    found = paired(over_families(first), over_families(second))
    assert (found.pairs, found.difference) == (3, pytest.approx(3))
    assert found.half == pytest.approx(4.302653 / sqrt(3), rel=1e-6)


SWIN, PVT = [[80.0, 70.0], [82.0, 71.0], [90.0, 75.0]], [[60.0, 50.0], [61.0, 52.0], [63.0, 40.0]]
OTHER = {"swin": [[81.0, 70.0], [79.0, 69.0], [88.0, 76.0]], "pvt": [[55.0, 51.0], [62.0, 45.0], [61.0, 40.0]]}
BOTH = {"swin": SWIN, "pvt": PVT}


def naive_middle(scores):
    """The mean of what is left when a quarter, rounded down, is left out at either end."""
    ordered, out = sorted(scores), len(scores) // 4
    return sum(ordered[out : len(ordered) - out]) / (len(ordered) - 2 * out)


def resampled(rows):
    """Every way to draw as many rows with replacement, each as likely."""
    return [[rows[place] for place in places] for places in product(range(len(rows)), repeat=len(rows))]


def test_the_interquartile_mean_is_the_mean_of_the_middle_half():
    scores = [score for rows in (SWIN, PVT) for row in rows for score in row]
    assert interquartile_mean(BOTH).value == pytest.approx(naive_middle(scores))


def test_its_interval_is_that_of_every_way_to_draw_pretrainings_with_their_evaluations():
    """27 ways a family. Drawn evaluation by evaluation, or across families, the spread would be another."""
    everything = [
        naive_middle([score for row in (*ours, *theirs) for score in row])
        for ours, theirs in product(resampled(SWIN), resampled(PVT))
    ]
    found = interquartile_mean(BOTH)
    exact = np.quantile(everything, [0.025, 0.975], method="inverted_cdf")
    assert (found.low, found.high) == pytest.approx(tuple(exact), abs=0.3)
    alone = [[[score] for row in rows for score in row] for rows in (SWIN, PVT)]
    assert abs(interquartile_mean({"swin": alone[0], "pvt": alone[1]}).low - found.low) > 1


def naive_probability(first, second):
    """Counted pair by pair, task by task."""
    tasks = []
    for family, rows in first.items():
        for task in range(len(rows[0])):
            pairs = [(one[task], other[task]) for one in rows for other in second[family]]
            tasks.append(sum((one > other) + (one == other) / 2 for one, other in pairs) / len(pairs))
    return sum(tasks) / len(tasks)


def test_the_probability_of_improvement_is_scipys_mann_whitney_statistic_over_tasks():
    tasks = [
        mannwhitneyu([row[task] for row in BOTH[family]], [row[task] for row in OTHER[family]]).statistic / 9
        for family in BOTH
        for task in (0, 1)
    ]
    found = probability_of_improvement(BOTH, OTHER)
    assert found.value == pytest.approx(np.mean(tasks)) == pytest.approx(naive_probability(BOTH, OTHER))
    assert found.low <= found.value <= found.high
    assert probability_of_improvement(OTHER, BOTH).value == pytest.approx(1 - found.value)


def test_its_interval_is_that_of_every_way_to_draw_both_methods_pretrainings():
    first, second = {"swin": SWIN}, {"swin": OTHER["swin"]}
    everything = [
        naive_probability({"swin": ours}, {"swin": theirs})
        for ours, theirs in product(resampled(SWIN), resampled(OTHER["swin"]))
    ]
    found = probability_of_improvement(first, second)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(everything, [0.025, 0.975])), abs=0.06)


def test_families_may_have_other_numbers_of_pretrainings():
    first, second = {"swin": SWIN[:2], "pvt": PVT}, {"swin": OTHER["swin"], "pvt": OTHER["pvt"][:1]}
    assert probability_of_improvement(first, second).value == pytest.approx(naive_probability(first, second))


def test_who_always_wins_wins_for_certain_and_the_same_figures_are_repeated():
    better = {"swin": [[score + 50 for score in row] for row in SWIN]}
    found = probability_of_improvement(better, {"swin": SWIN})
    assert (found.value, found.low, found.high) == pytest.approx((1, 1, 1))
    assert probability_of_improvement(BOTH, OTHER) == probability_of_improvement(BOTH, OTHER)
    assert interquartile_mean(BOTH) == interquartile_mean(BOTH)


# -------------------------------------------------------------------------------------------------------- single models


@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemars_exact_test_is_the_binomials_tails(first, second):
    """Both tails of a fair coin, thrown once for each case that the two decide differently."""
    cases = first + second
    tail = sum(comb(cases, heads) for heads in range(min(first, second) + 1)) / 2**cases
    assert mcnemar(first, second) == pytest.approx(min(1.0, 2 * tail))
