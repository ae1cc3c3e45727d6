"""The classification loop: fine-tuning and training from scratch, with the val split measured after epochs."""

import logging
from typing import Any

import torch
from timm.data.mixup import Mixup, mixup_target
from torch import nn

from mixmae.data.batches import Samples, evaluation_keys, load_batches
from mixmae.data.draws import seed_everything
from mixmae.evaluations.accuracy import scores
from mixmae.evaluations.finetune.optimisation import finetuning_optimizer
from mixmae.evaluations.finetune.spec import FinetuneRecipe
from mixmae.experiment.jobs import EvaluationJob
from mixmae.training.feed import Feed
from mixmae.training.progress import Progress
from mixmae.training.session import Session, computation

log = logging.getLogger(__name__)


def classify(
    session: Session, job: EvaluationJob, model: nn.Module, train: Samples, indices: list[int], val: Samples
) -> dict:
    """Trains `model` on the samples at `indices`, from its newest checkpoint if it has one.

    The batch is cut, in order, into chunks, as for pretraining; mixup pairs images within a chunk. Returns {"top1",
    "top5" (in percent), "loss", "epochs"} of the whole val split after the last epoch, never the best
    one. Raises Stopped.
    """
    recipe: Any = job.recipe
    device = session.device
    feed = Feed(train, indices, recipe, job.seed, session.processes)
    soften = Softening(recipe, len(train.split.classes))
    optimizer = finetuning_optimizer(session.prepared(model), recipe)
    progress = Progress(session, model, optimizer, recipe, feed)
    _announce(recipe, len(indices), feed.steps_per_epoch)
    progress.resume()
    with progress.shown():
        for images, labels in progress.batches():
            chunks = zip(feed.chunks, images.split(feed.chunk), labels.split(feed.chunk), strict=True)
            for number, chunk, chunk_labels in chunks:
                seed_everything(job.seed, "mixup", progress.step, number)
                mixed, targets = soften(chunk.to(device), chunk_labels.to(device))
                seed_everything(job.seed, "forward", progress.step, number)
                progress.accumulate(number, mixed, targets)
            if progress.end_step():
                figures: dict[str, float] = {}
                if recipe.evaluates_after(progress.step // feed.steps_per_epoch):
                    with progress.pause("validating"):
                        figures = validate(session, progress.measured, val, recipe)
                progress.end_epoch(**figures)
    last = progress.finish()
    return {"top1": last["top1"], "top5": last["top5"], "loss": last["val_loss"], "epochs": recipe.epochs}


class Softening:
    """Mixup or CutMix (one of the two a batch, timm's) and label smoothing: (images, labels) -> (images, soft targets).

    Images (B, 3, H, W), labels (B,), targets (B, classes).
    """

    def __init__(self, recipe: FinetuneRecipe, classes: int):
        self.classes = classes
        self.smoothing = recipe.label_smoothing
        self.mixes = recipe.mixup > 0 or recipe.cutmix > 0
        self._mixup = Mixup(recipe.mixup, recipe.cutmix, label_smoothing=self.smoothing, num_classes=classes)

    def __call__(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self.mixes:
            return self._mixup(images, labels)
        return images, mixup_target(labels, self.classes, lam=1.0, smoothing=self.smoothing)


@torch.no_grad()
def validate(session: Session, model: nn.Module, val: Samples, recipe: FinetuneRecipe) -> dict[str, float]:
    """Mean cross-entropy and accuracies of every image of the val split, of which each process takes whole batches."""
    model.eval()
    processes, logits, labels = session.processes, [], []
    batches = processes.share(list(evaluation_keys(list(range(len(val.split))), recipe.batch)))
    for images, targets in load_batches(val, batches, session.workers):
        images, targets = images.to(session.device), targets.to(session.device)
        with computation(session.device, recipe.precision):
            logits.append(model(images, targets).prediction.float())
        labels.append(targets)
    for unreadable in processes.all_gather_objects(val.unreadable):
        val.note(unreadable)
    return scores(processes.all_gather(logits), processes.all_gather(labels))


def _announce(recipe: FinetuneRecipe, images: int, steps_per_epoch: int) -> None:
    log.info("learning rate %g (%g x %d / %d)", recipe.lr, recipe.base_lr, recipe.batch, recipe.base_batch)
    log.info("batch of %d images, layer decay %g", recipe.batch, recipe.layer_decay)
    log.info("%d images, %d steps an epoch, %d steps", images, steps_per_epoch, steps_per_epoch * recipe.epochs)
