"""All stages on a folder with unreadable images: the same bits for any number of loading processes."""

import json

import numpy as np
import pytest
from PIL import Image

from mixmae.experiment.experiment import Experiment
from mixmae.training.resources import Resources
from mixmae.work.execution import execute
from support.tiny_jobs import DECODER, ENCODERS, FINETUNE, PRETRAIN, never, planned_runs

pytestmark = pytest.mark.slow


def hostile(folder) -> None:
    """Two classes, 24 images each to train on and 8 to validate; two of each class in train, one in val damaged."""
    random = np.random.default_rng(0)
    for split, count, bad in (("train", 24, (3, 11)), ("val", 8, (5,))):
        for name in ("cat", "dog"):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                path = folder / split / name / f"{number:02}.png"
                Image.fromarray(random.integers(0, 255, (20, 40, 3), dtype=np.uint8)).save(path)
                if number in bad:
                    path.write_bytes(path.read_bytes()[: 100 * (number % 2)])


def run_all(root, data, bad_files: int, workers: int):
    evaluations = {
        "finetune": {**FINETUNE, "batch": 16, "epochs": 2, "subset": {}},
        "linear": {"epochs": 2, "batch": 8},
        "knn": {"k": 5},
    }
    experiment = Experiment.model_validate(
        {
            "method": {"name": "mixmae", **DECODER},
            "encoder": ENCODERS["swin"],
            "image_size": (16, 32),
            "data": {"name": "image_folder", "path": str(data), "bad_files": bad_files},
            "pretrain": {**PRETRAIN, "epochs": 2, "subset": {}},
            "evaluations": evaluations,
        }
    )
    runs = planned_runs(root, experiment)
    ended = {stage: execute(run, Resources(workers=workers), never) for stage, run in runs.items()}
    return runs, ended


def test_unreadable_images_within_the_limit_change_nothing_by_workers(tmp_path):
    hostile(tmp_path / "data")
    alone, ended = run_all(tmp_path / "alone", tmp_path / "data", 4, workers=0)
    assert set(ended.values()) == {"done"}
    several, ended = run_all(tmp_path / "several", tmp_path / "data", 5, workers=2)
    assert set(ended.values()) == {"done"}
    assert {stage: run.id for stage, run in alone.items()} == {stage: run.id for stage, run in several.items()}
    for stage, run in alone.items():
        for name in ("result.json", "metrics.jsonl"):
            if (run.path / name).exists():
                assert (run.path / name).read_bytes() == (several[stage].path / name).read_bytes(), (stage, name)
    log = (alone["pretrain"].path / "log.txt").read_text()
    assert log.count("cannot be read as an image") == 4
    assert json.loads((alone["pretrain"].path / "result.json").read_text())["images"] == 64


@pytest.mark.parametrize("workers", [0, 1])
def test_one_too_many_fails_by_name(tmp_path, workers):
    hostile(tmp_path / "data")
    runs, ended = run_all(tmp_path / "runs", tmp_path / "data", 3, workers)
    reason = runs["pretrain"].read("state")["reason"]
    assert ended["pretrain"] == "failed"
    assert "more than data.bad_files: 3 allows" in reason and reason.count(".png: cannot be read") == 4
