"""What `grid why` says of real runs that ended, and what `grid logs --follow` prints of a log that grows."""

import json
import signal
import subprocess
import time

import pytest

from ablations.control.explaining import FRAMES, LINES, explain, last_traceback, lines
from mixmae.files.records import write_json
from mixmae.training.resources import Resources
from mixmae.work.execution import execute
from support import tiny_jobs
from support.program import COMMAND

PATIENCE_S = 300


@pytest.fixture(scope="module")
def failed(tmp_path_factory):
    """A pretraining that failed and the kNN that waits for it, launched by a grid."""
    root = tmp_path_factory.mktemp("root")
    runs = tiny_jobs.planned_runs(root, tiny_jobs.experiment(evaluations={"knn": {"k": 5}}))
    runs["pretrain"].checkpoints.write_text("a file where a folder belongs")
    for run in runs.values():
        run.write("launch", {"tries": 1, "cancelled": False})
    write_json(root / "grids" / "tiny.json", {"launched": [[run.stage, run.id] for run in runs.values()]})
    assert execute(runs["pretrain"], Resources(), tiny_jobs.never) == "failed"
    return root, runs


def test_a_failed_run_shows_the_end_of_its_traceback(failed):
    root, runs = failed
    found = explain(root, runs["pretrain"])
    assert (found["state"], found["grid"], found["tries"], found["slurm"]) == ("failed", "tiny", 1, None)
    shown = found["traceback"]["lines"]
    whole = (runs["pretrain"].path / "log.txt").read_text().splitlines()
    assert sum(line.startswith('  File "') for line in shown) == FRAMES
    assert shown[-1].partition(":")[0] in ("FileExistsError", "NotADirectoryError") and "checkpoints" in shown[-1]
    assert [line.partition(" ERROR ")[2] for line in whole if " ERROR " in line][-1] == shown[-1]
    assert found["next"] == [f"mixmae --root {root} grid {do} tiny.yaml" for do in ("retry", "run")]
    assert len(lines(found)) < 16
    json.dumps(found)


def test_a_blocked_run_leads_to_its_pretraining(failed):
    root, runs = failed
    found = explain(root, runs["knn"])
    assert (found["state"], found["needs"]["state"]) == ("blocked", "failed")
    assert found["next"] == [f"mixmae --root {root} grid why {runs['pretrain'].id[:8]}"]
    said = lines(found)
    assert said[0].endswith("blocked: its pretraining: failed") and "never started (asked for 1 times)" in said
    assert f"pretraining {runs['pretrain'].id}: failed: {found['needs']['reason']}" in said


@pytest.mark.parametrize(
    ("state", "launch", "said", "following"),
    [
        ({}, {}, "planned", "run EXPERIMENT"),
        ({"state": "stopped", "reason": "told to", "tries": 1}, {"tries": 1}, "stopped: told to", "run EXPERIMENT"),
        ({"state": "running", "tries": 1}, {"tries": 1}, "stopped: its process died", "run EXPERIMENT"),
        ({"state": "stopped", "tries": 1}, {"tries": 1, "cancelled": True}, "cancelled: grid cancel", "run EXPERIMENT"),
    ],
)
def test_what_to_do_next(tmp_path, state, launch, said, following):
    (run,) = tiny_jobs.planned_runs(tmp_path, tiny_jobs.experiment()).values()
    for name, content in (("state", state), ("launch", launch)):
        if content:
            run.write(name, content)
    found = lines(explain(tmp_path, run))
    assert found[0].endswith(f" {said}") and found[-1] == f"next: mixmae --root {tmp_path} {following}"


def test_a_damaged_file_is_the_reason(tmp_path):
    (run,) = tiny_jobs.planned_runs(tmp_path, tiny_jobs.experiment()).values()
    (run.path / "launch.json").write_text('{"tries": ')
    found = explain(tmp_path, run)
    assert found["state"] == "failed" and "launch.json: damaged" in found["reason"]


def stamped(*texts: str) -> str:
    return "".join(f"2026-01-02 03:04:{second:02},000 ERROR {text}\n" for second, text in enumerate(texts))


def test_the_last_of_several_tracebacks_counts():
    frames = [text for number in range(9) for text in (f'  File "a.py", line {number}, in f', f"    f({number})")]
    first = stamped("Traceback (most recent call last):", *frames, "KeyError: 'first'")
    cause = stamped(
        "Traceback (most recent call last):", *frames, "OSError: cause", "", "The above exception was …:", ""
    )
    message = [f"line {number} of the message" for number in range(20)]
    last = stamped("Traceback (most recent call last):", *frames, "ValueError: last", *message, "failed: last")
    end = "2026-01-02 03:05:00,000 INFO another start\n"
    found = last_traceback(first + cause + last + end)
    assert found["time"] == "2026-01-02 03:04:00"
    assert found["lines"] == [*frames[-2 * FRAMES :], "ValueError: last", *message[: LINES - 1]]
    assert last_traceback(end) is None and last_traceback("") is None


def test_a_traceback_that_was_cut_off_is_shown_as_it_is():
    assert last_traceback(stamped("Traceback (most recent call last):"))["lines"] == []
    cut = stamped("Traceback (most recent call last):", '  File "a.py", line 1, in f')
    assert last_traceback(cut)["lines"] == ['  File "a.py", line 1, in f']


# ----------------------------------------------------------------------------------------------------------- following


class Following:
    """`mixmae grid logs --follow` in a process of its own, on a run that this process holds."""

    def __init__(self, root):
        (self.run,) = tiny_jobs.planned_runs(root, tiny_jobs.experiment()).values()
        self.run.write("launch", {"tries": 1, "cancelled": False})
        self.log, self.out = self.run.path / "log.txt", root / "out"
        words = ["--root", str(root), "grid", "logs", self.run.id[:8], "--follow"]
        with self.out.open("wb") as out:
            self.process = subprocess.Popen([*COMMAND, *words], stdout=out, stderr=subprocess.PIPE)

    def until(self, text: str) -> None:
        end = time.monotonic() + PATIENCE_S
        while self.out.read_text() != text:
            assert time.monotonic() < end and self.process.poll() is None, self.out.read_text()
            time.sleep(0.1)


@pytest.fixture
def following(tmp_path):
    found = Following(tmp_path)
    yield found
    found.process.kill()
    found.process.wait()


def test_a_log_is_followed_from_before_it_exists_to_the_runs_end(following):
    time.sleep(1)
    with following.run.lease():
        following.run.write("state", {"state": "running", "tries": 1})
        following.log.write_text("one\n")
        following.until("one\n")
        with following.log.open("a") as file:
            file.write("two ü\n")
        following.until("one\ntwo ü\n")
        other = following.log.with_suffix(".new")
        other.write_text("another file, longer than the one that it replaces\n")
        other.replace(following.log)
        following.until("one\ntwo ü\nanother file, longer than the one that it replaces\n")
        with following.log.open("a") as file:
            file.write("the last line\n")
        following.run.write("state", {"state": "failed", "tries": 1})
    assert following.process.wait(PATIENCE_S) == 0
    assert following.out.read_text().endswith("replaces\nthe last line\n")


def test_ctrl_c_leaves_a_log_with_130(following):
    following.log.write_text("one\n")
    following.until("one\n")
    following.process.send_signal(signal.SIGINT)
    assert following.process.wait(PATIENCE_S) == 130
    assert b"Traceback" not in following.process.stderr.read()
