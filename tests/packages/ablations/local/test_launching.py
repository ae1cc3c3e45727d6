"""Real launches of tiny grids: submitit's processes, real training, real signals."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from support.forked import program
from support.launches import GRID, PATIENCE_S, Launch, ended, until

pytestmark = pytest.mark.slow


@pytest.fixture
def launch(tmp_path):
    """Makes a Launch."""
    made = []

    def make(epochs: int, seeds: list[int]) -> Launch:
        made.append(Launch(tmp_path, epochs, seeds))
        return made[-1]

    yield make
    for one in made:
        one.end()


def test_slots_are_bounded_and_a_failed_run_stops_no_other(launch):
    grid = launch(epochs=2, seeds=[0, 1, 2])
    broken = next(e for e in grid.plan.entries if e.planned.stage == "pretrain" and e.planned.job.seed == 1)
    broken.run.path.mkdir(parents=True)
    broken.run.checkpoints.write_text("a file where a folder belongs")
    running = grid.start_anew("grid", "run", "tiny.yaml")
    most, environment = 0, b""
    while running.poll() is None:
        alive = grid.workers()
        most = max(most, len(alive))
        environment = Path(f"/proc/{alive[0]}/environ").read_bytes() if alive and not environment else environment
        time.sleep(0.2)
    code, out, err = ended(running)
    assert (code, out, most) == (1, "", 2), err
    assert grid.states() == [
        ("knn", 0, "done"),
        ("knn", 1, "blocked"),
        ("knn", 2, "done"),
        ("pretrain", 0, "done"),
        ("pretrain", 1, "failed"),
        ("pretrain", 2, "done"),
    ]
    begun, *lines = err.splitlines()
    assert begun == "6 jobs, 0 done, 2 at once", "a log says what is to be waited for"
    assert len(lines) == 6 and sum("/6 done: " in line for line in lines) == 4
    assert len(list((grid.control / "submitit").glob("*_submitted.pkl"))) == 2
    tracked = [path.parts[-4] for path in grid.plan.root.glob("*/*/tensorboard/*")]
    assert tracked == ["pretrain"] * 3, "each on its worker, and kNN has no epochs"
    variables = environment.split(b"\0")
    assert b"PYTHONSAFEPATH=1" in variables and b"OMP_NUM_THREADS=1" in variables
    assert not [name for name in variables if name.startswith((b"SLURM_", b"PMIX_"))]

    said = "failed before and left so: 1 run; mixmae grid retry queues them again\n"
    said += "nothing to run: 4 of 6 jobs are done\n"
    assert grid.finish("grid", "run", "tiny.yaml") == (0, "", said), "nothing of this command failed"
    assert grid.states().count(("pretrain", 1, "failed")) == 1
    code, out, _ = grid.finish("grid", "logs", broken.planned.id[:10])
    assert code == 0 and "Traceback" in out
    broken.run.checkpoints.unlink()
    assert grid.finish("grid", "retry", "tiny.yaml")[1].startswith("1 failed run queued; ")
    assert ("pretrain", 1, "pending") in grid.states() and ("knn", 1, "waiting") in grid.states()
    code, _, err = grid.finish("grid", "run", "tiny.yaml", "--slots", "1")
    assert code == 0 and err.startswith("6 jobs, 4 done, 1 at once\n1/2 done: ")
    assert {state for _, _, state in grid.states()} == {"done"}
    assert grid.finish("grid", "run", "tiny.yaml") == (0, "", "nothing to run: 6 of 6 jobs are done\n")


def test_ctrl_c_saves_and_a_killed_worker_costs_one_try(launch):
    grid = launch(epochs=300, seeds=[0])
    running = grid.start("grid", "run", "tiny.yaml")
    grid.wait_for_epoch(1)
    os.killpg(running.pid, signal.SIGINT)
    assert ended(running)[0] == 130
    assert grid.workers() == []
    stopped = json.loads(grid.finish("grid", "status", "tiny.yaml", "--json")[1])["jobs"][0]
    assert (stopped["state"], stopped["tries"]) == ("stopped", 1) and 1 <= stopped["epoch"] < 300

    running = grid.start("grid", "run", "tiny.yaml")
    for tries in (2, 3):
        grid.wait_for_epoch(stopped["epoch"], tries)
        (worker,) = grid.workers()
        os.kill(worker, signal.SIGKILL)
        until(lambda gone=worker: grid.workers() not in ([], [gone]) or running.poll() is not None)
    code, _, err = ended(running)
    assert code == 1 and "failed: pretrain " in err and "seed 0: its process died twice" in err
    assert grid.states() == [("knn", 0, "blocked"), ("pretrain", 0, "failed")]


def test_the_second_ctrl_c_kills_and_cancel_reaches_a_launcher_elsewhere(launch):
    grid = launch(epochs=300, seeds=[0])
    running = grid.start("grid", "run", "tiny.yaml")
    grid.wait_for_epoch(1)
    (worker,) = grid.workers()
    os.kill(worker, signal.SIGSTOP)  # it cannot answer the first
    os.killpg(running.pid, signal.SIGINT)
    time.sleep(1)
    assert running.poll() is None
    os.killpg(running.pid, signal.SIGINT)
    assert ended(running)[0] == 130
    until(lambda: grid.workers() == [])
    assert grid.states() == [("knn", 0, "planned"), ("pretrain", 0, "stopped")]

    running = grid.start("grid", "run", "tiny.yaml")
    grid.wait_for_epoch(1)
    until(lambda: grid.workers() != [])
    code, _, err = grid.finish("grid", "run", "tiny.yaml")
    assert (code, err) == (2, "tiny is run by another process; see mixmae grid status, or cancel it first\n")
    assert grid.finish("grid", "cancel", "tiny.yaml")[:2] == (0, "2 jobs cancelled\n")
    assert ended(running)[0] == 75
    assert {state for _, _, state in grid.states()} == {"cancelled"}
    assert grid.workers() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2])
def test_one_experiment_in_this_process_stops_and_goes_on(launch, number):
    grid = launch(epochs=300, seeds=[0])
    text = GRID[: GRID.index("sweeps:")].replace("set:\n", "").replace("\n  ", "\n").replace("EPOCHS", "12")
    (grid.folder / "one.yaml").write_text(text)
    command = ("--root", f"{grid.folder}/runs", "run", f"{grid.folder}/one.yaml")
    running = program(*command)
    until(lambda: list(grid.folder.glob("runs/pretrain/*/metrics.jsonl")) or running.poll() is not None)
    running.send_signal(number)
    _, err = running.communicate(PATIENCE_S)
    assert running.returncode == 75, err
    assert program(*command).wait(PATIENCE_S) == 0
    results = [json.loads(path.read_text()) for path in grid.folder.glob("runs/*/*/result.json")]
    assert len(results) == 2
