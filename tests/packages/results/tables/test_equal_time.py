"""Whether rankings at equal time hold at other ratios of speeds, on constructed curves."""

from math import sqrt
from types import SimpleNamespace

import pytest

from mixmae.presentation.shown import Shown
from results.tables.equal_time import Setting, at, holds, of_time, sentence, verdict

METRIC = SimpleNamespace(name="top1", better=lambda figure: figure)


def setting(name, mean, curve=None, epochs=100.0):
    return Setting(name, mean, epochs, curve or {})


def test_figures_lie_on_lines_over_the_logarithm_of_epochs():
    curve = {10: 50.0, 40: 60.0, 160: 80.0}
    assert at(curve, 40) == 60.0
    assert at(curve, 20) == pytest.approx(55.0)
    assert at(curve, 80) == pytest.approx(70.0)
    assert at({4: 0.0, 9: 1.0}, 6) == pytest.approx(0.5), f"{sqrt(4 * 9)} is half way"
    assert at(curve, 9) is at(curve, 161) is None


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        ({80: 69.0, 100: 70.0, 120: 71.0}, True),
        ({80: 69.0, 100: 70.0, 120: 76.0}, False),
        ({80: 75.0, 100: 70.0, 120: 70.0}, False),
        ({100: 70.0, 120: 71.0}, None),
        ({80: 69.0, 100: 70.0}, None),
    ],
)
def test_who_is_ahead_stays_so_if_the_other_is_faster_or_slower(curve, expected):
    assert holds(setting("a", 73.0), setting("b", 70.0, curve)) is expected


@pytest.mark.parametrize(("low", "expected"), [(71.0, True), (65.0, False)])
def test_where_the_others_lengths_are_missing_ones_own_are_taken(low, expected):
    assert holds(setting("a", 73.0, {80: low, 100: 73.0, 120: 74.0}), setting("b", 70.0)) is expected


def test_a_lead_is_lost_where_less_time_for_who_has_it_turns_it_though_more_for_the_other_does_not():
    """As a short budget comes to the same whole epochs of the other at any speed that was tried."""
    flat, steep = {80: 64.0, 120: 64.8}, {80: 62.0, 100: 64.9, 120: 66.0}
    assert holds(setting("mae", 64.9, steep), setting("mixmae", 64.8, flat)) is False
    assert holds(setting("mae", 64.9, {80: 62.0, 100: 64.9}), setting("mixmae", 64.8)) is False, "seen, if not both"


def test_a_verdict_names_pairs():
    flat = {80: 70.0, 120: 70.0}
    steep = {80: 50.0, 100: 69.0, 120: 90.0}
    assert verdict([setting("b", 70.0, flat), setting("a", 73.0)]) == "holds"
    assert verdict([setting("a", 73.0), setting("c", 69.0, steep)]) == "does not hold for a and c"
    found = verdict([setting("a", 73.0), setting("b", 70.0), setting("c", 69.0, steep)])
    assert found == "does not hold for a and c, b and c; not known of a and b (too few lengths were run)"
    assert verdict([setting("a", 73.0), setting("b", 73.0)]) == "holds", "who shares a place has none to lose"


def run(method, epochs, seed, figure, hours=None, **more):
    row = {"method": method, "encoder.name": "swin_nano", "pretrain.epochs": epochs, "seed": seed, **more}
    row["pretrain.warmup_epochs"] = epochs / 10
    if hours:
        row |= {"pretrain.budget": "1 hour", "pretrain.budget_reached": 99.0}
        row |= {"pretrain.budget_slower": hours[0], "pretrain.budget_faster": hours[1]}
    key = ("knn", f"{method}{epochs}{seed}{sorted(more.items())}")
    return Shown(key, row, "", "done", {"top1": figure}, name="knn", names=("knn",), declared=row)


def test_of_runs_the_means_over_seeds_of_one_setting_count():
    timed = [run("mixmae", 20, seed, 70 + seed, (17, 23)) for seed in (0, 2)]  # mean 71
    timed += [run("mae", 60, seed, 69 + seed, (51, 69)) for seed in (0, 2)]  # mean 70
    lengths = [
        run("mae", epochs, seed, figure + seed) for epochs, figure in ((40, 66.0), (80, 69.2)) for seed in (0, 2)
    ]
    other = [run("mae", 69, 0, 99.0, **{"pretrain.base_lr": 1.0})]
    columns = ("method", "encoder", "pretrain_epochs")
    (line,) = of_time(timed, [*timed, *lengths, *other], columns, ("kNN", METRIC))
    assert line == "kNN at 1 hour (swin_nano): holds"  # MAE at 69 of 60 to 80 epochs: 70 to 70.2
    steeper = [run("mae", 80, 0, 74.0), run("mae", 40, 0, 60.0)]
    (line,) = of_time(timed, [*timed, *steeper], columns, ("kNN", METRIC))
    assert line == "kNN at 1 hour (swin_nano): does not hold for MixMAE and MAE"
    (line,) = of_time(timed, timed, columns, ("kNN", METRIC))
    assert line.endswith("not known of MixMAE and MAE (too few lengths were run)")
    (text,) = sentence([line])
    assert text.startswith("Ranking at equal time if the ratio of two methods' speeds were 15 % lower or higher")


def test_without_hours_or_rivals_nothing_is_said():
    assert of_time([run("mixmae", 20, 0, 70.0), run("mae", 60, 0, 70.0)], [], ("method",), ("kNN", METRIC)) == []
    assert of_time([run("mixmae", 20, 0, 70.0, (17, 23))], [], ("method",), ("kNN", METRIC)) == []
    assert list(sentence([])) == []
