"""Real launches of tiny grids: submitit's processes, real training, real signals."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ablations.grid.file import read_grid
from ablations.local.launching import signal_workers
from ablations.plan.launched import grid_folder
from ablations.plan.plan import Plan, plan, states
from mixmae.runs.locks import is_locked

GRID = """\
base: digits_nano
set:
  encoder: {name: swin_nano, depths: [1, 1, 1]}
  pretrain: {epochs: EPOCHS, warmup_epochs: 0, batch: 26, subset: {labels_per_class: 13}}
  evaluations: {finetune: null, linear: null, knn: {subset: {labels_per_class: 20}}}
sweeps:
  - {name: all, product: {seed: SEEDS}}
resources: {slots: 2, track: [tensorboard]}
"""
COMMAND = [sys.executable, "-c", "import cli; cli.main()"]
PATIENCE_S = 90


class Launch:
    """A grid file in a folder of its own, and the command run on it."""

    def __init__(self, folder: Path, epochs: int, seeds: list[int]):
        self.folder = folder
        self.file = folder / "tiny.yaml"
        self.file.write_text(GRID.replace("EPOCHS", str(epochs)).replace("SEEDS", str(seeds)))
        (folder / "timm.py").write_text("raise ImportError('the user has a file of that name')")
        self.processes: list[subprocess.Popen] = []

    @property
    def plan(self) -> Plan:
        grid = read_grid(self.file)
        return plan(grid.name, grid.cases, self.folder / "runs")

    @property
    def control(self) -> Path:
        return grid_folder(self.plan.root, "tiny")

    def start(self, *words: str) -> subprocess.Popen:
        """The command in a process group of its own, as a shell starts it."""
        environment = {**os.environ, "SLURM_JOB_ID": "7", "PMIX_RANK": "0", "PYTHONSAFEPATH": "1"}
        process = subprocess.Popen(
            [*COMMAND, "--root", "runs", *words],
            cwd=self.folder,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def finish(self, *words: str) -> tuple[int, str, str]:
        return ended(self.start(*words))

    def states(self) -> list[tuple[str, int, str]]:
        """(stage, seed, state) of every job."""
        found = states(self.plan.entries)
        return sorted((e.planned.stage, e.planned.job.seed, found[e.key].state) for e in self.plan.entries)

    def wait_for_epoch(self, epoch: int) -> None:
        until(lambda: any(state.state == "running" and (state.epoch or 0) >= epoch for state in self._pretrainings()))

    def _pretrainings(self):
        entries = [entry for entry in self.plan.entries if entry.planned.stage == "pretrain"]
        return states(entries).values()

    def workers(self) -> list[int]:
        return [int(path.name) for path in (self.control / "workers").glob("*") if is_locked(path)]


@pytest.fixture
def launch(tmp_path):
    """Makes a Launch; leaves no process behind."""
    made = []

    def make(epochs: int, seeds: list[int]) -> Launch:
        made.append(Launch(tmp_path, epochs, seeds))
        return made[-1]

    yield make
    for one in made:
        for process in one.processes:
            if process.poll() is None:
                process.kill()
                process.wait()
        signal_workers(one.control, signal.SIGKILL)


def until(holds) -> None:
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def ended(process: subprocess.Popen) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=PATIENCE_S)
    return process.returncode, out, err


def test_slots_are_bounded_and_a_failed_run_stops_no_other(launch):
    grid = launch(epochs=2, seeds=[0, 1, 2])
    broken = next(e for e in grid.plan.entries if e.planned.stage == "pretrain" and e.planned.job.seed == 1)
    broken.run.path.mkdir(parents=True)
    broken.run.checkpoints.write_text("a file where a folder belongs")
    running = grid.start("grid", "run", "tiny.yaml")
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
    for _ in range(2):
        grid.wait_for_epoch(stopped["epoch"])
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
    running = grid.start("run", "one.yaml")
    until(lambda: list(grid.folder.glob("runs/pretrain/*/metrics.jsonl")) or running.poll() is not None)
    running.send_signal(number)
    code, _, err = ended(running)
    assert code == 75, err
    assert grid.finish("run", "one.yaml")[0] == 0
    results = [json.loads(path.read_text()) for path in grid.folder.glob("runs/*/*/result.json")]
    assert len(results) == 2
