"""The state of a training loop around one weight: steps that give no numbers, going back, what is saved."""

import math

import pytest
import torch

from mixmae.data.batches import Samples, open_split
from mixmae.data.digits.spec import DigitsConfig
from mixmae.runs.folder import RunFolder
from mixmae.training import checkpoints
from mixmae.training.feed import Feed
from mixmae.training.pretrain.spec import PretrainRecipe
from mixmae.training.processes import Processes
from mixmae.training.progress import Progress
from support.tiny_jobs import session_in


def one_weight(folder, steps_per_epoch: int, **recipe) -> tuple[Progress, torch.nn.Linear]:
    """A loop's state around a model of one weight, which starts at 1 and moves by the negative gradient."""
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.ones_(model.weight)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    settings = PretrainRecipe(epochs=9, batch=1, base_lr=256.0, min_lr=1.0, **recipe)
    samples = Samples(open_split(DigitsConfig(), "train"), torch.as_tensor, 0)
    feed = Feed(samples, list(range(steps_per_epoch)), settings, 0, Processes())
    run = RunFolder(folder, "pretrain", "x")
    run.path.mkdir(parents=True, exist_ok=True)
    progress = Progress(session_in(run), model, optimizer, settings, feed)
    progress.resume()
    return progress, model


def take(progress: Progress, model, gradient: float, loss: float) -> bool:
    progress._begin_step()
    model.weight.grad = torch.full_like(model.weight, gradient)
    progress.loss = torch.tensor(loss)
    return progress.end_step()


@pytest.mark.parametrize(("gradient", "loss"), [(math.nan, 1.0), (math.inf, 1.0), (0.5, math.nan), (0.5, math.inf)])
def test_a_step_without_numbers_is_skipped_and_counted(tmp_path, gradient, loss):
    progress, model = one_weight(tmp_path, steps_per_epoch=3, clip_grad=0.4)
    assert not take(progress, model, 0.3, 2.0)
    before = model.weight.item()
    assert not take(progress, model, gradient, loss)
    assert model.weight.item() == before == pytest.approx(0.7)
    progress.save()
    progress, model = one_weight(tmp_path, steps_per_epoch=3, clip_grad=0.4)
    assert take(progress, model, -0.5, 4.0)
    assert model.weight.item() == pytest.approx(before + 0.4), "clipped, and the saved step is not taken again"
    progress.end_epoch()
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
    name = progress.feed.names(19, 0)[0]
    what = rf"step 19 and 9 before it gave no numbers: loss 1, gradient norm nan, learning rate 1; .*images: {name}"
    with pytest.raises(ValueError, match=what):
        take(progress, model, math.nan, 1.0)


def test_a_later_epoch_goes_back_once_and_sees_its_images_in_another_order(tmp_path):
    progress, model = one_weight(tmp_path, steps_per_epoch=20)
    for _ in range(20):
        ended = take(progress, model, 0.01, 1.0)
    assert ended
    progress.end_epoch()
    at_the_end, before = model.weight.item(), progress.feed.names(20, 0)
    take(progress, model, 0.5, 1.0)
    progress.save()
    for _ in range(10):
        assert progress.step > 20
        take(progress, model, math.nan, 1.0)
    assert (progress.step, progress.restores, progress.skipped) == (20, 1, 0)
    assert model.weight.item() == at_the_end
    assert progress.feed.names(20, progress.restores) != before
    assert [path.name for path in sorted(progress.session.run.checkpoints.iterdir())] == ["step-00000020.pt"]
    progress, model = one_weight(tmp_path, steps_per_epoch=20)
    assert (progress.step, progress.restores) == (20, 1), "a restarted run does not go back another time"
    for _ in range(9):
        take(progress, model, math.nan, 1.0)
    with pytest.raises(ValueError, match="step 29 and 9 before it, after going back once, gave no numbers"):
        take(progress, model, math.nan, 1.0)


def test_a_process_that_reads_after_process_0_has_saved_anew_sees_the_same_order(tmp_path, monkeypatch):
    progress, model = one_weight(tmp_path, steps_per_epoch=10)
    for _ in range(10):
        take(progress, model, 0.01, 1.0)
    progress.end_epoch()
    load = checkpoints.load
    monkeypatch.setattr(checkpoints, "load", lambda *where: {**load(*where), "restores": 1})
    for _ in range(10):
        take(progress, model, math.nan, 1.0)
    assert (progress.step, progress.restores) == (10, 1)


def test_the_order_after_going_back_holds_the_same_images(tmp_path):
    progress, _ = one_weight(tmp_path, steps_per_epoch=20)
    names = [[progress.feed.names(step, again)[0] for step in range(20, 40)] for again in (0, 1)]
    assert names[0] != names[1] and sorted(names[0]) == sorted(names[1])


def test_saves_within_an_epoch_keep_its_beginning(tmp_path):
    progress, model = one_weight(tmp_path, steps_per_epoch=10)
    for step in range(16):
        if take(progress, model, 0.1, 1.0):
            progress.end_epoch()
        if step >= 10:
            progress.save()
    kept = sorted(path.name for path in progress.session.run.checkpoints.iterdir())
    assert kept == ["step-00000010.pt", "step-00000015.pt", "step-00000016.pt"]


def test_what_kills_left_half_written_does_not_gather(tmp_path):
    progress, model = one_weight(tmp_path, steps_per_epoch=3)
    take(progress, model, 0.1, 1.0)
    progress.save()
    for name in (".step-00000002.pt.a1b2c3", ".tmpXyZ12"):
        (progress.session.run.checkpoints / name).write_bytes(b"half")
    progress, model = one_weight(tmp_path, steps_per_epoch=3)
    assert progress.step == 1
    assert [path.name for path in progress.session.run.checkpoints.iterdir()] == ["step-00000001.pt"]


def test_checkpoints_of_another_format_are_refused(tmp_path):
    progress, model = one_weight(tmp_path, steps_per_epoch=3)
    state = {"model": model.state_dict(), "optimizer": progress.optimizer.state_dict(), "step": 1, "metrics": []}
    checkpoints.save(progress.session.run.checkpoints, 1, state)
    with pytest.raises(ValueError, match="a checkpoint of format 1, this version reads 3; go on with the version"):
        one_weight(tmp_path, steps_per_epoch=3)
