"""Stage job: a linear classifier on frozen features."""

import logging
import math
import time
from typing import Any

import torch
from timm.optim import Lars
from timm.scheduler import CosineLRScheduler
from torch import nn
from torch.nn import functional as F

from mixmae.data.batches import subset_of
from mixmae.data.draws import generator, seed_everything
from mixmae.evaluations.accuracy import predicted, scores
from mixmae.evaluations.kept_features import features_of
from mixmae.evaluations.linear.optimum import fit, objective
from mixmae.evaluations.linear.spec import LinearRecipe
from mixmae.evaluations.predicting import keep_predictions
from mixmae.evaluations.start import central_crops
from mixmae.experiment.jobs import EvaluationJob
from mixmae.methods.perturbation import perturb
from mixmae.training.journal import Journal
from mixmae.training.processes import Processes
from mixmae.training.progress import Diverged
from mixmae.training.session import Outcome, Session

log = logging.getLogger(__name__)

HEAD_INIT_STD = 0.01
"""Of MAE's linear probe, as the two below (main_linprobe.py, util/lars.py)."""
BATCH_NORM_EPS = 1e-6
BATCH_NORM_MOMENTUM = 0.1
LARS_MOMENTUM = 0.9


def run(session: Session, job: EvaluationJob) -> Outcome:
    """Figures: top1, top5 (percent), loss, epochs, of val after the last epoch, or at the optimum, where epochs is 0.
    Raises Stopped, Diverged where the loss is not finite, and NotConverged where no optimum was reached."""
    recipe: Any = job.recipe
    train, val = central_crops(job)
    indices = subset_of(job.data, train.split, recipe.subset, job.seed)
    solves = recipe.optimizer == "lbfgs"
    if not solves:
        steps_per_epoch(len(indices), recipe)
    (seen, seen_labels), (unseen, unseen_labels) = features_of(session, job, train, indices, val)
    if recipe.features == "pixels":
        varied = seen.amax(0) > seen.amin(0)  # what no training image varies has no deviation to be divided by
        seen, unseen = seen[:, varied], unseen[:, varied]
    if recipe.standardise == "train":
        seen, unseen = standardised(seen, unseen)
    found = _solve if solves else _train
    figures, logits = found(session, job, len(train.split.classes), (seen, seen_labels), (unseen, unseen_labels))
    return Outcome(figures, keep_predictions(session, job, val, predicted(logits)))


def standardised(train: torch.Tensor, val: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Both (N, width) less the train mean, over the train standard deviation of each feature (plus 1e-6)."""
    mean, spread = train.mean(0), train.std(0, correction=0) + 1e-6
    return (train - mean) / spread, (val - mean) / spread


def steps_per_epoch(images: int, recipe: LinearRecipe) -> int:
    """Batches an epoch. Raises ValueError where there is none, or where batch_norm would get one of a single image."""
    batch = recipe.batch
    assert batch is not None, "an optimiser that takes steps"
    if recipe.full_batches:
        if images < batch:
            what = f"{images} training images are fewer than one batch of {batch}"
            raise ValueError(f"{what}; write batch: {images} or less, or full_batches: false")
        return images // batch
    if recipe.standardise == "batch_norm" and images % batch == 1:
        what = f"the last batch of {images} training images, {batch} a batch, is a single one"
        raise ValueError(f"{what}, which batch_norm cannot standardise; write full_batches: true")
    return -(-images // batch)


def _solve(session: Session, job: EvaluationJob, classes: int, train: tuple, val: tuple) -> tuple[dict, torch.Tensor]:
    """As of `_train`, at the optimum. Every process solves the whole problem; nothing is drawn at random."""
    recipe: Any = job.recipe
    features, labels = train[0].double(), train[1]
    head = nn.Linear(features.shape[1], classes)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    perturb(head, job.perturb)
    head = head.double().to(session.device)
    doing = "solving for the linear classifier"
    iterations = fit(head, features, labels, recipe.weight_decay, lambda: session.check_stop(doing))
    with torch.no_grad():
        reached = objective(head, features, labels, recipe.weight_decay).item()
        logits = head(val[0].double())
    found = scores(logits, val[1])
    log.info("optimum after %d iterations of L-BFGS: objective %.8f", iterations, reached)
    session.report(epoch=0, epochs=0, loss=reached, metric=found[session.main])
    return {"top1": found["top1"], "top5": found["top5"], "loss": found["val_loss"], "epochs": 0}, logits


def _train(session: Session, job: EvaluationJob, classes: int, train: tuple, val: tuple) -> tuple[dict, torch.Tensor]:
    """The figures, and the logits of val after the last epoch. `train` and `val` are (features, labels)."""
    recipe: Any = job.recipe
    features, labels = train
    model = _classifier(features.shape[1], classes, job, session.processes).to(session.device)
    optimizer = optimizer_of(model, recipe)
    steps = steps_per_epoch(len(labels), recipe)
    schedule = schedule_of(optimizer, recipe, steps)
    processes = session.processes
    journal = Journal(session.run.path, processes.leads, session.trackers)
    journal.restore([])
    for epoch in range(recipe.epochs):
        session.check_stop("training the linear classifier")
        began = time.monotonic()
        order = torch.from_numpy(generator(job.seed, "order", epoch).permutation(len(labels))).to(session.device)
        loss_sum, images = 0.0, 0
        model.train()
        for number, batch in enumerate(order.split(recipe.batch)[:steps]):
            schedule.step_update(epoch * steps + number)
            mine = processes.share(batch)
            loss = F.cross_entropy(model(features[mine]), labels[mine], reduction="sum") / len(batch)
            total = processes.sum(loss.detach().clone()).item()
            _check(total, epoch * steps + number, optimizer)
            optimizer.zero_grad()
            loss.backward()
            for parameter in model.parameters():
                assert parameter.grad is not None
                processes.sum(parameter.grad)
            optimizer.step()
            loss_sum += total * len(batch)
            images += len(batch)
        model.eval()
        with torch.no_grad():
            logits = model(val[0])
            found = scores(logits, val[1])
        done = {"epoch": epoch + 1, "step": (epoch + 1) * steps, "loss": loss_sum / images}
        session.check_lease()
        journal.add({**done, "lr": optimizer.param_groups[0]["lr"], **found}, time.monotonic() - began, images)
        session.report(epoch=epoch + 1, epochs=recipe.epochs, loss=done["loss"], metric=found[session.main])
    figures = {"top1": found["top1"], "top5": found["top5"], "loss": found["val_loss"], "epochs": recipe.epochs}
    return figures, logits


def _check(loss: float, step: int, optimizer: torch.optim.Optimizer) -> None:
    """Features are finite and stay the same: what is non-finite is the rate's doing, and no later step mends it."""
    if not math.isfinite(loss):
        rate = optimizer.param_groups[0]["lr"]
        raise Diverged(f"step {step} gave no numbers: loss {loss:g}, learning rate {rate:g}; lower base_lr")


def _classifier(width: int, classes: int, job: EvaluationJob, processes: Processes) -> nn.Module:
    recipe: Any = job.recipe
    seed_everything(job.seed, "head")
    head = nn.Linear(width, classes)
    nn.init.normal_(head.weight, std=HEAD_INIT_STD)
    nn.init.zeros_(head.bias)
    perturb(head, job.perturb)
    if recipe.standardise == "train":
        return head
    return nn.Sequential(BatchNorm(width, processes), head)


class BatchNorm(nn.Module):
    """torch's BatchNorm1d without scale and shift, of a batch that lies on several processes: (n, width) -> (n, width).

    Its input has no gradient, so nothing flows back through the exchange. Raises ValueError where a batch in training
    is a single image.
    """

    running_mean: torch.Tensor
    running_var: torch.Tensor

    def __init__(self, width: int, processes: Processes):
        super().__init__()
        self._processes = processes
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        mean, variance = self._of_the_batch(features) if self.training else (self.running_mean, self.running_var)
        return (features - mean) / (variance + BATCH_NORM_EPS).sqrt()

    def _of_the_batch(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        count = self._processes.sum(torch.tensor(len(features), device=features.device))
        mean = self._processes.sum(features.sum(0)) / count
        squares = self._processes.sum((features - mean).square().sum(0))
        if count < 2:
            raise ValueError("a batch of a single image has no deviation")
        self.running_mean.lerp_(mean, BATCH_NORM_MOMENTUM)
        self.running_var.lerp_(squares / (count - 1), BATCH_NORM_MOMENTUM)
        return mean, squares / count


def optimizer_of(model: nn.Module, recipe: LinearRecipe) -> torch.optim.Optimizer:
    """AdamW, or timm's LARS set as MAE's: vectors are left out of trust ratio and weight decay.

    Without weight decay the two are one rule. With it timm's trust ratio is over |gradient| + decay |w| (You et al.
    2017), MAE's over |gradient + decay w|.
    """
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(model.parameters(), _learning_rate(recipe), weight_decay=recipe.weight_decay)
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": recipe.weight_decay, "always_adapt": True},
        {"params": vectors, "weight_decay": 0.0},
    ]
    # eps would dampen the trust ratio of small gradients; zero ones have ratio 1 without it.
    return Lars(groups, lr=_learning_rate(recipe), momentum=LARS_MOMENTUM, trust_coeff=0.001, eps=0.0)


def schedule_of(optimizer: torch.optim.Optimizer, recipe: LinearRecipe, steps: int) -> CosineLRScheduler:
    """A step at a time: linear from zero over the warm-up, then half a cosine to zero. steps: an epoch."""
    assert recipe.epochs is not None, "an optimiser that takes steps"
    warmup = recipe.warmup_epochs * steps
    return CosineLRScheduler(
        optimizer,
        t_initial=recipe.epochs * steps - warmup,  # type: ignore[arg-type]  # timm computes with floats
        warmup_t=warmup,  # type: ignore[arg-type]
        warmup_prefix=True,
        t_in_epochs=False,
    )


def _learning_rate(recipe: LinearRecipe) -> float:
    assert recipe.base_lr and recipe.batch and recipe.base_batch, "an optimiser that takes steps"
    return recipe.base_lr * recipe.batch / recipe.base_batch
