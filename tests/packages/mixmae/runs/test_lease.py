"""The lease on a run folder: real processes contend, owners of other machines go silent, frozen ones wake."""

import json
import multiprocessing
import os
import signal
import time
from dataclasses import asdict, replace

import pytest

from mixmae.runs import lease
from mixmae.runs.lease import Held, Lost, Owner, newest, take
from mixmae.runs.state import run_state
from mixmae.training.resources import Resources
from mixmae.work.execution import execute
from support import forked
from support.tiny_jobs import experiment, never, planned_runs

FORK = multiprocessing.get_context("fork")


def nobody(job: str) -> bool:
    return False


def elsewhere(**changed) -> Owner:
    """An owner on a machine that cannot be seen from here."""
    return replace(Owner.this_process(), **{"boot": "another machine", "host": "far", **changed})


def lay(folder, number: int, owner: Owner, silent_s: float = 0.0) -> None:
    path = folder / f"lease-{number:06d}"
    path.write_text(json.dumps(asdict(owner)))
    at = time.time() - silent_s
    os.utime(path, (at, at))


# ---------------------------------------------------------------------------------------------------------- contention


def contend(folder, rounds: int, answers) -> None:
    """Takes the lease and lets go of it again; counts how often, and how often another was inside."""
    taken = overlaps = 0
    for _ in range(rounds):
        try:
            held = take(folder, nobody)
        except Held:
            continue
        try:
            os.close(os.open(folder / "inside", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            overlaps += 1
        held.check()
        time.sleep(0.001)
        (folder / "inside").unlink(missing_ok=True)
        held.release()
        taken += 1
    answers.put((taken, overlaps))


def test_of_eight_processes_one_at_a_time_is_inside(tmp_path):
    answers = FORK.Queue()
    processes = [FORK.Process(target=contend, args=(tmp_path, 150, answers)) for _ in range(8)]
    for process in processes:
        process.start()
    counts = [answers.get(timeout=300) for _ in processes]
    for process in processes:
        process.join()
    taken = sum(count for count, _ in counts)
    assert sum(overlaps for _, overlaps in counts) == 0
    assert taken > 100 and newest(tmp_path)[0] == taken, "every number was given once"
    assert not list(tmp_path.glob(".lease*"))


def grab(folder, go, answers) -> None:
    go.wait()
    try:
        held = take(folder, nobody)
        answers.put(held.number)
        time.sleep(1)
    except Held:
        answers.put(None)


def test_a_silent_owner_has_one_heir(tmp_path):
    for number in range(1, 11):
        folder = tmp_path / str(number)
        folder.mkdir()
        lay(folder, 3, elsewhere(), silent_s=lease.STALE_S + 5)
        go, answers = FORK.Event(), FORK.Queue()
        processes = [FORK.Process(target=grab, args=(folder, go, answers)) for _ in range(6)]
        for process in processes:
            process.start()
        go.set()
        found = [answers.get(timeout=30) for _ in processes]
        for process in processes:
            process.kill()
            process.join()
        assert sorted(filter(None, found)) == [4]


# ------------------------------------------------------------------------------------------------------------ who owns


def test_an_owner_is_judged_by_its_process_here_and_by_its_silence_elsewhere(tmp_path, monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with_job = elsewhere(job="77")
    cases = [
        (Owner.this_process(), 1e6, False, "it lives"),
        (replace(Owner.this_process(), pid=2**22 - 1), 0, True, "its process is gone"),
        (replace(Owner.this_process(), began=1), 0, True, "its number was given to another"),
        (replace(elsewhere(), released=True), 0, True, "released"),
        (elsewhere(), 10, False, "has just beaten"),
        (elsewhere(), lease.STALE_S + 1, True, "silent"),
    ]
    for owner, silent_s, free, why in cases:
        lay(tmp_path, 1, owner, silent_s)
        assert lease.is_free(tmp_path, *newest(tmp_path), time.time(), nobody) == free, why
    for says, free in ((False, True), (True, False), (None, False)):
        lay(tmp_path, 1, with_job, lease.STALE_S + 1)
        assert lease.is_free(tmp_path, 1, with_job, time.time(), lambda job, says=says: says) == free
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    assert lease.is_free(tmp_path, 1, with_job, time.time(), lambda job: True), "the same job, started once more"


def test_a_file_server_without_an_answer_is_asked_for_the_link_count(tmp_path, monkeypatch):
    """Over NFS the answer to a link may be lost; tried again, it says that the file exists."""
    link = os.link

    def answer_lost(own, target):
        link(own, target)
        raise FileExistsError(17, "File exists", str(target))

    monkeypatch.setattr(os, "link", answer_lost)
    held = take(tmp_path, nobody)
    assert held.number == 1
    held.release()

    def of_another(own, target):
        target.write_text(json.dumps(asdict(elsewhere())))
        raise FileExistsError(17, "File exists", str(target))

    monkeypatch.setattr(os, "link", of_another)
    with pytest.raises(Held, match="another process was first"):
        take(tmp_path, nobody)

    def unknown(own, target):
        raise PermissionError(1, "Operation not permitted", str(target))

    lay(tmp_path, 2, replace(elsewhere(), released=True))
    monkeypatch.setattr(os, "link", unknown)
    with pytest.raises(OSError, match="must have hard links; choose another root"):
        take(tmp_path, nobody)


def test_beats_keep_a_lease_and_the_heir_of_a_silent_one_ends_it(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "BEAT_S", 0.05)
    held = take(tmp_path, nobody)
    path = tmp_path / "lease-000001"
    os.utime(path, (0, 0))
    end = time.monotonic() + 10
    while path.stat().st_mtime < time.time() - 5:
        assert time.monotonic() < end
        time.sleep(0.02)
    held.check()
    lay(tmp_path, 2, elsewhere())
    with pytest.raises(Lost, match=r"taken over by far \(process \d+\) while this process stood still"):
        held.check()
    held.release()
    assert newest(tmp_path)[1].released is False, "the heir's is left alone"


# ----------------------------------------------------------------------------------------------------- a frozen owner


def far_away(*words: str) -> None:
    """A stage job whose owner says that it is of another machine."""
    lease._boot = lambda: "another machine"
    forked.run_job(*words)


def test_a_frozen_owner_that_wakes_writes_nothing(tmp_path):
    exp = experiment(pretrain={"epochs": 12})
    straight, run = (planned_runs(tmp_path / name, exp)["pretrain"] for name in ("straight", "frozen"))
    assert execute(straight, Resources(), never) == "done"
    frozen = forked.Forked(far_away, str(run.path), Resources(save_steps=1).model_dump_json())
    end = time.monotonic() + 60
    while len(list(run.checkpoints.glob("step-*.pt"))) < 2:
        assert time.monotonic() < end and frozen.poll() is None
        time.sleep(0.01)
    frozen.send_signal(signal.SIGSTOP)
    assert run_state(run).state == "running"
    with pytest.raises(Held, match=f"process {frozen.pid} on "):
        execute(run, Resources(), never)
    at = time.time() - lease.STALE_S - 1
    os.utime(run.path / "lease-000001", (at, at))
    assert run_state(run).reason == "its process died"
    assert execute(run, Resources(), never) == "done"
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file() and path.name != "log.txt"}
    frozen.send_signal(signal.SIGCONT)
    said, errors = frozen.communicate(timeout=300)
    assert said.strip() == "failed" and "taken over by" in errors
    after = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file() and path.name != "log.txt"}
    assert after == before
    for name in ("metrics.jsonl", "result.json", "checkpoints/final.safetensors"):
        assert (run.path / name).read_bytes() == (straight.path / name).read_bytes(), name
