"""Cancelling and explaining grids on a Slurm that does as the test says: real submissions, scripted fates."""

import json
import os
from types import SimpleNamespace

import pytest
from grids import KNN, write_grid

from ablations.control.explaining import explain, lines
from ablations.control.steering import ChosenRuns, cancel_grid
from ablations.grid.file import read_grid
from ablations.plan.plan import plan, states
from ablations.slurm.submissions import submissions, task_of
from ablations.slurm.submitting import submit
from mixmae.runs.scheduler import NoAnswer


class Submitted:
    """A grid of a pretraining and a kNN a seed, in the scripted queue."""

    def __init__(self, scripted, folder, seeds=(0, 1), **slurm):
        written = write_grid(SimpleNamespace(environment={}), folder, "tiny", seeds, {"knn": KNN}, slurm)
        self.scripted, self.folder, self.root = scripted, folder, written.root
        self.grid = read_grid(written.file)
        self.written, self.plan = written, plan(self.grid.name, self.grid.cases, written.root)
        submit(self.grid, self.plan, cancelled=True)

    def run(self, stage: str, seed: int):
        return next(e for e in self.plan.entries if (e.planned.stage, e.planned.job.seed) == (stage, seed))

    def task(self, stage: str, seed: int) -> tuple[str, int | None]:
        job, _, number = task_of(self.run(stage, seed).run, submissions(self.plan.root)).partition("_")
        return job, int(number) if number else None

    def queued(self) -> set[tuple[str, int | None]]:
        return {
            (str(job), n) for job in self.scripted.jobs() for n, s in self.scripted.states(job).items() if s in LIVE
        }

    def cancelled(self) -> set[tuple[str, int]]:
        found = states(self.plan.entries)
        return {(e.planned.stage, e.planned.job.seed) for e in self.plan.entries if found[e.key].state == "cancelled"}

    def calls_of_cancel(self, chosen: ChosenRuns):
        before = len(self.scripted.calls())
        found = cancel_grid(self.plan, chosen)
        return found, [call.name for call in self.scripted.calls()[before:]]

    def why(self, stage: str, seed: int) -> tuple[dict, list[str]]:
        before = len(self.scripted.calls())
        found = explain(self.root, self.run(stage, seed).run)
        names = [call.name for call in self.scripted.calls()[before:]]
        assert len(names) == len(set(names)) and set(names) <= {"squeue", "sacct"}, "one call of each at most"
        return found, lines(found)


LIVE = ("PENDING", "RUNNING")


@pytest.fixture
def submitted(scripted, tmp_path):
    return Submitted(scripted, tmp_path)


# ---------------------------------------------------------------------------------------------------------- cancelling


def test_cancelled_runs_leave_the_queue_by_one_squeue_and_one_scancel(submitted):
    gone = submitted.task("knn", 0)
    found, calls = submitted.calls_of_cancel(ChosenRuns(stage="knn", seed=0))
    assert (found.runs, found.tasks, found.still) == (1, 1, 0) and calls == ["squeue", "scancel"]
    assert submitted.cancelled() == {("knn", 0)} and gone not in submitted.queued() and len(submitted.queued()) == 3
    found, calls = submitted.calls_of_cancel(ChosenRuns())
    assert (found.runs, found.tasks) == (3, 3) and calls == ["squeue", "scancel"]
    assert submitted.queued() == set() and len(submitted.cancelled()) == 4
    found, calls = submitted.calls_of_cancel(ChosenRuns())
    assert (found.runs, found.tasks) == (0, 0) and calls == ["squeue"]


def test_running_tasks_are_cancelled_too(submitted):
    job, number = submitted.task("pretrain", 1)
    submitted.scripted.set(job, number, "RUNNING")
    found, _ = submitted.calls_of_cancel(ChosenRuns(stage="pretrain", seed=1))
    assert found.tasks == 1 and submitted.scripted.states(job)[number] == "CANCELLED"


def test_nothing_is_marked_where_squeue_does_not_answer(submitted):
    submitted.scripted.fail("squeue")
    queued = submitted.queued()
    with pytest.raises(NoAnswer, match="squeue does not answer; nothing was cancelled"):
        cancel_grid(submitted.plan, ChosenRuns())
    assert submitted.cancelled() == set() and submitted.queued() == queued
    submitted.scripted.mend("squeue")
    assert cancel_grid(submitted.plan, ChosenRuns()).tasks == 4


def test_what_scancel_left_is_taken_out_by_the_next_cancel(submitted):
    submitted.scripted.fail("scancel", error="scancel: error: no controller", times=1)
    with pytest.raises(NoAnswer, match="no controller; 4 runs are marked and will not start, but .* cancel again"):
        cancel_grid(submitted.plan, ChosenRuns())
    assert len(submitted.cancelled()) == 4 and len(submitted.queued()) == 4
    found = cancel_grid(submitted.plan, ChosenRuns())
    assert (found.runs, found.tasks) == (0, 4) and submitted.queued() == set()


def test_a_pack_is_cancelled_when_all_its_runs_are(scripted, tmp_path):
    packed = Submitted(scripted, tmp_path, seeds=(0, 1, 2, 3), pack=2)
    assert packed.task("pretrain", 0) == packed.task("pretrain", 1)
    found, calls = packed.calls_of_cancel(ChosenRuns(stage="pretrain", seed=0))
    assert (found.runs, found.tasks) == (1, 0) and "scancel" not in calls
    assert packed.task("pretrain", 0) in packed.queued() and packed.cancelled() == {("pretrain", 0)}
    found, _ = packed.calls_of_cancel(ChosenRuns(stage="pretrain", seed=1))
    assert (found.runs, found.tasks) == (1, 1) and packed.task("pretrain", 0) not in packed.queued()
    assert packed.task("pretrain", 2) in packed.queued()


def test_an_array_whose_launch_died_is_taken_out(submitted):
    """Held in the queue, and its number in no record."""
    for path in (submitted.root / "grids" / "tiny" / "submissions").glob("*.json"):
        record = json.loads(path.read_text())
        record.pop("checksum")
        path.write_text(json.dumps({**record, "job": None, "released": False}))
    assert cancel_grid(submitted.plan, ChosenRuns()).tasks == 4 and submitted.queued() == set()


def test_the_command_says_what_it_did_and_ends_with_1_without_squeue(submitted):
    submitted.scripted.fail("squeue", times=1)
    written = submitted.written
    written.cluster.environment.update(os.environ)
    done = written.ask("cancel", str(written.file))
    assert done.returncode == 1 and done.stdout == "" and "nothing was cancelled" in done.stderr
    done = written.ask("cancel", str(written.file), "--stage", "knn")
    assert (done.returncode, done.stdout) == (0, "2 jobs cancelled, 2 tasks taken out of Slurm's queue\n")


# ----------------------------------------------------------------------------------------------------------------- why


def test_a_pending_run_says_why_it_waits(submitted):
    job, number = submitted.task("pretrain", 0)
    submitted.scripted.set(job, number, "PENDING", reason="Resources", seen_by=("squeue",))
    found, said = submitted.why("pretrain", 0)
    assert said[0].endswith("pending: Resources (no node is free yet)") and said[-1].startswith("next: nothing")
    assert found["slurm"]["task"] == f"{job}_{number}"
    found, said = submitted.why("knn", 0)
    assert said[0].endswith("waiting: Dependency (its pretraining has not ended)")
    assert found["needs"]["state"] == "pending" and found["next"] == []


def test_a_job_killed_for_its_memory(submitted):
    job, number = submitted.task("pretrain", 0)
    submitted.scripted.set(job, number, "RUNNING", "n2")
    run = submitted.run("pretrain", 0).run
    run.write("state", {"state": "running", "tries": 1, "node": "n2", "pid": 4711})  # and its process is gone
    submitted.scripted.set(job, number, "OUT_OF_MEMORY", "n2")
    log = submitted.root / "grids" / "tiny" / "submitit" / f"{job}_{number}_0_log.out"
    log.write_text("".join(f"line {n}\n" for n in range(30)) + "slurmstepd: error: Detected 1 oom_kill event\n")
    found, said = submitted.why("pretrain", 0)
    assert found["slurm"]["accounting"] == {"state": "OUT_OF_MEMORY", "code": 0, "signal": 125, "node": "n2"}
    assert f"Slurm task {job}_{number}: OUT_OF_MEMORY, on n2" in said
    assert "started 1 of 1 times, last on n2, process 4711" in said
    assert f"Slurm log: {log}, which ends:" in said and "  slurmstepd: error: Detected 1 oom_kill event" in said
    assert "ask for more first (resources.slurm.memory" in said[-2]
    start = f"mixmae --root {submitted.root} grid"
    run, retry = f"{start} run tiny.yaml --executor slurm", f"{start} retry tiny.yaml"
    assert said[-1] == f"next: {run} && {retry} && {run}"


def test_a_job_that_died_before_it_began_without_accounting(submitted):
    job, number = submitted.task("pretrain", 0)
    (submitted.root / "grids" / "tiny" / "submitit" / f"{job}_{number}_submitted.pkl").write_bytes(b"damaged")
    submitted.scripted.no_accounting()
    assert submitted.scripted.run(job, number).returncode
    log = submitted.root / "grids" / "tiny" / "submitit" / f"{job}_{number}_0_log.out"
    found, said = submitted.why("pretrain", 0)
    assert found["state"] == "stopped" and found["log"] is None and found["traceback"] is None
    assert "never started (asked for 1 times)" in said
    assert f"Slurm task {job}_{number}: no accounting: sacct: Slurm accounting storage is disabled" in said
    assert f"Slurm log: {log}, which ends:" in said and "triggered an exception" in "".join(said)
    assert said[-1] == f"next: mixmae --root {submitted.root} grid run tiny.yaml --executor slurm"


def test_a_run_that_failed_in_its_task(submitted):
    run = submitted.run("pretrain", 0).run
    run.checkpoints.write_text("a file where a folder belongs")
    job, number = submitted.task("pretrain", 0)
    assert submitted.scripted.run(job, number, node="n3").returncode == 1
    found, said = submitted.why("pretrain", 0)
    assert found["state"] == "failed" and found["slurm"]["accounting"]["code"] == 1
    assert f"Slurm task {job}_{number}: FAILED, exit code 1, on n3" in said
    assert found["traceback"]["lines"][-1].startswith("FileExistsError") and "log_end" not in found["slurm"]
    start = f"mixmae --root {submitted.root} grid"
    assert said[-1] == f"next: {start} retry tiny.yaml && {start} run tiny.yaml --executor slurm"
