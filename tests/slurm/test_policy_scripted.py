"""What becomes of runs that ended early, cause by cause: what a real cluster does not do on demand."""

import json
import signal
import time
from types import SimpleNamespace

import pytest
import yaml
from grids import BASE, KNN, SLURM, write_grid

from ablations.control.following import follow
from ablations.grid.file import read_grid
from ablations.plan.plan import plan
from ablations.plan.queueing import cancel, create_run
from ablations.slurm.policy import seen
from ablations.slurm.submissions import submissions, task_of
from ablations.slurm.submitting import submit
from mixmae.runs.scheduler import NoAnswer, requeue
from mixmae.training.places import Place
from mixmae.work import task


@pytest.fixture
def grid(tmp_path, scripted):
    """Pretrainings, submitted in two tasks or so many; (the grid, its plan)."""

    def submitted(tasks=2, **slurm):
        (tmp_path / "base.yaml").write_text(yaml.safe_dump(BASE))
        resources = {"executor": "slurm", "slurm": {**SLURM, **slurm}}
        seeds = list(range(tasks * slurm.get("pack", 1)))
        sweeps = [{"name": "seeds", "product": {"seed": seeds}}]
        (tmp_path / "grid.yaml").write_text(
            yaml.safe_dump({"base": "base.yaml", "sweeps": sweeps, "resources": resources})
        )
        found = read_grid(tmp_path / "grid.yaml")
        planned = plan(found.name, found.cases, tmp_path / "runs")
        (made,) = submit(found, planned, cancelled=True)
        assert len(made.tasks) == tasks
        return found, planned

    return submitted


def tasks(planned) -> list[tuple[str, int | None]]:
    known = submissions(planned.root)
    words = (task_of(entry.run, known).partition("_") for entry in planned.entries)
    return [(job, int(element) if element else None) for job, _, element in words]


def die(scripted, planned, number: int, state: str, tries: int = 1, step: int | None = None, **how) -> None:
    """The task began, reached a step and was ended by `state`; the run could say nothing."""
    entry, (job, element) = planned.entries[number], tasks(planned)[number]
    scripted.set(job, element, "RUNNING")
    entry.run.write("state", {"state": "running", "tries": tries, "epoch": 1, "epochs": 5})
    if step is not None:
        entry.run.checkpoints.mkdir(exist_ok=True)
        (entry.run.checkpoints / f"step-{step:08d}.pt").touch()
    scripted.set(job, element, state, **how)


def reasons(planned) -> list[tuple[str, str | None]]:
    return [(state.state, state.reason) for state in seen(planned).values()]


@pytest.mark.parametrize("state", ["NODE_FAIL", "PREEMPTED", "CANCELLED"])
def test_what_the_cluster_did_is_always_started_again(scripted, grid, state):
    found, planned = grid()
    before = tasks(planned)
    die(scripted, planned, 0, state)
    (made,) = submit(found, planned, cancelled=True)
    assert [runs[0][1] for runs in made.tasks] == [planned.entries[0].planned.id]
    assert tasks(planned)[0] != before[0] and tasks(planned)[1] == before[1]
    assert submit(found, planned, cancelled=True) == [], "not twice"


def test_out_of_memory_is_not_started_again(scripted, grid):
    found, planned = grid()
    die(scripted, planned, 0, "OUT_OF_MEMORY")
    assert submit(found, planned, cancelled=True) == []
    assert reasons(planned)[0] == ("failed", "out of memory; mixmae grid retry queues it again")


def test_out_of_memory_is_started_again_where_the_grid_says_so(scripted, grid):
    found, planned = grid(retries={"out_of_memory": {"when": "always", "most": 1}})
    die(scripted, planned, 0, "OUT_OF_MEMORY")
    assert len(submit(found, planned, cancelled=True)) == 1
    die(scripted, planned, 0, "OUT_OF_MEMORY", tries=2)
    assert submit(found, planned, cancelled=True) == []
    assert reasons(planned)[0][1] == "out of memory 1 times; mixmae grid retry queues it again"


def test_a_crash_is_a_failure_and_a_kill_is_not(scripted, grid):
    found, planned = grid()
    die(scripted, planned, 0, "FAILED", exit="0:11")
    die(scripted, planned, 1, "FAILED", exit="0:9")
    (made,) = submit(found, planned, cancelled=True)
    assert [runs[0][1] for runs in made.tasks] == [planned.entries[1].planned.id]
    assert reasons(planned)[0] == ("failed", "it failed; mixmae grid retry queues it again")


def test_time_outs_are_started_again_while_they_get_further(scripted, grid):
    found, planned = grid()
    for number, step in enumerate((10, 20), start=1):
        die(scripted, planned, 0, "TIMEOUT", tries=number, step=step)
        assert len(submit(found, planned, cancelled=True)) == 1
    die(scripted, planned, 0, "TIMEOUT", tries=3)
    assert submit(found, planned, cancelled=True) == []
    assert reasons(planned)[0][1] == "its time limit came and reached nothing new; mixmae grid retry queues it again"


def test_without_accounting_what_left_no_word_is_started_again(scripted, grid):
    found, planned = grid()
    scripted.no_accounting()
    die(scripted, planned, 0, "FAILED", exit="0:9")
    assert len(submit(found, planned, cancelled=True)) == 1


def test_a_node_failure_seen_in_passing_is_left_to_slurm(scripted, grid):
    """sacct says NODE_FAIL while Slurm has put the job back into its queue."""
    found, planned = grid()
    die(scripted, planned, 0, "RUNNING")
    job, element = tasks(planned)[0]
    scripted.set(job, element, "NODE_FAIL", seen_by=("sacct",))
    scripted.set(job, element, "PENDING", seen_by=("squeue",))
    assert submit(found, planned, cancelled=True) == []
    assert reasons(planned)[0][0] == "pending"


def test_a_pending_task_cancelled_alone_is_submitted_anew(scripted, grid):
    found, planned = grid()
    job, element = tasks(planned)[0]
    scripted.set(job, element, "CANCELLED", seen_by=("squeue",))
    assert reasons(planned)[0] == ("stopped", "its job left the queue without starting it")
    assert len(submit(found, planned, cancelled=True)) == 1


def test_nothing_is_submitted_while_slurm_does_not_answer(scripted, grid):
    found, planned = grid()
    die(scripted, planned, 0, "NODE_FAIL")
    scripted.fail("squeue")
    with pytest.raises(NoAnswer, match="squeue does not answer; nothing is submitted"):
        submit(found, planned, cancelled=True)
    assert reasons(planned)[0] == ("stopped", "its process died")
    scripted.mend("squeue")
    assert len(submit(found, planned, cancelled=True)) == 1


def test_a_look_takes_one_call_and_a_launch_two(scripted, grid):
    found, planned = grid()
    die(scripted, planned, 0, "NODE_FAIL")
    calls = len(scripted.calls())
    seen(planned)
    assert [call.name for call in scripted.calls()[calls:]] == ["squeue"]
    calls = len(scripted.calls())
    submit(found, planned, cancelled=True)
    asked = [call.name for call in scripted.calls()[calls:]]
    assert (asked.count("squeue"), asked.count("sacct"), asked.count("sbatch")) == (1, 1, 1)


def test_what_is_submitted_takes_nothing_of_an_allocation_along(scripted, grid, monkeypatch, tmp_path):
    sbatch, seen_by_it = scripted.programs / "sbatch", tmp_path / "environment"
    sbatch.rename(scripted.programs / "sbatch-itself")
    sbatch.write_text(f'#!/bin/sh\nenv > {seen_by_it}\nexec {scripted.programs}/sbatch-itself "$@"\n')
    sbatch.chmod(0o755)
    leaks = {"SLURM_JOB_ID": "1", "SBATCH_PARTITION": "wrong", "PMIX_RANK": "3", "SLURM_NTASKS": "7"}
    for name, value in {**leaks, "SLURM_CONF": "/etc/some/slurm.conf"}.items():
        monkeypatch.setenv(name, value)
    _, planned = grid()
    names = {line.partition("=")[0] for line in seen_by_it.read_text().splitlines()}
    assert "SLURM_CONF" in names and not names & leaks.keys()
    (sent,) = scripted.calls("sbatch")
    assert "#SBATCH --hold" in sent.script and "--partition=low" in sent.script
    record = next((planned.root / "grids" / "grid" / "submissions").glob("*.json"))
    assert json.loads(record.read_text())["released"] is True


def test_a_node_without_scontrol_leaves_the_requeue_to_the_next_launch(scripted, grid, monkeypatch):
    found, planned = grid()
    job, element = tasks(planned)[0]
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", job)
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", str(element))
    scripted.set(job, element, "RUNNING")
    assert requeue()
    assert scripted.calls("scontrol")[-1].arguments == ["requeue", f"{job}_{element}"]
    scripted.remove("scontrol")
    assert not requeue()


# ------------------------------------------------------------------------------------------- what could go on for ever


def test_a_job_that_dies_before_it_begins_is_a_failure(scripted, grid):
    """A line of `setup` that fails, say: the run's folder knows nothing of it."""
    found, planned = grid()
    job, element = tasks(planned)[0]
    scripted.set(job, element, "FAILED", exit="1:0")
    assert submit(found, planned, cancelled=True) == []
    assert reasons(planned)[0] == ("failed", "it failed; mixmae grid retry queues it again")


@pytest.mark.parametrize("state", ["OUT_OF_MEMORY", "TIMEOUT", "FAILED"])
def test_what_ends_one_run_of_a_pack_is_not_laid_to_those_that_had_not_begun(scripted, grid, state):
    found, planned = grid(1, pack=3)
    die(scripted, planned, 0, state)
    (made,) = submit(found, planned, cancelled=True)
    assert [run[1] for runs in made.tasks for run in runs] == [entry.planned.id for entry in planned.entries[1:]]
    assert [name for name, _ in reasons(planned)] == ["failed", "pending", "pending"]


def test_preempted_before_it_began_ends_at_the_most(scripted, grid):
    found, planned = grid(retries={"preempted": {"when": "always", "most": 3}})
    made = 0
    for _ in range(6):
        job, element = tasks(planned)[0]
        scripted.set(job, element, "PREEMPTED")
        made += len(submit(found, planned, cancelled=True))
    assert made == 3 and reasons(planned)[0][0] == "failed"


@pytest.mark.parametrize("exit", ["75:0", "1:0", "137:0"])
def test_a_run_that_lost_a_process_goes_on(scripted, grid, exit):
    found, planned = grid()
    die(scripted, planned, 0, "FAILED", exit=exit)
    lost = {"state": "stopped", "reason": "lost process 1: it has given no sign of life for 30 s", "tries": 1}
    planned.entries[0].run.write("state", lost)
    assert len(submit(found, planned, cancelled=True)) == 1


def test_what_was_cancelled_is_started_by_a_launch_and_not_by_a_watch(scripted, grid):
    found, planned = grid()
    job, element = tasks(planned)[0]
    cancel(planned.entries[0].run)
    scripted.set(job, element, "CANCELLED")
    assert submit(found, planned, cancelled=False) == []
    assert len(submit(found, planned, cancelled=True)) == 1


def test_a_watch_without_a_terminal_tells_what_changes(scripted, grid, capsys, monkeypatch):
    found, planned = grid()
    die(scripted, planned, 0, "OUT_OF_MEMORY")
    die(scripted, planned, 1, "NODE_FAIL")

    sleep = time.sleep

    def one_fails_between_two_looks(seconds):
        if seconds == 0.5:
            die(scripted, planned, 1, "OUT_OF_MEMORY", tries=2)
        else:
            sleep(seconds)

    monkeypatch.setattr("time.sleep", one_fails_between_two_looks)
    assert follow(found, planned, every_s=0.5, submits=True) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(" ")[2] for line in lines[:1]] == ["submitted 1 task"]
    assert lines[1:] == [f"2 experiments, 2 jobs (2 pretrain): {now}" for now in ("1 pending, 1 failed", "2 failed")]


def test_a_task_that_nobody_has_looked_at_has_no_reason(scripted, grid):
    _, planned = grid()
    job, element = tasks(planned)[0]
    scripted.set(job, element, "PENDING", reason="None")
    assert reasons(planned)[0] == ("pending", None)


def test_an_evaluation_waits_for_a_pretraining_that_others_run(scripted, tmp_path):
    written = write_grid(SimpleNamespace(environment={}), tmp_path, "shared", (0,), {"knn": KNN})
    found = read_grid(written.file)
    planned = plan(found.name, found.cases, written.root)
    pretraining, evaluation = planned.entries
    create_run(planned.root, pretraining.planned)
    with pretraining.run.lease():
        pretraining.run.write("state", {"state": "running", "tries": 1})
        assert submit(found, planned, cancelled=True) == [], "neither twice, nor without what it needs"
    pretraining.run.write("state", {"state": "stopped", "reason": "saved at step 3 of 9", "tries": 1})
    assert [one.tasks[0][0][0] for one in submit(found, planned, cancelled=True)] == ["pretrain", "knn"]
    again = written.file.with_name("again.yaml")
    again.write_text(written.file.read_text())
    other = read_grid(again)
    assert submit(other, plan(other.name, other.cases, written.root), cancelled=True) == [], (
        "another grid's tasks count"
    )


@pytest.mark.parametrize(("restarts", "asks"), [("0", True), ("9", True), ("10", False)])
def test_a_task_that_gets_no_further_asks_so_often_and_not_for_ever(scripted, grid, monkeypatch, restarts, asks):
    _, planned = grid()
    run, (job, element) = planned.entries[0].run, tasks(planned)[0]
    scripted.set(job, element, "RUNNING")
    for name, value in {"ARRAY_JOB_ID": job, "ARRAY_TASK_ID": element, "RESTART_COUNT": restarts}.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    monkeypatch.setattr(task, "run_job", lambda *_: "stopped")
    monkeypatch.setattr(task, "StopFlag", lambda *_: Told())
    if asks:
        assert task.run(str(run.path / "config.json")) == "requeued"
    else:
        with pytest.raises(task.NotDone):
            task.run(str(run.path / "config.json"))
    assert (scripted.calls("scontrol")[-1].arguments[0] == "requeue") == asks


@pytest.mark.parametrize("state", ["done", "stopped", "failed"])
def test_of_a_stopped_run_process_0_alone_says_how_the_task_ends(scripted, grid, monkeypatch, state):
    """srun --kill-on-bad-exit would end process 0 before its requeue, where this one has not heard the signal yet."""
    _, planned = grid()
    monkeypatch.setattr("mixmae.work.execution.follow", lambda *_: state)
    monkeypatch.setattr("mixmae.training.processes.join", lambda _: SimpleNamespace(rank=1))
    monkeypatch.setattr(task, "place", lambda: Place(1, 2, 1, "here", 1234))
    monkeypatch.setattr(task, "StopFlag", lambda *_: Told())
    config = str(planned.entries[0].run.path / "config.json")
    if state == "failed":
        with pytest.raises(task.NotDone, match="process 1: failed"):
            task.run(config)
    else:
        assert task.run(config) == state


def test_a_broken_folder_ends_its_own_run_of_a_pack_alone(scripted, grid, monkeypatch, capsys):
    _, planned = grid(1, pack=3)
    broken, came = planned.entries[1].run, []
    (broken.path / "launch.json").write_text("{")
    monkeypatch.setattr(task, "run_job", lambda run, *_: came.append(run.id) or "done")
    (pack,) = planned.root.glob("grids/*/packs/*.json")
    with pytest.raises(task.NotDone, match=f"^pretrain/{broken.id} failed: see mixmae grid why"):
        task.run(str(pack))
    assert came == [planned.entries[number].planned.id for number in (0, 2)]
    assert f"{broken.path / 'launch.json'}: damaged" in capsys.readouterr().err


def test_an_evaluation_that_was_told_to_stop_is_started_again(scripted, grid):
    """It saves nothing on the way, and ends by itself before Slurm counts it as preempted."""
    found, planned = grid()
    die(scripted, planned, 0, "FAILED", exit="1:0")
    said = {"state": "stopped", "reason": "stopped while extracting features; starts over", "tries": 1}
    planned.entries[0].run.write("state", said)
    assert len(submit(found, planned, cancelled=True)) == 1


class Told:
    """A flag that the site's signal raises once the job has begun."""

    raised = None

    def __call__(self) -> bool:
        before, self.raised = self.raised, signal.SIGUSR2
        return before is not None
