"""Ablations as a forest: paired differences against scipy's own interval, the names of settings, what has no match."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

from results.plots.forest.spec import ForestPlot
from results.statistics import paired
from support.made_runs import Made, experiment
from support.plotted import Shown, shown, texts_of

FOREST = ForestPlot(name="forest", stages=("linear", "knn"), reference={"ratio": 0.5})


@pytest.fixture
def made(tmp_path):
    made = Made(tmp_path / "runs")
    for seed, top1 in enumerate((70.0, 71.0, 73.0)):
        made.add(experiment("mixmae", seed=seed), linear=top1, knn=60.0)
    for seed, top1 in enumerate((69.0, 71.0, 71.0, 99.0)):
        made.add(experiment({"name": "mixmae", "ratio": 0.25}, seed=seed), linear=top1)
    made.add(experiment({"name": "mixmae", "ratio": 0.75}, seed=2), linear=75.0)
    made.add(experiment({"name": "mixmae", "ratio": 0.625}, seed=7), linear=75.0, knn=61.0)
    return made


def intervals_of(ax):
    """By row, from the top: (mean, low, high, hollow)."""
    found = {}
    for container in ax.containers:
        point, _, bars = container.lines
        (mean,), (row,) = point.get_xdata(), point.get_ydata()
        reach = bars[0].get_segments()[0][:, 0] if bars else (None, None)
        found[int(row)] = (float(mean), *reach, point.get_markerfacecolor() == "none")
    return found


def names_of(figure):
    return [label.get_text() for label in figure.axes[0].get_yticklabels()]


def test_a_row_a_setting_with_its_mean_difference_and_interval(made):
    figure = shown(made).draw(FOREST)
    assert sorted(names_of(figure)) == ["ratio 0.25", "ratio 0.625", "ratio 0.75"]
    row = names_of(figure).index("ratio 0.25")
    mean, low, high, hollow = intervals_of(figure.axes[0])[row]
    expected = ttest_1samp([-1.0, 0.0, -2.0], 0).confidence_interval(0.95)
    np.testing.assert_allclose((mean, low, high), (-1.0, expected.low, expected.high))
    assert not hollow
    texts = texts_of(figure)
    assert "\N{MINUS SIGN}1.00" in texts and "+2.00" in texts
    assert "Mean difference over 3 matched seeds, with its 95 % t interval." in texts
    assert "Zero: ratio 0.5." in texts


def test_one_matched_seed_is_hollow_and_none_is_said(made):
    figure = shown(made).draw(FOREST)
    linear, knn = map(intervals_of, figure.axes)
    rows = {name: place for place, name in enumerate(names_of(figure))}
    assert linear[rows["ratio 0.75"]] == (2.0, None, None, True)
    assert rows["ratio 0.625"] not in linear
    said = [[text.get_text() for text in ax.texts if text.get_position()[0] == 0.5] for ax in figure.axes]
    assert said[0] == ["no matched seed"]
    assert sorted(said[1]) == ["no matched seed", "–", "–"] and not knn
    assert "Hollow: fewer than 3 matched seeds, so no interval." in texts_of(figure)


def test_what_is_not_done_is_said(made):
    runs = shown(made)
    runs.frame.loc[runs.frame["ratio"] == 0.75, "state"] = "running"
    (ax, _) = runs.draw(FOREST).axes
    assert "not finished" in [text.get_text() for text in ax.texts]


def test_settings_stand_in_the_order_in_which_they_are_declared(made):
    runs = shown(made)
    declared = runs.declaration.planned
    for reverse in (False, True):
        order = sorted(declared, key=lambda key: declared[key]["method.ratio"], reverse=reverse)
        ordered = Shown(runs.frame.iloc[:0], runs.members, more=runs.more)
        ordered.more["planned"] = {key: declared[key] for key in order}
        names = names_of(ordered.draw(FOREST))
        assert names == sorted(names, reverse=reverse) and len(names) == 3


seeds = st.dictionaries(st.integers(0, 9), st.floats(0, 100), max_size=8)


@given(seeds, seeds)
def test_differences_are_paired_by_seed(ours, reference):
    found = paired(ours, reference)
    shared = [ours[seed] - reference[seed] for seed in sorted(set(ours) & set(reference))]
    if not shared:
        assert (found.pairs, found.difference, found.half) == (0, None, None)
        return
    assert (found.pairs, found.difference) == (len(shared), pytest.approx(sum(shared) / len(shared)))
    if len(shared) < 3:
        assert found.half is None
    elif np.std(shared) > 1e-6:
        low = ttest_1samp(shared, 0).confidence_interval(0.95).low
        assert found.half == pytest.approx(found.difference - low, rel=1e-6)
    else:
        assert found.half == pytest.approx(0, abs=1e-4)


# ------------------------------------------------------------------------------------------------------------- names


def test_another_method_is_named_without_its_own_fields(made):
    made.add(experiment("simmim", "pvt_nano", 0), linear=66.0)
    made.add(experiment("mae", "swin_nano", 0), linear=67.0)
    spec = FOREST.model_copy(update={"reference": {"method": "mixmae", "ratio": 0.5}})
    assert {"SimMIM · pvt_nano", "MAE"} <= set(names_of(shown(made).draw(spec)))
    made.add(experiment({"name": "mae", "ratio": 0.5}, "swin_nano", 0), linear=67.0)
    alike = [name.replace("\n", " ") for name in names_of(shown(made).draw(spec)) if name.startswith("MAE")]
    assert len(alike) == 2 and alike[0].startswith("MAE") and sum("ratio 0.75" in name for name in alike) == 1


def test_at_a_scale_settings_are_told_by_what_is_declared_and_named_by_what_was_run(made):
    """The grid declares depths of 8, 12 and 7, which a scale divides by 4: 2, 3 and again 2."""
    for depth in (2, 3):
        for seed in range(2):
            method = {"name": "mixmae", "decoder_depth": depth}
            made.add(experiment(method, seed=seed), sweep="depth", linear=60.0 + depth + seed, knn=50.0)
    runs = shown(made, scale="laptop")
    cases = {}
    for key in runs.members["depth"]:
        case = runs.declaration.planned[key]
        depths = {2: (8, 7), 3: (12,)}[case["method.decoder_depth"]]
        cases[key] = tuple(("depth", {**case, "method.decoder_depth": depth}) for depth in depths)
    runs.cases = cases
    spec = FOREST.model_copy(update={"sweeps": ("depth",), "reference": {"decoder_depth": 8}})
    figure = runs.draw(spec)
    assert names_of(figure) == ["decoder depth 3"]
    assert intervals_of(figure.axes[0])[0] == (1.0, None, None, True)
    notes = " ".join(texts_of(figure))
    assert "Zero: decoder depth 2." in notes and "the same runs as another setting" in notes


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ({}, "plot forest: a forest needs the setting"),
        ({"ratio": 0.1}, "plot forest: no setting has ratio: 0.1"),
        ({"method": "mixmae"}, "4 settings have method: mixmae; name in reference what tells them apart: ratio"),
    ],
)
def test_the_reference_is_exactly_one_setting(made, reference, message):
    with pytest.raises(ValueError, match=message):
        shown(made).draw(FOREST.model_copy(update={"reference": reference}))


def test_runs_of_a_setting_that_differ_in_more_than_the_seed_are_not_paired(made):
    made.add(experiment("mixmae", evaluations={"knn": {"k": 5}}), knn=50.0)
    with pytest.raises(ValueError, match=r"name in reference what tells them apart: evaluation\.k"):
        shown(made).draw(FOREST)


def test_an_experiment_is_one_setting_though_only_fine_tuning_has_labels(tmp_path):
    made = Made(tmp_path)
    for ratio in (0.5, 0.75):
        made.add(experiment({"name": "mixmae", "ratio": ratio}, labels=10), finetune=70 + ratio, knn=60 + ratio)
    figure = shown(made).draw(FOREST.model_copy(update={"stages": ("finetune", "knn")}))
    assert names_of(figure) == ["ratio 0.75"]
    assert [intervals_of(ax)[0][0] for ax in figure.axes] == [0.25, 0.25]
