"""The pretraining loop, the same for every method."""

import logging
from typing import Any

from mixmae.data.batches import Samples
from mixmae.data.draws import generator, seed_everything
from mixmae.experiment.jobs import PretrainJob
from mixmae.methods.methods import methods
from mixmae.training.feed import Feed
from mixmae.training.optimisation import pretraining_optimizer
from mixmae.training.progress import Progress
from mixmae.training.session import Session

log = logging.getLogger(__name__)


def pretrain(session: Session, job: PretrainJob, method: Any, samples: Samples, indices: list[int]) -> dict:
    """Trains `method` on the samples at `indices`, from its newest checkpoint if it has one.

    The batch is cut, in order, into chunks; a chunk has one mask and one seed for what the forward pass draws (drop
    path, noise). Returns {"loss", "epochs", "steps", "images"}, the loss being the last epoch's mean. Raises Stopped.
    """
    recipe: Any = job.recipe
    feed = Feed(samples, indices, recipe, job.seed, session.processes)
    optimizer = pretraining_optimizer(session.prepared(method), recipe)
    progress = Progress(session, method, optimizer, recipe, feed)
    _announce(job, len(indices), feed.steps_per_epoch)
    progress.resume()
    with progress.shown():
        for images, _ in progress.batches():
            for number, chunk in zip(feed.chunks, images.split(feed.chunk), strict=True):
                seed_everything(job.seed, "forward", progress.step, number)
                mask = method.draw_mask(len(chunk), generator(job.seed, "mask", progress.step, number))
                progress.accumulate(number, chunk.to(session.device, non_blocking=True), mask)
            if progress.end_step():
                progress.end_epoch()
    last = progress.finish()
    return {"loss": last["loss"], "epochs": recipe.epochs, "steps": last["step"], "images": last["step"] * recipe.batch}


def _announce(job: PretrainJob, images: int, steps_per_epoch: int) -> None:
    assert job.encoder is not None
    recipe: Any = job.recipe
    spec = methods[job.method.name]
    unit = spec.mask_unit(job.method, job.encoder)
    cells = (job.image_size[0] // unit) * (job.image_size[1] // unit)
    log.info("learning rate %g (%g x %d / %d)", recipe.lr, recipe.base_lr, recipe.batch, recipe.base_batch)
    log.info("batch of %d images, cut into chunks of %d", recipe.batch, recipe.chunk)
    log.info("%d images, %d steps an epoch, %d steps", images, steps_per_epoch, steps_per_epoch * recipe.epochs)
    log.info("%s hides %d of %d units of %d px", job.method.name, spec.hidden(job.method, cells), cells, unit)
