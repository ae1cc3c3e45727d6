import json
import logging
import os
import signal
import time

import pytest
import torch

import mixmae
from mixmae.runs.folder import RunFolder
from mixmae.runs.lease import Held
from mixmae.runs.state import run_state
from mixmae.training.resources import Resources
from mixmae.work.execution import execute
from support.forked import job
from support.tiny_jobs import FINETUNE, StopAfter, experiment, lines, never, planned_runs


@pytest.fixture
def run(tmp_path):
    return planned_runs(tmp_path, experiment(pretrain={"epochs": 2}))["pretrain"]


def test_a_done_run_says_so_and_is_left_as_it_is(run):
    assert execute(run, Resources(), never) == "done"
    state = run.read("state")
    assert state == {
        "schema": 1, "state": "done", "cause": None, "reason": None, "epoch": 2, "epochs": 2,
        "loss": run.read("result")["loss"], "metric": None, "node": os.uname().nodename, "pid": os.getpid(), "tries": 1,
    }  # fmt: skip
    assert run_state(run).state == "done"
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*.json*")}
    weights = run.weights.stat().st_mtime_ns
    assert execute(run, Resources(), never) == "done"
    assert run.weights.stat().st_mtime_ns == weights
    assert run.read("state") == state
    del before[run.path / "state.json"]
    assert all(path.stat().st_mtime_ns == time_ for path, time_ in before.items())


def test_another_process_with_the_run_is_told_apart(run):
    with run.lease(), pytest.raises(Held):
        execute(run, Resources(), never)
    assert run.read("state") is None


def test_the_environment_is_recorded_and_a_change_is_warned_of(run):
    assert execute(run, Resources(), StopAfter(2)) == "stopped"
    found = run.read("environment")
    assert found["torch"] == torch.__version__.split("+")[0] or found["torch"] == torch.__version__
    assert (found["mixmae"], found["threads"], found["workers"]) == (mixmae.__version__, 1, 0)
    assert set(found) >= {"python", "timm", "numpy", "cpu", "host", "device", "commit"} and found["earlier"] == []
    run.write("environment", {**found, "timm": "0.9.0"})
    assert execute(run, Resources(), never) == "done"
    log = (run.path / "log.txt").read_text()
    assert f"WARNING timm was 0.9.0, is now {found['timm']}: the last bits may differ" in log
    assert run.read("environment")["earlier"][0]["timm"] == "0.9.0"


def test_threads_are_those_asked_for(run):
    before = torch.get_num_threads()
    try:
        execute(run, Resources(threads=2), StopAfter(0))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_failure_is_a_state_a_reason_and_a_traceback(tmp_path):
    run = planned_runs(tmp_path, experiment(pretrain={"batch": 200, "chunk": 100}))["pretrain"]
    assert execute(run, Resources(), never) == "failed"
    state = run.read("state")
    assert state["reason"] == "143 training images are fewer than one batch of 200; write batch: 143 or less"
    assert (state["state"], state["tries"]) == ("failed", 1)
    log = (run.path / "log.txt").read_text()
    assert "Traceback (most recent call last)" in log and "full_batches" in log
    assert execute(run, Resources(), never) == "failed"
    assert run.read("state")["tries"] == 2
    assert logging.getLogger("mixmae").handlers == []


def test_a_missing_config_and_changed_data_fail(tmp_path, run):
    empty = RunFolder(tmp_path, "pretrain", "0" * 16)
    assert execute(empty, Resources(), never) == "failed"
    assert "config.json: missing" in empty.read("state")["reason"]
    config = run.read("config")
    run.write("config", {**config, "data_fingerprint": "f" * 16})
    assert execute(run, Resources(), never) == "failed"
    assert run.read("state")["reason"].startswith("the data has changed: planned with fingerprint ffffffffffffffff")


def test_an_unknown_field_in_config_fails(run):
    config = run.read("config")
    run.write("config", {**config, "job": {**config["job"], "colour": "red"}})
    assert execute(run, Resources(), never) == "failed"
    assert "colour" in (run.path / "log.txt").read_text()


def test_an_interrupt_leaves_a_stopped_run(run):
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(run, Resources(), interrupted)
    assert run.read("state")["state"] == "stopped"
    assert not run.is_held()
    assert execute(run, Resources(), never) == "done"


def test_a_run_killed_between_result_and_state_is_done(run):
    assert execute(run, Resources(), never) == "done"
    run.write("state", {**run.read("state"), "state": "running"})
    (run.checkpoints / "step-00000004.pt").write_bytes(b"left behind")
    assert run_state(run).state == "stopped"
    assert execute(run, Resources(), never) == "done"
    assert run_state(run).state == "done"
    assert [path.name for path in run.checkpoints.iterdir()] == ["final.safetensors"]


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_a_run_killed_at_any_moment_goes_on_bit_for_bit(tmp_path, stage):
    if stage == "pretrain":
        exp = experiment(pretrain={"epochs": 12})
    else:
        exp = experiment("supervised", evaluations={"finetune": {**FINETUNE, "epochs": 10}})
    straight = planned_runs(tmp_path / "straight", exp)[stage]
    assert execute(straight, Resources(), never) == "done"
    run = planned_runs(tmp_path / "killed", exp)[stage]
    child = job(run, Resources(save_steps=1))
    deadline = time.monotonic() + 60
    while len(list(run.checkpoints.glob("step-*.pt"))) < 2 and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert run_state(run).reason == "its process died"
    assert execute(run, Resources(), never) == "done"
    assert "resumed at step" in (run.path / "log.txt").read_text()
    for name in ("metrics.jsonl", "result.json", "checkpoints/final.safetensors"):
        assert (run.path / name).read_bytes() == (straight.path / name).read_bytes(), name
    epochs = [line["epoch"] for line in lines(run.path / "timing.jsonl")]
    assert epochs == list(range(1, len(epochs) + 1))


def test_nothing_in_a_run_folder_names_a_place_on_this_machine(tmp_path, run):
    execute(run, Resources(), never)
    for path in run.path.rglob("*.json*"):
        assert str(tmp_path) not in json.dumps(path.read_text())


def test_resources_change_how_a_run_runs_and_are_recorded(tmp_path):
    results = []
    for name, resources in (("plain", Resources()), ("less_memory", Resources(checkpoint_activations=True))):
        run = planned_runs(tmp_path / name, experiment())["pretrain"]
        assert execute(run, resources, never) == "done"
        assert run.read("environment")["checkpoint_activations"] == resources.checkpoint_activations
        assert run.read("environment")["compile_blocks"] is False
        results.append((run.read("result"), run.weights.read_bytes()))
    assert results[0] == results[1], "the same bits on a CPU"
