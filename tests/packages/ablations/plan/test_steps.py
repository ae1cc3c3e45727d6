"""Records of a grid's steps: what is measured, by the training itself, and the budget of hours that reads it."""

import json
import os
import time
from statistics import median

import pytest
import torch

from ablations.grid.file import read_grid
from ablations.plan.plan import plan
from ablations.plan.steps import to_measure, told_apart
from mixmae.cost.step_records import step_name
from mixmae.data.digits.spec import DigitsConfig
from mixmae.data.subset import Subset, training_images
from mixmae.encoders.building import build_encoder
from mixmae.fields.texts import bytes_of
from mixmae.methods.building import build_method
from mixmae.training.pretrain import timing
from mixmae.training.pretrain.memory import peak_allocated
from mixmae.training.resources import Resources

GRID = """base: digits_nano
sweeps:
  - name: all
    set: {pretrain.batch: 8, evaluations.finetune: null, evaluations.linear: null}
    product: {method: [mixmae, mae], pretrain.epochs: [5, 10], seed: [0, 1]}
  - name: hours
    set: {pretrain.batch: 8, pretrain.budget: {hours: 0.5, measured_on: record.json}}
"""


@pytest.fixture
def grid(tmp_path):
    path = tmp_path / "grid.yaml"
    path.write_text(GRID)
    return path


@pytest.fixture
def load(monkeypatch):
    """Sets the load that this machine says it has."""
    return lambda value: monkeypatch.setattr(os, "getloadavg", lambda: (value, 9.0, 9.0))


def test_a_grids_steps_are_measured_once_each_whatever_their_epochs_rates_and_seeds(grid, tmp_path):
    found = to_measure(read_grid(grid).cases, tmp_path / "runs")
    assert [job.method.name for job in found] == ["mixmae", "mae"]
    assert all(job.recipe.budget is None for job in found)


def test_steps_of_one_method_are_told_apart_by_what_differs(tmp_path):
    (tmp_path / "grid.yaml").write_text(
        "base: digits_nano\n"
        "sweeps:\n"
        "  - {name: ratios, list: [{}, {method.ratio: 0.25}, {method.dual: false}]}\n"
        "  - {name: mae, set: {method: mae}}\n"
    )
    jobs = to_measure(read_grid(tmp_path / "grid.yaml").cases, tmp_path / "runs")
    assert told_apart(jobs) == [
        "mixmae swin_nano, batch 32, ratio 0.5, dual yes",
        "mixmae swin_nano, batch 32, ratio 0.25, dual yes",
        "mixmae swin_nano, batch 32, ratio 0.5, dual no",
        "mae swin_nano, batch 32",
    ]


def test_a_record_is_written_and_a_budget_of_hours_comes_to_its_epochs(grid, tmp_path, called, load):
    load(0.2)
    out, err = called("bench", "grid", "grid.yaml", "--output", "record.json", "--steps", "2", folder=tmp_path)
    record = json.loads((tmp_path / "record.json").read_text())
    assert (record["load"], record["steps_a_round"], record["resources"]["threads"]) == (0.2, 2, 1)
    assert [len(step["rounds"]) for step in record["steps"]] == [5, 5]
    assert all(step["seconds"] == median(step["rounds"]) > 0 for step in record["steps"])
    mixmae, mae = (step["peak_memory"] for step in record["steps"])
    assert mixmae > mae, "it encodes every image whole, and decodes it"
    assert f"{bytes_of(mae)} of memory" in out
    assert record["peak_memory_is"].startswith("bytes that torch had allocated at most")
    assert "mixmae swin_nano, batch 8: " in out
    assert "round 5 of 5" in err
    read = read_grid(grid)
    made = plan(read.name, read.cases, tmp_path / "runs")
    (arm,) = {arm for entry in made.entries for arm in entry.arms}
    epoch = record["steps"][0]["seconds"] * (training_images(DigitsConfig(), Subset()) // 8)
    assert arm.resolution.epochs == int(1800 / epoch)
    assert arm.peak_memory == mixmae
    assert not any((tmp_path / "runs").glob("pretrain/*")), "what was timed leaves no run"


def test_steps_are_taken_by_turns_and_another_comes_first_in_each_round(monkeypatch):
    order = []

    def seconds(job, resources, steps):
        order.append(job)
        return {"a": 1.0, "b": 2.0, "c": 3.0}[job] + len(order) / 100

    monkeypatch.setattr(timing, "_seconds", seconds)
    monkeypatch.setattr(timing, "_peak_memory", lambda job, resources: ord(job))
    monkeypatch.setattr(timing, "_line", lambda job, resources, times, peak: (job, [round(s) for s in times], peak))
    found = timing.measured_steps(["a", "b", "c"], Resources(), 3, 1, lambda line: None)
    assert order == [*"abc", *"bca", *"cab"]
    assert found["steps"] == [("a", [1] * 3, 97), ("b", [2] * 3, 98), ("c", [3] * 3, 99)]


def test_the_first_step_is_not_timed_and_all_of_the_others_is(monkeypatch):
    """Of a clock that is asked at 0, 10, 11, 12, …: a step takes 1."""
    times = iter([0.0, 10.0, 11.0, 12.0, 13.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(times))
    clock = timing._Clock(3)
    assert not any(clock() for _ in range(4))
    with pytest.raises(timing._Enough):
        clock()
    assert clock.seconds() == 1.0


def test_a_slower_step_measures_slower(grid, tmp_path):
    mixmae, _ = to_measure(read_grid(grid).cases, tmp_path / "runs")
    large = mixmae.model_copy(update={"recipe": mixmae.recipe.model_copy(update={"batch": 64, "chunk": 64})})
    small, slow = timing.measured_steps([mixmae, large], Resources(), 2, 2, lambda line: None)["steps"]
    assert slow["seconds"] > 2 * small["seconds"]
    assert small["step"] == step_name(mixmae, Resources().of_speed()) != slow["step"]
    assert slow["peak_memory"] > small["peak_memory"]


def test_the_memory_of_a_step_holds_at_least_what_training_keeps_and_is_the_same_again(grid, tmp_path):
    for job in to_measure(read_grid(grid).cases, tmp_path / "runs"):
        first, second = (timing._peak_memory(job, Resources()) for _ in range(2))
        model = build_method(job.method, build_encoder(job.encoder, job.image_size, 0.0))
        weights = sum(parameter.numel() * 4 for parameter in model.parameters() if parameter.requires_grad)
        assert first > 4 * weights, "weights, gradients and two moments"
        assert first == pytest.approx(second, rel=0.01)


def test_peak_memory_is_the_most_that_is_allocated_at_once():
    def run():
        one = torch.empty(1000, 1000)
        two = torch.empty(500, 1000)
        del one
        three = torch.empty(1200, 1000)
        del two, three
        torch.empty(10)

    assert 4_000_000 <= peak_allocated(lambda: torch.empty(1000, 1000)) < 4_100_000
    assert 6_800_000 <= peak_allocated(run) < 6_900_000


def test_on_a_gpu_it_is_that_of_torch(monkeypatch):
    asked = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: asked.append("reset"))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: asked.append("asked") or 5)
    assert peak_allocated(lambda: asked.append("run")) == 5
    assert asked == ["reset", "run", "asked"]


def test_a_machine_that_is_not_idle_measures_nothing(grid, tmp_path, called, load):
    load(1.7)
    _, err = called("bench", "grid", "grid.yaml", "--output", "record.json", folder=tmp_path, check=2)
    assert "this machine is not idle (load 1.7 over the last minute" in err
    assert not (tmp_path / "record.json").exists()


def test_a_grid_that_pretrains_nothing_has_no_steps(tmp_path, called, load):
    load(0.0)
    (tmp_path / "grid.yaml").write_text("base: digits_nano\nsweeps: [{name: all, set: {method: supervised}}]\n")
    _, err = called("bench", "grid", "grid.yaml", "--output", "record.json", folder=tmp_path, check=2)
    assert "the grid pretrains nothing; name one that does" in err
