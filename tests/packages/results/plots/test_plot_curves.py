"""Top-1 against a column or a cost: where points stand, how far their bars reach, and the published numbers beside."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from mixmae.experiment.experiment import Experiment
from mixmae.experiment.jobs import stage_jobs
from mixmae.fields.texts import prefix
from mixmae.presentation.declaration import Expected, PublishedRow, StepHours
from mixmae.presentation.shown import MixedCell
from mixmae.runs.folder import RunFolder
from results.plots.curve.costs import device_labels
from results.plots.curve.spec import CurvePlot
from results.plots.theme import colour
from support.made_runs import FINGERPRINT, PRETRAIN, Made, experiment
from support.plotted import Shown, shown, texts_of

EPOCHS = CurvePlot(name="epochs", x="pretrain_epochs", stages=("linear",))
MACS = EPOCHS.model_copy(update={"x": "pretrain_macs"})
HOURS = EPOCHS.model_copy(update={"x": "pretrain_hours"})
STEP_HOURS = EPOCHS.model_copy(update={"x": "pretrain_step_hours"})


@pytest.fixture
def made(tmp_path):
    made = Made(tmp_path / "runs")
    for seed in range(2):
        for epochs in (5, 10, 20, 80):
            made.add(experiment("mixmae", seed=seed, epochs=epochs), linear=60 + epochs / 4 + seed)
        made.add(experiment("simmim", "pvt_nano", seed), linear=66 + seed)
        made.add(experiment("supervised", seed=seed), finetune=88 + seed, linear=60 + seed)
    return made


def lines_of(ax, marker="o"):
    """The lines whose markers are filled, as lists of points."""
    lines = [line for line in ax.get_lines() if line.get_marker() == marker and line.get_linestyle() != "None"]
    return [np.round(line.get_xydata(), 6).tolist() for line in lines if line.get_markerfacecolor() != "none"]


def hollow_of(figure):
    """Of every panel the hollow points, as (x, y)."""
    return [
        [tuple(map(float, line.get_xydata()[0])) for line in ax.get_lines() if line.get_markerfacecolor() == "none"]
        for ax in figure.axes
    ]


def test_a_curve_shows_means_and_std_over_seeds(made):
    figure = shown(made).draw(EPOCHS)
    (ax,) = figure.axes
    assert [[5, 61.75], [10, 63.0], [20, 65.5], [80, 80.5]] in lines_of(ax)
    (bars,) = [bars for bars in ax.containers if len(bars.lines[2][0].get_segments()) == 4]
    half = [(top - bottom) / 2 for (_, bottom), (_, top) in bars.lines[2][0].get_segments()]
    np.testing.assert_allclose(half, np.sqrt(0.5))
    assert ax.get_xscale() == "log"
    assert [label.get_text() for label in ax.get_xticklabels()] == ["5", "10", "20", "80"]
    assert "Mean and standard deviation (n - 1) over 2 seeds." in texts_of(figure)


def test_a_single_seed_has_no_bar(tmp_path):
    made = Made(tmp_path)
    for epochs in (5, 10):
        made.add(experiment("mixmae", epochs=epochs), linear=60.0)
    figure = shown(made).draw(EPOCHS)
    assert lines_of(figure.axes[0]) == [[[5, 60], [10, 60]]]
    reach = [line for bars in figure.axes[0].containers for line in bars.lines[2][0].get_segments()]
    assert not np.isfinite([y for line in reach for _, y in line]).any()
    assert "One seed each." in texts_of(figure)


def test_what_was_not_pretrained_is_a_dashed_level(made):
    (ax,) = shown(made).draw(EPOCHS).axes
    (level,) = [line for line in ax.get_lines() if list(line.get_xdata()) == [0.02, 0.98]]
    assert list(level.get_ydata()) == [60.5, 60.5]
    assert level.is_dashed()


def test_lines_differ_without_colour(made):
    legend = shown(made).draw(EPOCHS.model_copy(update={"stages": ("finetune", "linear")})).legends[0]
    looks = [(line.get_marker(), str(line._unscaled_dash_pattern)) for line in legend.get_lines()]
    names = ["MixMAE · swin_nano", "SimMIM · pvt_nano", "from scratch · swin_nano", "random init · swin_nano"]
    assert [text.get_text() for text in legend.get_texts()] == names
    assert len(set(looks)) == len(looks)


def test_labels_of_ticks_that_would_run_into_another_are_left_out(tmp_path):
    made = Made(tmp_path)
    for epochs in (100, 110, 120, 130, 140, 1600):
        made.add(experiment("mixmae", epochs=epochs), linear=60.0)
    (ax,) = shown(made).draw(EPOCHS).axes
    labels = [label.get_text() for label in ax.get_xticklabels()]
    assert labels[-1] == "1600" and "" in labels and len(labels) == 6


def test_sweeps_that_differ_in_more_than_the_seed_are_lines_of_their_own(made):
    for seed in range(2):
        for depth in (2, 4):
            method = {"name": "mixmae", "decoder_depth": depth}
            made.add(experiment(method, seed=seed, epochs=5), sweep="depth", knn=60 + depth)
    spec = EPOCHS.model_copy(update={"sweeps": ("depth",), "stages": ("knn",)})
    texts = [text.get_text() for text in shown(made).draw(spec).legends[0].get_texts()]
    assert texts == ["MixMAE · swin_nano · decoder depth 2", "MixMAE · swin_nano · decoder depth 4"]
    for k in (5, 7):
        made.add(experiment("mixmae", epochs=5, evaluations={"knn": {"k": k}}), sweep="k", knn=50.0)
    spec = EPOCHS.model_copy(update={"sweeps": ("k",), "stages": ("knn",)})
    texts = [text.get_text() for text in shown(made).draw(spec).legends[0].get_texts()]
    assert texts == ["MixMAE · swin_nano · evaluation.k 5", "MixMAE · swin_nano · evaluation.k 7"]


def test_runs_that_nothing_tells_apart_are_not_one_line(made):
    """The images changed between two runs."""
    for run in (RunFolder(made.root, *key) for key in made.members["main"] if key[0] == "linear"):
        if run.read("config")["job"]["seed"]:
            run.write("config", {**run.read("config"), "data_fingerprint": "0" * 16})
    with pytest.raises(MixedCell, match="differ in data_fingerprint"):
        shown(made).draw(EPOCHS)


# ------------------------------------------------------------------------------------------------------------- costs


def test_multiply_adds_are_those_of_the_pretraining_on_a_logarithmic_axis(made):
    (ax,) = shown(made).draw(MACS).axes
    assert [[5, 61.75], [10, 63.0], [20, 65.5], [80, 80.5]] in lines_of(ax)
    assert ax.get_xlabel() == "pretraining (T multiply-adds)" and ax.get_xscale() == "log"
    labels = {label.get_text(): tick for label, tick in zip(ax.get_xticklabels(), ax.get_xticks(), strict=True)}
    assert len(labels) >= 3 and all(float(text) == pytest.approx(tick) for text, tick in labels.items() if text)


def test_settings_of_equal_multiply_adds_are_lines_of_their_own(tmp_path):
    made = Made(tmp_path)
    for ratio in (0.25, 0.75):
        for epochs in (5, 10):
            made.add(experiment({"name": "mixmae", "ratio": ratio}, epochs=epochs), linear=60 + ratio)
    figure = shown(made).draw(MACS)
    assert lines_of(figure.axes[0]) == [[[5, 60.25], [10, 60.25]]]
    assert lines_of(figure.axes[0], "s") == [[[5, 60.75], [10, 60.75]]]


def test_runs_of_unknown_cost_are_left_out_and_counted(made):
    known = shown(made)
    eighty = known.frame[(known.frame["stage"] == "pretrain") & (known.frame["pretrain_epochs"] == 80)]
    known.more["macs"] = {key: macs for key, macs in known.more["macs"].items() if key[1] not in set(eighty["id"])}
    figure = known.draw(MACS)
    assert [[5, 61.75], [10, 63.0], [20, 65.5]] in lines_of(figure.axes[0])
    assert "Left out, of unknown multiply-adds of pretraining: 2 of 12 runs." in " ".join(texts_of(figure))


def test_hours_are_means_over_seeds_and_name_their_device(made):
    runs = shown(made)
    runs.frame["pretrain_hours"] += runs.frame["seed"].astype("float64")
    (ax,) = runs.draw(HOURS).axes
    assert [[1.0, 61.75], [1.5, 63.0], [2.5, 65.5], [8.5, 80.5]] in lines_of(ax)
    assert ax.get_xlabel() == "pretraining (CPU hours)"


def test_lines_follow_the_epochs_where_more_of_them_took_less_time(made):
    runs = shown(made)
    runs.frame.loc[runs.frame["pretrain_epochs"] == 20, "pretrain_hours"] = 0.75
    (ax,) = runs.draw(HOURS).axes
    assert [[0.5, 61.75], [1.0, 63.0], [0.75, 65.5], [8.0, 80.5]] in lines_of(ax)


def test_hours_of_several_devices_are_panels_of_their_own(made):
    runs = shown(made)
    runs.frame["pretrain_device"] = runs.frame["seed"].map({0: "cpu", 1: "NVIDIA H100 80GB HBM3"})
    gpu, cpu = runs.draw(HOURS).axes
    assert (gpu.get_title(), cpu.get_title()) == ("linear · H100", "linear · CPU")
    assert (gpu.get_xlabel(), cpu.get_xlabel()) == ("pretraining (H100 hours)", "pretraining (CPU hours)")
    assert [[0.5, 61.25], [1, 62.5], [2, 65], [8, 80]] in lines_of(cpu)
    assert [[0.5, 62.25], [1, 63.5], [2, 66], [8, 81]] in lines_of(gpu)


def test_hours_of_steps_are_those_of_the_record_whatever_the_processes_took(made):
    runs = shown(made)
    source = "hours are those of steps.json: a CPU, 2026-01-01"
    epochs = {("pretrain", row.id): row.pretrain_epochs for row in runs.frame.itertuples() if row.stage == "pretrain"}
    took = {key: StepHours(of / 20, source) for key, of in epochs.items() if of != 80}
    figure = runs.changed(hours=took).draw(STEP_HOURS)
    (ax,) = figure.axes
    assert [[0.25, 61.75], [0.5, 63.0], [1.0, 65.5]] in lines_of(ax)
    assert ax.get_xlabel() == "pretraining (hours of steps)" and ax.get_xscale() == "log"
    notes = " ".join(texts_of(figure))
    assert f"Of the steps alone; {source}." in notes
    assert "Left out, of unknown hours of pretraining: 2 of 12 runs." in notes
    assert "Hours as they were measured" not in notes


@pytest.mark.parametrize(
    ("smallest", "letter"),
    [(5e7, "G"), (1e9, "G"), (9.99e11, "G"), (1e12, "T"), (3e16, "P"), (2e19, "E"), (9e24, "E"), (float("nan"), "G")],
)
def test_the_unit_of_multiply_adds(smallest, letter):
    assert prefix(smallest, "G")[0] == letter


def test_devices_have_short_names_unless_these_are_alike():
    long = {"NVIDIA A100-SXM4-80GB": "A100", "Tesla V100-SXM2-16GB": "V100", "NVIDIA GeForce RTX 4090": "RTX 4090"}
    assert device_labels(long) == long
    several = "cpu and AMD Instinct MI250X"
    assert device_labels([several, "cpu"]) == {several: "CPU and MI250X", "cpu": "CPU"}
    alike = ["NVIDIA H100 80GB HBM3", "NVIDIA H100 PCIe"]
    assert device_labels(alike) == dict(zip(alike, alike, strict=True))
    assert device_labels(["something new"]) == {"something new": "something new"}


# --------------------------------------------------------------------------------------------------------- published


def at_full_scale(method, encoder, seed=0, epochs=300) -> Experiment:
    fields = {
        "method": method,
        "encoder": encoder,
        "image_size": 224,
        "data": {"name": "image_folder", "path": "/data"},
        "evaluations": {"finetune": {"epochs": 100, "batch": 64, "base_lr": 1e-3}},
        "seed": seed,
    }
    if method != "supervised":
        fields["pretrain"] = {**PRETRAIN, "epochs": epochs}
    return Experiment.model_validate(fields)


RETRAINED = Expected(
    where={"method": "mixmae", "pretrain_epochs": 300},
    top1=84.63,
    published=PublishedRow(
        method="MixMAE", encoder="MixMIM-B (=Swin-B/W14 without shift)", pretrain_epochs="300", resolution=224
    ),
)
FULL = CurvePlot(name="full", stages=("finetune",))


@pytest.fixture
def full(tmp_path) -> Shown:
    made = Made(tmp_path / "full")
    for epochs in (100, 300):
        made.add(at_full_scale("mixmae", "swin_base_w14", epochs=epochs), finetune=83.0)
    made.add(at_full_scale("simmim", "swin_base_w7"), finetune=82.0)
    made.add(at_full_scale("supervised", "twins_svt_large"), finetune=83.0)
    return shown(made, expected=(RETRAINED,))


def test_published_numbers_are_hollow_at_their_own_epochs(full):
    figure = full.draw(FULL)
    (points,) = hollow_of(figure)
    assert sorted(points) == [(1.0, 83.7), (100.0, 83.5), (300.0, 84.63), (600.0, 85.1), (800.0, 84.0)]
    hollow = [line for line in figure.axes[0].get_lines() if line.get_markerfacecolor() == "none"]
    colours = {float(line.get_ydata()[0]): to_rgb(line.get_color()) for line in hollow}
    assert colours[85.1] == colours[84.63] == to_rgb(colour("mixmae"))
    assert colours[84.0] == to_rgb(colour("simmim")) and colours[83.7] == to_rgb(colour("supervised"))
    assert figure.legends[0].get_texts()[-1].get_text() == "published"
    notes = " ".join(texts_of(figure))
    assert "MixMAE 85.1: github.com/Sense-X/MixMIM README.md" in notes
    assert "MixMAE 84.63: github.com/open-mmlab/mmpretrain" in notes


def test_published_numbers_stand_at_multiply_adds_in_proportion_to_their_epochs(full):
    (points,) = hollow_of(full.draw(FULL.model_copy(update={"x": "pretrain_macs"})))
    assert sorted(points) == [(1.0, 83.7), (100.0, 83.5), (300.0, 84.63), (600.0, 85.1), (800.0, 84.0)]


def test_published_numbers_have_no_hours_and_no_place_at_a_scale(full):
    keys = [("pretrain", id) for id in full.frame[full.frame["stage"] == "pretrain"]["id"]]
    timed = full.changed(hours={key: StepHours(2.0, "by a record") for key in keys})
    hours = full.draw(FULL.model_copy(update={"x": "pretrain_hours"}))
    step_hours = timed.draw(FULL.model_copy(update={"x": "pretrain_step_hours"}))
    for figure in (hours, step_hours, full.changed(scale="laptop").draw(FULL)):
        assert hollow_of(figure) == [[]]
        assert not any("published" in text for text in texts_of(figure))


def test_published_numbers_stand_alone_before_anything_is_run(full):
    nothing = Shown(full.frame[:0], full.members, more=full.more)
    figure = nothing.draw(FULL)
    assert hollow_of(figure) == [[(300.0, 84.63)]]
    assert "No finished run." in texts_of(figure)


def test_published_numbers_against_a_column_stand_at_the_run_that_has_it(tmp_path):
    made = Made(tmp_path)
    for ratio in (0.25, 0.5):
        made.add(at_full_scale({"name": "mixmae", "ratio": ratio}, "swin_base_w14"), finetune=83.0)
    runs = shown(made, expected=(RETRAINED.model_copy(update={"where": {"ratio": 0.5}}),))
    assert hollow_of(runs.draw(FULL.model_copy(update={"x": "ratio"}))) == [[(0.5, 84.63)]]


def test_an_expectation_that_is_in_no_published_row_is_an_error(full):
    wrong = RETRAINED.model_copy(update={"published": PublishedRow(**{**dict(RETRAINED.published), "resolution": 1})})
    with pytest.raises(ValueError, match="published.csv has no top-1"):
        full.changed(expected=(wrong,)).draw(FULL)


def test_of_what_was_only_planned_nothing_is_drawn(tmp_path):
    made = Made(tmp_path)
    for planned in stage_jobs(experiment("mixmae"), lambda data: FINGERPRINT):
        made.members.setdefault("main", set()).add((planned.stage, planned.id))
    figure = shown(made).draw(EPOCHS)
    assert not figure.axes[0].get_lines() and "no finished run" in texts_of(figure)
