"""Whether trainings are long enough, on constructed curves."""

import json
from dataclasses import replace

import pytest

from mixmae.experiment.metric import LOSS, TOP1
from mixmae.presentation.declaration import TableSpec
from mixmae.presentation.shown import Shown
from results.rows.collect import collect
from results.tables import build_table, html, latex, markdown
from results.tables.convergence import Doubling, last_doubling, lengths_of, note, unconverged
from results.tables.forms import numeric
from support.made_runs import FINETUNE, Made, declared, experiment


@pytest.mark.parametrize(
    ("curve", "epochs", "expected"),
    [
        ({50: {7: 60.0, 8: 62.0}, 100: {7: 63.0, 8: 64.0}, 200: {7: 70.0}}, 50, Doubling(100, 2.5, 2)),
        ({50: {7: 60.0, 8: 62.0}, 100: {7: 63.0, 9: 64.0}}, 50, Doubling(100, 3.0, 1)),  # seeds that have both
        ({50: {7: 60.0}, 100: {7: 63.0}, 200: {7: 63.1}}, 100, Doubling(200, pytest.approx(0.1), 1)),
        ({100: {7: 63.0}, 200: {7: 62.0}}, 200, Doubling(200, -1.0, 1)),  # the longest: what led to it
        ({100: {7: 63.0}, 200: {8: 62.0}}, 100, None),
        ({25: {7: 1.0}}, 25, None),
        ({}, 50, None),
    ],
)
def test_the_last_doubling_is_over_seeds_that_have_both(curve, epochs, expected):
    assert last_doubling(curve, epochs) == expected


def run(epochs, seed, figure, measure="val", **more):
    row = {"method": "mae", "encoder.name": "swin_nano", "seed": seed, "evaluation.epochs": epochs}
    row |= {"evaluation.warmup_epochs": epochs and epochs / 10, "evaluation.measure": measure, **more}
    state, figures = ("no run", {}) if figure is None else ("done", {"top1": figure})
    return Shown(("finetune", json.dumps(row)), row, "", state, figures, name="finetune", declared=row)


def lengths(*means, **more):
    """Three seeds, for 50, 100 … epochs."""
    return [
        run(50 * 2**place, seed, mean and mean + seed % 3, "tuning", **more)
        for place, mean in enumerate(means)
        for seed in (100, 101, 102)
    ]


def judged(runs, others, metric):
    return unconverged(runs, lengths_of(others), metric)


CELL = [run(50, 0, 70.0, **{"pretrain.budget": "1 hour"}), run(50, 1, 71.0)]


UNKNOWN = "not known to have converged after 50 epochs: no run of this setting has them, and one twice as many"


@pytest.mark.parametrize(
    ("means", "said"),
    [
        ((60.0, 60.49), ""),
        ((60.0, 59.51), ""),
        ((60.0, 60.5), "not converged: 100 in place of 50 epochs change it by +0.50 points (3 seeds)"),
        ((60.0, 58.0), "not converged: 100 in place of 50 epochs change it by -2.00 points (3 seeds)"),
        ((60.0,), UNKNOWN),
        ((60.0, None), UNKNOWN),
    ],
)
def test_a_cell_is_marked_where_twice_its_epochs_change_half_a_point(means, said):
    assert judged(CELL, lengths(*means), TOP1) == said


def test_only_runs_of_the_same_setting_say_so():
    same = lengths(60.0, 60.1)
    other = lengths(60.0, 70.0, **{"evaluation.base_lr": 1.0})
    assert judged(CELL, [*other, *same], TOP1) == ""
    assert judged(CELL, other, TOP1).startswith("not known to have converged after 50 epochs")


def test_the_longest_length_is_not_converged_where_twice_its_epochs_were_not_run():
    said = judged([run(100, 0, 70.0)], lengths(60.0, 60.25), TOP1)
    what = "100 in place of 50 epochs change it by +0.25 points (3 seeds)"
    assert said == f"not known to have converged after 100 epochs: twice as many were not run; {what}"


def test_figures_of_two_splits_are_not_taken_for_one_another():
    on_val = [run(50, seed, 80.0) for seed in (100, 101, 102)]
    assert judged(CELL, [*lengths(60.0, 60.25), *on_val], TOP1) == ""


def test_a_longer_warmup_and_rarer_evaluation_make_no_other_setting():
    other = {"evaluation.evaluate_every": 100, "evaluation.warmup_steps": 7, "evaluation.decay_epochs": 9}
    assert judged(CELL, lengths(60.0, 60.25, **other), TOP1) == ""


def test_nothing_is_said_of_a_figure_without_points():
    losses = [replace(one, figures={"loss": 1.0}) for one in lengths(60.0, 70.0)]
    assert judged(CELL, losses, LOSS) is None


def test_nothing_is_said_of_what_trains_nothing():
    assert judged([], lengths(60.0, 70.0), TOP1) is None
    assert judged([run(None, 0, 70.0)], lengths(60.0, 70.0), TOP1) is None
    assert judged(CELL, [], TOP1) is None
    assert list(note([])) == []
    (told,) = note(["", "not converged"])
    assert told == (
        "Training is converged where twice its epochs change the mean over seeds run with both by less than 0.5 "
        "points; what is not, or not known to be, is marked."
    )


def of_length(epochs, seed, method="mixmae", **more):
    finetune = {**FINETUNE, "epochs": epochs, "warmup_epochs": epochs / 8, **more}
    return experiment(method, seed=seed, evaluations={"finetune": finetune, "knn": {}}, data=SET_ASIDE)


SET_ASIDE = {"name": "digits", "tuning": 0.2}


@pytest.fixture
def made(tmp_path):
    made = Made(tmp_path / "runs")
    for method, gain in (("mixmae", 0.25), ("supervised", 9.0)):
        for seed in (0, 1):
            made.add(of_length(8, seed, method), finetune=80.0 + seed, knn=50.0)
        for seed in (7, 8):
            made.add(of_length(8, seed, method, measure="tuning"), "lengths", finetune=78.0 + seed)
            made.add(of_length(16, seed, method, measure="tuning"), "lengths", finetune=78.0 + seed + gain)
    return made


def test_a_table_marks_the_cells_and_says_how_they_were_judged(made):
    spec = TableSpec(
        name="methods", sweeps=("main",), rows=("method",), stages=("finetune", "knn"), lengths=("lengths",)
    )
    table = build_table(collect(made.root), spec, declared(made))
    own, scratch = (row.cells[0] for row in table.rows if row.cells[0])
    assert own.unconverged == ""
    assert scratch.unconverged == "not converged: 16 in place of 8 epochs change it by +9.00 points (2 seeds)"
    assert sum(note.startswith("Training is converged where twice its epochs") for note in table.notes) == 1
    for form in (markdown, latex, html):
        assert scratch.unconverged.split(":")[1] in form(table)
    assert "80.50 ± 0.71 (n=2) [a]" in markdown(table)
    assert list(numeric(table)["finetune_unconverged"])[:2] == ["", scratch.unconverged]
    assert "knn_unconverged" not in numeric(table)


def test_a_table_that_names_no_lengths_says_nothing_of_them(made):
    table = build_table(
        collect(made.root), TableSpec(name="methods", sweeps=("main",), rows=("method",)), declared(made)
    )
    assert "onverged" not in markdown(table)
