"""float16 with a loss scale, and the moving average of the weights that is measured and kept."""

import pytest
import torch
from safetensors.torch import load_file

from mixmae.training import checkpoints
from mixmae.training.resources import Resources
from mixmae.work.execution import execute
from support.tiny_jobs import FINETUNE, StopAfter, experiment, lines, never, planned_runs

DECAY = 0.9


def finetuning(root, **recipe):
    return planned_runs(root, experiment("supervised", evaluations={"finetune": {**FINETUNE, **recipe}}))["finetune"]


def test_the_average_of_every_step_is_kept(tmp_path, monkeypatch):
    """Against the recursion written out over the weights after each step."""
    after_each_step = []
    step = torch.optim.AdamW.step

    def noted(optimizer, *args):
        if not after_each_step:
            after_each_step.append(copied(optimizer))
        step(optimizer, *args)
        after_each_step.append(copied(optimizer))

    monkeypatch.setattr(torch.optim.AdamW, "step", noted)
    run = finetuning(tmp_path, ema_decay=DECAY)
    assert execute(run, Resources(), never) == "done"
    average, *rest = after_each_step
    assert len(rest) == lines(run.path / "metrics.jsonl")[-1]["step"]
    for weights in rest:
        average = [DECAY * old + (1 - DECAY) * new for old, new in zip(average, weights, strict=True)]
    kept = list(load_file(run.weights).values())
    for tensor in average:
        assert any(torch.allclose(tensor, other, atol=1e-6) for other in kept if other.shape == tensor.shape)
    assert not all(torch.allclose(one, two, atol=1e-6) for one, two in zip(average, rest[-1], strict=True))


def copied(optimizer) -> list[torch.Tensor]:
    return [parameter.detach().clone() for group in optimizer.param_groups for parameter in group["params"]]


def test_what_is_measured_is_the_average(tmp_path):
    """An average that hardly moves stays where the random head began: the plain run learns more."""
    slow, plain = finetuning(tmp_path, ema_decay=0.99), finetuning(tmp_path)
    assert slow.id != plain.id
    for run in (slow, plain):
        assert execute(run, Resources(), never) == "done"
    assert [line["loss"] for line in lines(slow.path / "metrics.jsonl")] == [
        line["loss"] for line in lines(plain.path / "metrics.jsonl")
    ], "the training itself is the same"
    slow_moves, plain_moves = (moves(run) for run in (slow, plain))
    assert 0 < slow_moves < plain_moves / 3


def moves(run) -> float:
    losses = [line["val_loss"] for line in lines(run.path / "metrics.jsonl")]
    return max(losses) - min(losses)


@pytest.mark.parametrize("recipe", [{"ema_decay": DECAY}, {"precision": "float16"}])
def test_stopped_runs_go_on_bit_for_bit(tmp_path, recipe):
    straight, halting = finetuning(tmp_path / "straight", **recipe), finetuning(tmp_path / "halting", **recipe)
    assert execute(straight, Resources(), never) == "done"
    assert execute(halting, Resources(), StopAfter(7)) == "stopped"
    assert execute(halting, Resources(), never) == "done"
    for name in ("metrics.jsonl", "result.json", "checkpoints/final.safetensors"):
        assert (straight.path / name).read_bytes() == (halting.path / name).read_bytes(), name


def test_float16_trains_near_float32_with_a_scale_that_is_saved(tmp_path):
    exact, half = finetuning(tmp_path), finetuning(tmp_path, precision="float16")
    assert execute(exact, Resources(), never) == "done"
    assert execute(half, Resources(), StopAfter(7)) == "stopped"
    saved = checkpoints.load_newest(half.checkpoints)["scaler"]
    assert saved["scale"] > 1
    assert execute(half, Resources(), never) == "done"
    found, wanted = (lines(run.path / "metrics.jsonl") for run in (half, exact))
    assert found != wanted
    assert [line["loss"] for line in found] == pytest.approx([line["loss"] for line in wanted], rel=0.05)


def test_an_overflow_halves_the_scale_and_is_no_reason_to_give_up(tmp_path, monkeypatch):
    begin = torch.amp.GradScaler.__init__
    too_large = {"init_scale": 2.0**32}
    monkeypatch.setattr(torch.amp.GradScaler, "__init__", lambda self, *of, **how: begin(self, *of, **how, **too_large))
    training = {"precision": "float16", "epochs": 1, "warmup_epochs": 0.0, "subset": {"fraction": 0.7}}
    run = planned_runs(tmp_path, experiment(pretrain=training))["pretrain"]
    assert execute(run, Resources(), never) == "done"
    (line,) = lines(run.path / "metrics.jsonl")
    assert 10 < line["skipped_steps"] < line["step"], "more in a row than a run without a scale survives"
