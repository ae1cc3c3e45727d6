"""The state of a training loop around one weight: steps that give no numbers, and checkpoints of other formats."""

import math

import pytest
import torch
from timm.scheduler import CosineLRScheduler
from tiny_jobs import never

from mixmae.runs import RunFolder
from mixmae.training import checkpoints
from mixmae.training.progress import Progress
from mixmae.training.session import Session


def one_weight(folder, steps_per_epoch: int, clip: float | None = None) -> tuple[Progress, torch.nn.Linear]:
    """A loop's state around a model of one weight, which starts at 1."""
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.ones_(model.weight)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    rates = CosineLRScheduler(optimizer, t_initial=10**6, t_in_epochs=False)
    session = Session(RunFolder(folder, "pretrain", "x"), torch.device("cpu"), 0, never, lambda **_: None)
    session.run.path.mkdir(parents=True, exist_ok=True)
    progress = Progress(session, model, optimizer, rates, steps_per_epoch, 9, clip, lambda step: [f"image{step}"])
    progress.resume()
    return progress, model


def take(progress: Progress, model, gradient: float, loss: float) -> bool:
    progress.begin_step()
    model.weight.grad = torch.full_like(model.weight, gradient)
    return progress.end_step(torch.tensor(loss))


@pytest.mark.parametrize(("gradient", "loss"), [(math.nan, 1.0), (math.inf, 1.0), (0.5, math.nan), (0.5, math.inf)])
def test_a_step_without_numbers_is_skipped_and_counted(tmp_path, gradient, loss):
    progress, model = one_weight(tmp_path, steps_per_epoch=3, clip=0.4)
    assert not take(progress, model, 0.3, 2.0)
    before = model.weight.item()
    assert not take(progress, model, gradient, loss)
    assert model.weight.item() == before == pytest.approx(0.7)
    progress.save()
    progress, model = one_weight(tmp_path, steps_per_epoch=3, clip=0.4)
    assert take(progress, model, -0.5, 4.0)
    assert model.weight.item() == pytest.approx(before + 0.4), "clipped, and the saved step is not taken again"
    progress.end_epoch(1)
    line = progress.journal.lines[-1]
    assert (line["loss"], line["skipped_steps"]) == (3.0, 1)
    assert line["grad_norm"] == pytest.approx(0.4), "the mean of 0.3 and 0.5, before clipping"


def test_too_many_skips_in_a_row_end_the_run_and_name_the_images(tmp_path):
    progress, model = one_weight(tmp_path, steps_per_epoch=100)
    for _ in range(9):
        take(progress, model, math.nan, 1.0)
    take(progress, model, 0.1, 1.0)
    for _ in range(9):
        take(progress, model, math.nan, 1.0)
    with pytest.raises(ValueError, match="step 19 and 9 before it gave no numbers: loss 1, gradient norm nan.*image19"):
        take(progress, model, math.nan, 1.0)


def test_checkpoints_of_another_format_are_refused(tmp_path):
    progress, model = one_weight(tmp_path, steps_per_epoch=3)
    state = {"model": model.state_dict(), "optimizer": progress.optimizer.state_dict(), "step": 1, "metrics": []}
    checkpoints.save(progress.session.run.checkpoints, 1, state)
    with pytest.raises(ValueError, match="a checkpoint of format 1, this version reads 2; go on with the version"):
        one_weight(tmp_path, steps_per_epoch=3)
