"""Pretraining losses: steps that a requeue does not double, running means, and runs that are not done."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixmae.files.records import Damaged
from mixmae.runs.folder import RunFolder
from results.plots.loss.draw import as_counted, running_mean
from results.plots.loss.spec import LossPlot
from support.made_runs import Made, experiment
from support.plotted import shown, texts_of

LOSS = LossPlot(name="loss")


@pytest.fixture
def made(tmp_path):
    made = Made(tmp_path / "runs")
    for seed in range(2):
        made.add(experiment("mixmae", seed=seed, epochs=20), loss=0.5 + 0.2 * seed)
        made.add(experiment("simmim", seed=seed, epochs=10))
    return made


def unfinish(made, seed: int, lines: list[str]) -> RunFolder:
    """Takes the MixMAE pretraining of a seed back to the lines of metrics.jsonl given."""
    pretrain = next(job for job in made.add(experiment("mixmae", seed=seed, epochs=20)) if job.stage == "pretrain")
    run = RunFolder(made.root, "pretrain", pretrain.id)
    run.metrics.write_text("".join(lines))
    (run.path / "result.json").unlink()
    run.write("state", {"state": "stopped", "tries": 1})
    return run


def lines_from(first: int, last: int, loss: float) -> list[str]:
    return [json.dumps({"epoch": epoch, "step": epoch * 22, "loss": loss}) + "\n" for epoch in range(first, last + 1)]


def test_a_panel_a_method_with_the_unit_of_its_loss(made):
    figure = shown(made).draw(LOSS)
    assert [ax.get_title() for ax in figure.axes] == ["MixMAE", "SimMIM"]
    assert [ax.get_ylabel() for ax in figure.axes] == ["loss (squared error)", "loss (L1)"]


def test_losses_are_means_over_seeds_with_std_as_a_band(made):
    ax = shown(made).draw(LOSS).axes[0]
    (line,) = ax.get_lines()
    epochs = np.arange(1, 21)
    np.testing.assert_array_equal(line.get_xdata(), epochs)
    np.testing.assert_allclose(line.get_ydata(), 0.6 + 0.6 / epochs, atol=1e-5)
    (band,) = ax.collections
    reach = band.get_paths()[0].vertices
    at_first = reach[reach[:, 0] == 1][:, 1]
    np.testing.assert_allclose((at_first.max() - at_first.min()) / 2, 0.2 / np.sqrt(2), atol=1e-5)


def test_smoothed_losses_are_drawn_over_the_pale_mean(made):
    figure = shown(made).draw(LOSS.model_copy(update={"smoothing": 0.6}))
    pale, line = figure.axes[0].get_lines()
    raw = 0.6 + 0.6 / np.arange(1, 21)
    np.testing.assert_allclose(pale.get_ydata(), raw, atol=1e-5)
    np.testing.assert_allclose(line.get_ydata(), naive(raw, 0.6), atol=1e-5)
    assert pale.get_alpha() < 0.5 and pale.get_linewidth() < line.get_linewidth()
    assert "Running means, what came before weighs 0.6; pale: unsmoothed." in texts_of(figure)


def naive(values, smoothing: float) -> list[float]:
    mean, found = 0.0, []
    for count, value in enumerate(values, 1):
        mean = smoothing * mean + (1 - smoothing) * value
        found.append(mean / (1 - smoothing**count))
    return found


@given(st.lists(st.floats(-1e6, 1e6), max_size=30), st.floats(0, 0.999))
def test_running_mean_against_the_recurrence(values, smoothing):
    found = running_mean(values, smoothing)
    np.testing.assert_allclose(found, naive(values, smoothing), rtol=1e-6, atol=1e-3)
    if smoothing == 0:
        assert found == values


@given(st.lists(st.integers(1, 12), max_size=5))
def test_after_requeues_every_epoch_counts_once_and_is_the_last_that_was_logged(restarts):
    """A job goes on, and before each restart goes back to a checkpoint: its log is written as it happens."""
    lines, epoch = [], 0
    for tries, back in enumerate([*restarts, 0]):
        for _ in range(7):
            epoch += 1
            lines.append({"epoch": epoch, "tries": tries})
        epoch = max(0, epoch - back)
    kept = as_counted(lines)
    last = {line["epoch"]: line for line in lines if line["epoch"] <= lines[-1]["epoch"]}
    assert [line["epoch"] for line in kept] == list(range(1, lines[-1]["epoch"] + 1))
    assert kept == [last[line["epoch"]] for line in kept]


def test_a_requeued_run_is_drawn_once_to_where_it_is(made):
    lines = [*lines_from(1, 9, 1.0), *lines_from(6, 8, 0.5), '{"epoch": 9, "st']
    unfinish(made, 1, lines)
    figure = shown(made).draw(LOSS)
    done, running = figure.axes[0].get_lines()
    assert len(done.get_xdata()) == 20
    assert list(running.get_xdata()) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert list(running.get_ydata()) == [1.0] * 5 + [0.5] * 3
    assert running.get_markevery() == [-1] and running.get_markerfacecolor() == "none"
    assert "1 of 4 runs not done: thin, each by itself, to a hollow marker." in texts_of(figure)


def test_a_run_that_is_not_done_is_not_averaged(made):
    unfinish(made, 1, lines_from(1, 9, 9.0))
    line = shown(made).draw(LOSS).axes[0].get_lines()[0]
    np.testing.assert_allclose(line.get_ydata(), 0.5 + 0.6 / np.arange(1, 21), atol=1e-5)


def test_metrics_that_are_not_those_of_the_result_are_not_drawn(made):
    runs = shown(made)
    row = runs.frame[runs.frame["stage"] == "pretrain"].iloc[0]
    run = RunFolder(made.root, "pretrain", row["id"])
    run.write("result", {**run.read("result"), "files": {"metrics.jsonl": "0" * 64}})
    with pytest.raises(Damaged):
        runs.draw(LOSS)
