"""The pretraining loop, the same for every method."""

import logging

import torch
from torch import nn

from mixmae.data.batches import Samples, load, training_keys
from mixmae.data.draws import generator, seed_everything
from mixmae.experiment import hidden_units, mask_unit
from mixmae.jobs import PretrainJob
from mixmae.training.optimisation import pretraining_optimizer, schedule
from mixmae.training.progress import Progress
from mixmae.training.session import Session, computation

log = logging.getLogger(__name__)


def pretrain(session: Session, job: PretrainJob, method: nn.Module, samples: Samples, indices: list[int]) -> dict:
    """Trains `method` on the samples at `indices`, from its newest checkpoint if it has one.

    The batch is cut, in order, into chunks; a chunk has one mask and one seed for what the forward pass draws (drop
    path, noise). Returns {"loss", "epochs", "steps", "images"}, the loss being the last epoch's mean. Raises Stopped.
    """
    recipe, device = job.recipe, session.device
    steps_per_epoch = full_batches(len(indices), recipe.batch)
    optimizer = pretraining_optimizer(session.prepared(method), recipe)
    rates = schedule(optimizer, recipe, steps_per_epoch)
    shape = steps_per_epoch, recipe.epochs, recipe.clip_grad

    def images_of(step: int) -> list[str]:
        batch = next(training_keys(indices, recipe.batch, job.seed, recipe.epochs, step))
        return [samples.split.name(index) for _, index in batch]

    progress = Progress(session, method, optimizer, rates, *shape, images_of)
    _announce(job, len(indices), steps_per_epoch)
    progress.resume()
    keys = training_keys(indices, recipe.batch, job.seed, recipe.epochs, progress.step)
    for images, _ in load(samples, keys, session.workers):
        progress.begin_step()
        loss = torch.zeros((), device=device)
        chunks = images.split(recipe.chunk)
        for number, chunk in enumerate(chunks):
            seed_everything(job.seed, "forward", progress.step, number)
            mask = method.draw_mask(len(chunk), generator(job.seed, "mask", progress.step, number))
            with computation(device, recipe.precision):
                share = method(chunk.to(device, non_blocking=True), mask).loss.float() / len(chunks)
            share.backward()
            loss += share.detach()
        if progress.end_step(loss):
            progress.end_epoch(recipe.batch)
    progress.finish()
    last = progress.journal.lines[-1]
    return {"loss": last["loss"], "epochs": recipe.epochs, "steps": last["step"], "images": last["step"] * recipe.batch}


def full_batches(images: int, batch: int) -> int:
    """Full batches an epoch. Raises ValueError where there is none."""
    if images < batch:
        raise ValueError(f"{images} training images are fewer than one batch of {batch}; write batch: {images} or less")
    return images // batch


def _announce(job: PretrainJob, images: int, steps_per_epoch: int) -> None:
    recipe, unit = job.recipe, mask_unit(job.method, job.encoder)
    cells = (job.image_size[0] // unit) * (job.image_size[1] // unit)
    log.info("learning rate %g (%g x %d / %d)", recipe.lr, recipe.base_lr, recipe.batch, recipe.base_batch)
    log.info("batch of %d images, cut into chunks of %d", recipe.batch, recipe.chunk)
    log.info("%d images, %d steps an epoch, %d steps", images, steps_per_epoch, steps_per_epoch * recipe.epochs)
    log.info("%s hides %d of %d units of %d px", job.method.name, hidden_units(job.method, cells), cells, unit)
