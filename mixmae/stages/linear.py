"""Stage job: a linear classifier on frozen features."""

import time

import torch
from timm.scheduler import CosineLRScheduler
from torch import nn
from torch.nn import functional as F

from mixmae.config import LinearRecipe
from mixmae.data.draws import generator, seed_everything
from mixmae.data.subset import subset
from mixmae.jobs import LinearJob
from mixmae.stages.start import central_crops, encoder_of
from mixmae.training.classification import scores
from mixmae.training.features import extract, frozen
from mixmae.training.journal import Journal
from mixmae.training.session import Session

HEAD_INIT_STD = 0.01
"""Of MAE's linear probe."""


def run(session: Session, job: LinearJob) -> dict:
    """Returns {"top1", "top5" (percent), "loss", "epochs"} of val after the last epoch. Raises Stopped."""
    train, val = central_crops(job)
    indices = subset(train.split.labels, job.recipe.subset, job.seed)
    features = frozen(encoder_of(job, session.run, drop_path=0.0), session.device)
    seen, seen_labels = extract(session, features, train, indices)
    unseen, unseen_labels = extract(session, features, val, list(range(len(val.split))))
    seen, unseen = standardised(seen, unseen)
    return _train(session, job, len(train.split.classes), (seen, seen_labels), (unseen, unseen_labels))


def standardised(train: torch.Tensor, val: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Both (N, width) less the train mean, over the train standard deviation of each feature (plus 1e-6)."""
    mean, spread = train.mean(0), train.std(0, correction=0) + 1e-6
    return (train - mean) / spread, (val - mean) / spread


def _train(session: Session, job: LinearJob, classes: int, train: tuple, val: tuple) -> dict:
    """`train` and `val` are (features, labels). The last batch of an epoch may be smaller."""
    recipe, (features, labels) = job.recipe, train
    head = _head(features.shape[1], classes, job.seed).to(session.device)
    optimizer = torch.optim.AdamW(head.parameters(), _learning_rate(recipe), weight_decay=recipe.weight_decay)
    steps = -(-len(labels) // recipe.batch)
    schedule = CosineLRScheduler(optimizer, t_initial=recipe.epochs * steps, t_in_epochs=False)
    journal = Journal(session.run.path)
    journal.restore([])
    for epoch in range(recipe.epochs):
        session.check_stop("training the linear classifier")
        began = time.monotonic()
        order = torch.from_numpy(generator(job.seed, "order", epoch).permutation(len(labels))).to(session.device)
        loss_sum = 0.0
        for number, batch in enumerate(order.split(recipe.batch)):
            schedule.step_update(epoch * steps + number)
            loss = F.cross_entropy(head(features[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss_sum += loss.item() * len(batch)
        with torch.no_grad():
            found = scores(head(val[0]), val[1])
        done = {"epoch": epoch + 1, "step": (epoch + 1) * steps, "loss": loss_sum / len(labels)}
        journal.add({**done, "lr": optimizer.param_groups[0]["lr"], **found}, time.monotonic() - began, len(labels))
        session.report(epoch=epoch + 1, epochs=recipe.epochs, loss=done["loss"], metric=found["top1"])
    return {"top1": found["top1"], "top5": found["top5"], "loss": found["val_loss"], "epochs": recipe.epochs}


def _head(width: int, classes: int, seed: int) -> nn.Linear:
    seed_everything(seed, "head")
    head = nn.Linear(width, classes)
    nn.init.normal_(head.weight, std=HEAD_INIT_STD)
    nn.init.zeros_(head.bias)
    return head


def _learning_rate(recipe: LinearRecipe) -> float:
    return recipe.base_lr * recipe.batch / recipe.base_batch
