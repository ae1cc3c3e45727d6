"""One run on several processes: the same gradients, losses and features as on one; signals, deaths and bad files."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from mixmae.runs.state import run_state
from mixmae.training.places import Place, first_host, place
from mixmae.training.resources import Resources
from support import several
from support.forked import Forked, program
from support.tiny_jobs import ENCODERS, METHODS, experiment, lines, planned_runs

STEPS = 10
CHUNKS = {"batch": 30, "chunk": 10, "base_batch": 30, "subset": {"labels_per_class": 3}, "warmup_epochs": 0.0}
"""Three chunks a step and one step an epoch: of two processes one has twice as much to do."""
TRAINING = {"epochs": STEPS, "base_lr": 1e-3, "drop_path": 0.1, "clip_grad": 5.0, **CHUNKS}
LINEAR = {"epochs": 3, "batch": 100, "optimizer": "lars", "base_lr": 1.0, "subset": {"fraction": 0.3}}
FROZEN = {"linear": {**LINEAR, "standardise": "batch_norm", "full_batches": True}, "knn": {"subset": {"fraction": 0.3}}}


def all_cases(root: Path) -> dict[str, list]:
    """Run folders by case: pretraining of every method and family, fine-tuning of every family, frozen evaluations."""
    runs = {}
    for encoder in ENCODERS:
        for method in METHODS:
            training = {"evaluations": {"finetune": TRAINING}} if method == "supervised" else {"pretrain": TRAINING}
            runs[f"{method} {encoder}"] = list(planned_runs(root, experiment(method, encoder, **training)).values())
    exp = experiment("supervised", "swin", evaluations=FROZEN, seed=1)
    return runs | {stage: [run] for stage, run in planned_runs(root, exp).items()}


def flat(runs: dict[str, list]) -> list:
    return [run for of_case in runs.values() for run in of_case]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    runs = all_cases(tmp_path_factory.mktemp("alone"))
    several.run_all(flat(runs), Resources())
    return runs


@pytest.fixture(scope="module", params=[2, 3])
def together(request, tmp_path_factory):
    runs = all_cases(tmp_path_factory.mktemp("together"))
    resources = Resources(checkpoint_activations=request.param == 3, track=("tensorboard",)).model_dump_json()
    said = several.finish(several.start(request.param, several.jobs, resources, *(run.path for run in flat(runs))))
    assert "NaN" not in said[0]
    return request.param, runs


@pytest.mark.slow
def test_first_gradients_and_ten_losses_are_those_of_one_process(alone, together):
    count, runs = together
    for case in (case for case in runs if case not in FROZEN):
        for one, many in zip(alone[case], runs[case], strict=True):
            assert many.read("environment")["processes"] == count
            pairs = list(zip(*(torch.load(run.path / "gradients.pt") for run in (one, many)), strict=True))
            assert len(pairs) > 10
            for wanted, found in pairs:
                torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6, msg=lambda text, case=case: case + text)
            wanted, found = (torch.cat([gradient.flatten() for gradient in of]) for of in zip(*pairs, strict=True))
            assert (found - wanted).norm() < 1e-5 * wanted.norm(), case
            losses = [[line["loss"] for line in lines(run.path / "metrics.jsonl")] for run in (one, many)]
            assert len(losses[0]) == STEPS
            np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5, err_msg=case)


@pytest.mark.slow
def test_frozen_evaluations_are_those_of_one_process(alone, together):
    _, runs = together
    assert runs["knn"][0].read("result") == alone["knn"][0].read("result")
    one, many = (lines(of["linear"][0].path / "metrics.jsonl") for of in (alone, runs))
    np.testing.assert_allclose([line["loss"] for line in many], [line["loss"] for line in one], rtol=1e-5)
    assert many[-1]["top1"] == pytest.approx(one[-1]["top1"], abs=0.3)


@pytest.mark.slow
def test_one_process_tells_the_trackers(together):
    _, runs = together
    for run in flat(runs):
        files = list(run.path.glob("tensorboard/*"))
        assert len(files) == (0 if run.stage == "knn" else 1), run.path


# --------------------------------------------------------------------------------------------------- whole experiments

CASE = {
    "method": METHODS["mixmae"],
    "encoder": ENCODERS["swin"],
    "image_size": 32,
    "data": {"name": "digits"},
    "pretrain": {**TRAINING, "epochs": 24},
    "evaluations": {"finetune": {**TRAINING, "epochs": 4}, "knn": {"subset": {"fraction": 0.1}}},
}
REPEATABLE = ("metrics.jsonl", "result.json", "checkpoints/final.safetensors")


def case_file(folder: Path, **changed) -> Path:
    path = folder / "case.yaml"
    path.write_text(yaml.safe_dump(json.loads(json.dumps({**CASE, **changed}))))
    return path


def run_of(root: Path, stage: str) -> Path:
    (found,) = (path.parent for path in root.glob(f"{stage}/*/config.json"))
    return found


def begin(root: Path, file: Path, count: int = 2) -> list[Forked]:
    return several.start(count, program, "--root", root, "run", file, "--save-steps", 1)


def wait_for(condition, within_s: float = 600) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, "never happened"
        time.sleep(0.02)


def ends(processes: list[Forked], within_s: float = 600) -> tuple[list[int], list[str]]:
    said = [process.communicate(timeout=within_s)[1] for process in processes]
    return [process.returncode for process in processes], said


def all_bytes(root: Path) -> dict[str, bytes]:
    found = {}
    for config in root.glob("*/*/config.json"):
        for name in REPEATABLE:
            path = config.parent / name
            found[f"{config.parent.relative_to(root)}/{name}"] = path.read_bytes() if path.exists() else b""
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    torchrun = [Path(sys.executable).with_name("torchrun"), "--nproc-per-node", "2", "--no-python"]
    command = [*torchrun, sys.executable, "-m", "cli", "--root", folder / "runs", "run", case_file(folder)]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return folder / "runs", done.stderr


@pytest.mark.slow
def test_torchrun_runs_an_experiment_and_one_process_writes(undisturbed):
    root, said = undisturbed
    assert sorted(path.parts[-3] for path in root.glob("*/*/result.json")) == ["finetune", "knn", "pretrain"]
    log = (run_of(root, "pretrain") / "log.txt").read_text()
    assert log.count("cpu, 1 threads, 2 processes") == log.count("INFO done") == 1
    assert said.count("3/3 done") == 1
    assert len(lines(run_of(root, "pretrain") / "metrics.jsonl")) == 24


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_stops_all_and_the_run_goes_on_bit_for_bit(tmp_path, undisturbed, rank):
    file = case_file(tmp_path)
    processes = begin(tmp_path / "runs", file)
    wait_for(lambda: len(list((tmp_path / "runs").glob("pretrain/*/checkpoints/step-*.pt"))) > 1)
    processes[rank].send_signal(signal.SIGTERM)
    codes, said = ends(processes)
    assert codes == [75, 75], said
    assert json.loads((run_of(tmp_path / "runs", "pretrain") / "state.json").read_text())["state"] == "stopped"
    assert ends(begin(tmp_path / "runs", file))[0] == [0, 0]
    assert all_bytes(tmp_path / "runs") == all_bytes(undisturbed[0])


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_takes_the_other_down_and_the_run_goes_on_bit_for_bit(tmp_path, undisturbed, rank):
    root, file = tmp_path / "runs", case_file(tmp_path)
    processes = begin(root, file)
    wait_for(lambda: len(list(root.glob("pretrain/*/checkpoints/step-*.pt"))) > 1)
    processes[rank].kill()
    codes, said = ends(processes)
    assert sorted(codes) == [-signal.SIGKILL, 75], said
    found = run_state(several.RunFolder(root, "pretrain", run_of(root, "pretrain").name))
    if rank == 0:
        assert (found.state, found.reason) == ("stopped", "its process died")
        assert "process 1 ends: stopped: lost process 0: it died" in said[1]
    else:
        assert found.state == "stopped" and found.reason.startswith("lost process 1: died (killed, out")
    assert ends(begin(root, file))[0] == [0, 0]
    assert all_bytes(root) == all_bytes(undisturbed[0])


@pytest.mark.slow
def test_a_failure_of_one_process_is_in_the_log_with_its_traceback(tmp_path):
    """The unreadable image lies in the second chunk of the first step, which process 1 loads."""
    from mixmae.data.batches import epoch_order

    images = tmp_path / "images"
    small_images(images, 20)
    bad = int(epoch_order(list(range(20)), 0, 0)[19])
    path = sorted((images / "train").rglob("*.png"))[bad]
    path.write_bytes(path.read_bytes()[:50])
    data = {"name": "image_folder", "path": str(images)}
    training = {**TRAINING, "batch": 20, "subset": {}}
    file = case_file(tmp_path, data=data, evaluations={}, pretrain=training)
    codes, said = ends(begin(tmp_path / "runs", file))
    assert codes == [1, 1], said
    run = run_of(tmp_path / "runs", "pretrain")
    state, log = json.loads((run / "state.json").read_text()), (run / "log.txt").read_text()
    assert state["state"] == "failed" and state["reason"].startswith(f"process 1: {path}: cannot be read as an image")
    assert "Traceback" in log and "feed.py" not in log and "data/batches.py" in log


@pytest.mark.slow
def test_bad_input_ends_every_process(tmp_path):
    codes, said = ends(begin(tmp_path / "runs", case_file(tmp_path, pretrain={**TRAINING, "batch": "many"})))
    assert codes == [2, 2] and "many" in said[0]
    codes, said = ends(begin(tmp_path / "runs", case_file(tmp_path, pretrain={**TRAINING, "chunk": 30})))
    assert codes == [1, 1]
    what = "a batch of 30 images is 1 chunks of 30, fewer than the processes (2); start fewer, or write chunk: 15 or"
    assert what in said[0]


def small_images(folder: Path, count: int) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for number in range(count):
            path = folder / split / f"class{number % 2}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(path)


# -------------------------------------------------------------------------------------------------------------- places


def test_places_are_read_from_what_started_the_process(monkeypatch):
    for name in [name for name in os.environ if name.startswith(("SLURM_", "RANK", "WORLD_SIZE", "MASTER_"))]:
        monkeypatch.delenv(name)
    assert place() is None
    monkeypatch.setenv("RANK", "3")
    with pytest.raises(ValueError, match="RANK is set but not WORLD_SIZE, MASTER_ADDR, MASTER_PORT"):
        place()
    for name, value in {"WORLD_SIZE": "8", "MASTER_ADDR": "here", "MASTER_PORT": "1234", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    assert place() == Place(3, 8, 1, "here", 1234)
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "LOCAL_RANK"):
        monkeypatch.delenv(name)
    slurm = {"JOB_ID": 77, "PROCID": 2, "LOCALID": 0, "STEP_ID": 0, "STEP_NODELIST": "gpu[07-09,12],login"}
    for name, value in slurm.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    monkeypatch.setenv("SLURM_NTASKS", "4")
    assert place() is None, "the script of a batch job, outside of srun, is alone"
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    found = place()
    assert found == Place(2, 4, 0, "gpu07", found.port) and 20000 <= found.port < 60000
    monkeypatch.setenv("SLURM_STEP_ID", "1")
    assert place().port != found.port


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("n1", "n1"), ("n1,n2", "n1"), ("n[1-3]", "n1"), ("a-[007,012]-ib,b1", "a-007-ib"), ("r[2-3]n[10-11]", "r2n10")],
)
def test_the_first_host_of_a_node_list(nodes, first):
    assert first_host(nodes) == first
