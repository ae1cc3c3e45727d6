"""Twins: runs whose first weights are off by one unit in the last place."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from mixmae.data.draws import generator
from mixmae.evaluations.start import encoder_of
from mixmae.experiment.jobs import job_of, stage_jobs
from mixmae.methods.perturbation import perturb
from mixmae.training.resources import Resources
from mixmae.work.execution import execute
from support.tiny_jobs import FINETUNE, StopAfter, experiment, never, planned_runs

SMALL = {"fraction": 0.1}
EVALUATIONS = {
    "finetune": {**FINETUNE, "epochs": 2, "warmup_epochs": 1.0},
    "linear": {"epochs": 5, "subset": SMALL},
    "knn": {"subset": SMALL},
}


def perturbed_experiment(number: int, method: str = "mixmae", seed: int = 0):
    plain = experiment(method, pretrain={"epochs": 2}, evaluations=EVALUATIONS, seed=seed)
    return plain.model_copy(update={"perturb": number})


def model() -> nn.Module:
    torch.manual_seed(0)
    made = nn.Sequential(nn.Linear(7, 5), nn.LayerNorm(5))
    made[0].bias.data[:2] = torch.tensor([0.0, -0.0])
    made.fixed = nn.Parameter(torch.ones(3), requires_grad=False)
    made.register_buffer("running", torch.ones(3))
    return made


def test_every_trained_weight_moves_to_its_neighbour():
    before, after = model(), model()
    perturb(after, 3)
    for (name, old), new in zip(before.named_parameters(), after.parameters(), strict=True):
        if not old.requires_grad:
            assert torch.equal(old, new)
            continue
        signs = generator(3, f"perturb {name}").integers(2, size=old.shape)
        for place in np.ndindex(*old.shape):
            towards = np.float32(np.inf if signs[place] else -np.inf)
            expected = np.nextafter(np.float32(old.detach().numpy()[place]), towards)
            assert new.detach().numpy()[place] == expected != old.detach().numpy()[place], (name, place)
    assert torch.equal(after.running, torch.ones(3))
    assert 0 < (after[0].weight > before[0].weight).float().mean() < 1


def test_numbers_differ_and_repeat_and_draw_nothing_else():
    plain, none, one, again, two = (model() for _ in range(5))
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    for made, number in ((none, 0), (one, 1), (again, 1), (two, 2)):
        perturb(made, number)
    assert torch.equal(torch.rand(3), expected)
    weights = [made[0].weight for made in (plain, none, one, again, two)]
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(weights[2], weights[3])
    assert not torch.equal(weights[2], weights[4])


def test_a_perturbed_job_is_another_and_0_is_none():
    def ids(exp):
        return [job.id for job in stage_jobs(exp, lambda data: "test")]

    plain = ids(experiment(pretrain={"epochs": 2}, evaluations=EVALUATIONS))
    assert ids(perturbed_experiment(0)) == plain
    found = [*plain, *ids(perturbed_experiment(1)), *ids(perturbed_experiment(2))]
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("method", ["mixmae", "supervised"])
def test_twins_come_apart_and_repeat(tmp_path, method):
    """Of a pretraining with its evaluations, and from scratch: other bits, near figures, the same for the same number;
    a twin that was stopped goes on to its own bits."""
    left = {}
    for name, number in (("plain", 0), ("one", 1), ("again", 1)):
        runs = planned_runs(tmp_path / name, perturbed_experiment(number, method))
        for run in runs.values():
            if name == "again" and run.stage in ("pretrain", "finetune"):
                assert execute(run, Resources(), StopAfter(3)) == "stopped"
            assert execute(run, Resources(), never) == "done", run.read("state")
        left[name] = {stage: run.read("result") for stage, run in runs.items()}
    assert left["one"] == left["again"]
    for stage in ("pretrain", "finetune"):
        if stage in left["one"]:
            assert left["plain"][stage]["files"] != left["one"][stage]["files"]
            assert left["plain"][stage]["loss"] == pytest.approx(left["one"][stage]["loss"], rel=0.05)


def test_random_encoders_are_perturbed_and_loaded_ones_are_not(tmp_path):
    runs = planned_runs(tmp_path, perturbed_experiment(1))
    execute(runs["pretrain"], Resources(), never)
    job = job_of(runs["knn"].read("config")["job"])
    weights = load_file(runs["pretrain"].weights)
    for name, tensor in encoder_of(job, runs["knn"], drop_path=0.0).state_dict().items():
        assert torch.equal(tensor, weights[f"encoder.{name}"]), name
    random = job.model_copy(update={"pretraining": None})
    moved = encoder_of(random, runs["knn"], drop_path=0.0)
    plain = encoder_of(random.model_copy(update={"perturb": 0}), runs["knn"], drop_path=0.0)
    perturb(plain, 1)
    assert all(map(torch.equal, moved.state_dict().values(), plain.state_dict().values()))
