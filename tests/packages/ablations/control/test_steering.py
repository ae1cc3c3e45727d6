"""Runs of a grid chosen by filters, cancelled and queued again, with a launcher at work and without."""

import subprocess

import pytest

from ablations.control.steering import ChosenRuns, cancel_grid, retry_failed
from ablations.plan.queueing import create_run
from support.launches import GRID, Launch, ended, until

MANY = """\
base: digits_nano
set: {evaluations: {finetune: null, linear: null}}
sweeps:
  - {name: a, product: {method: [{name: mixmae}, {name: simmim}], encoder: [swin_nano, pvt_nano], seed: [0, 1]}}
"""


@pytest.fixture
def grid(tmp_path):
    found = Launch(tmp_path, epochs=300, seeds=[0, 1])
    yield found
    found.end()


@pytest.fixture
def many(grid):
    """Sixteen runs, none launched."""
    grid.file.write_text(MANY)
    return grid


def chosen_of(plan, **words) -> set[tuple]:
    return {(e.planned.stage, e.method, e.encoder, e.planned.job.seed) for e in ChosenRuns(**words).of(plan)}


@pytest.mark.parametrize(
    ("words", "count"),
    [
        ({}, 16),
        ({"stage": "knn"}, 8),
        ({"method": "simmim"}, 8),
        ({"encoder": "swin_*"}, 8),
        ({"encoder": "*_nano"}, 16),
        ({"seed": 0}, 8),
        ({"stage": "pretrain", "method": "mixmae", "encoder": "pvt_nano", "seed": 1}, 1),
    ],
)
def test_filters_are_combined_with_and(many, words, count):
    found = chosen_of(many.plan, **words)
    assert len(found) == count
    for place, name in enumerate(("stage", "method", "seed")):
        place = 3 if name == "seed" else place
        assert name not in words or {one[place] for one in found} == {words[name]}


@pytest.mark.slow
def test_a_filter_that_nothing_has_is_bad_input(many):
    code, out, err = many.finish("grid", "cancel", "tiny.yaml", "--method", "mae", "--seed", "7")
    assert (code, out) == (2, "")
    has = "it has stages knn, pretrain; methods mixmae, simmim; encoders pvt_nano, swin_nano; seeds 0, 1"
    assert err == f"no run of tiny has --method mae --seed 7; {has}\n"
    assert {state for _, _, state in many.states()} == {"planned"}


@pytest.mark.slow
def test_some_are_cancelled_and_some_queued_again(many):
    plan = many.plan
    done = cancel_grid(plan, ChosenRuns(stage="pretrain", encoder="pvt*", seed=0))
    assert (done.runs, done.tasks, done.still) == (2, 0, 0)
    found = many.states()
    assert found.count(("pretrain", 0, "cancelled")) == 2 and found.count(("knn", 0, "blocked")) == 2
    for entry in plan.entries:
        if entry.planned.stage == "pretrain" and entry.planned.job.seed == 1:
            create_run(plan.root, entry.planned)
            entry.run.write("launch", {"tries": 1, "cancelled": False})
            entry.run.write("state", {"state": "failed", "reason": "broken", "tries": 1})
    code, out, _ = many.finish("grid", "retry", "tiny.yaml", "--failed", "--method", "simmim")
    assert (code, out) == (
        0,
        "2 failed runs queued, 1 cancelled run would start anyway; start them with: mixmae grid run tiny.yaml\n",
    )
    found = many.states()
    assert found.count(("pretrain", 1, "failed")) == 2 and found.count(("pretrain", 1, "pending")) == 2
    assert retry_failed(plan, ChosenRuns(seed=0)) == (0, 2)


@pytest.mark.slow
def test_cancelling_one_running_job_leaves_the_other_running(grid):
    text = GRID.replace("knn: {subset: {labels_per_class: 20}}", "knn: null")
    grid.file.write_text(text.replace("EPOCHS", "30").replace("SEEDS", "[0, 1]"))
    running = grid.start("grid", "run", "tiny.yaml")
    until(lambda: [state for _, _, state in grid.states()] == ["running"] * 2)
    until(lambda: len(grid.workers()) == 2)
    code, out, _ = grid.finish("grid", "cancel", "tiny.yaml", "--seed", "0")
    assert (code, out) == (0, "1 job cancelled\n")
    assert grid.states() == [("pretrain", 0, "cancelled"), ("pretrain", 1, "running")]
    code, _, err = ended(running)
    assert code == 0, err
    assert grid.states() == [("pretrain", 0, "cancelled"), ("pretrain", 1, "done")]


@pytest.mark.slow
def test_a_cancel_waits_for_a_launch_on_slurm_to_end(many):
    """Which would submit anew what is being cancelled."""
    from ablations.plan.launched import grid_folder
    from mixmae.runs import scheduler
    from mixmae.runs.lease import take

    lease = take(grid_folder(many.plan.root, "tiny"), scheduler.listed)
    waiting = many.start("grid", "cancel", "tiny.yaml", "--seed", "0")
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(3)
    assert {state for _, _, state in many.states()} == {"planned"}
    lease.release()
    assert ended(waiting)[:2] == (0, "8 jobs cancelled\n")
