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
import several
import torch
import yaml
from tiny_jobs import ENCODERS, METHODS, experiment, lines, planned_runs

from mixmae.experiment import Resources
from mixmae.place import Place, place
from mixmae.runs import run_state

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
    resources = Resources(checkpoint_activations=request.param == 3).model_dump_json()
    script = Path(several.__file__)
    said = several.finish(several.start(request.param, [script, resources, *(run.path for run in flat(runs))]))
    assert "NaN" not in said[0]
    return request.param, runs


def test_first_gradients_and_ten_losses_are_those_of_one_process(alone, together):
    count, runs = together
    for case in (case for case in runs if case not in FROZEN):
        for one, many in zip(alone[case], runs[case], strict=True):
            assert many.read("environment")["processes"] == count
            pairs = list(zip(*(torch.load(run.path / "gradients.pt") for run in (one, many)), strict=True))
            assert len(pairs) > 10
            for wanted, found in pairs:
                torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6, msg=lambda text, case=case: case + text)
            losses = [[line["loss"] for line in lines(run.path / "metrics.jsonl")] for run in (one, many)]
            assert len(losses[0]) == STEPS
            np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5, err_msg=case)


def test_frozen_evaluations_are_those_of_one_process(alone, together):
    _, runs = together
    assert runs["knn"][0].read("result") == alone["knn"][0].read("result")
    one, many = (lines(of["linear"][0].path / "metrics.jsonl") for of in (alone, runs))
    np.testing.assert_allclose([line["loss"] for line in many], [line["loss"] for line in one], rtol=1e-5)
    assert many[-1]["top1"] == pytest.approx(one[-1]["top1"], abs=0.3)
