"""How far a training run is: weights, optimiser, step, the epoch's loss so far; how it is saved and gone on with."""

import logging
import math
import time

import torch
from timm.scheduler.scheduler import Scheduler
from torch import nn

from mixmae.training import checkpoints
from mixmae.training.journal import Journal
from mixmae.training.optimisation import learning_rate
from mixmae.training.session import Session, Stopped

log = logging.getLogger(__name__)

SAVE_EVERY_S = 60.0
"""An epoch's end is saved when the last save is longer ago than this."""


class Progress:
    """The state both training loops share. `steps` is a whole number of epochs of `steps_per_epoch`."""

    def __init__(
        self,
        session: Session,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        schedule: Scheduler,
        steps_per_epoch: int,
        epochs: int,
        clip_grad: float | None,
    ):
        self.session = session
        self.model = model
        self.optimizer = optimizer
        self.schedule = schedule
        self.steps_per_epoch = steps_per_epoch
        self.epochs = epochs
        self.clip_grad = clip_grad
        self.step = 0
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=session.device)
        self.journal = Journal(session.run.path)
        self._saved_at = self._epoch_began_at = time.monotonic()
        self._epoch_began_step = 0

    def resume(self) -> None:
        """Goes on from the newest checkpoint that can be read; from the start where none was ever saved."""
        saved = checkpoints.load_newest(self.session.run.checkpoints)
        if saved is None:
            self.journal.restore([])
            return
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.step = self._epoch_began_step = saved["step"]
        self.loss_sum = saved["loss_sum"].to(self.session.device)
        self.journal.restore(saved["metrics"])
        log.info("resumed at step %d of %d", self.step, self.epochs * self.steps_per_epoch)

    def begin_step(self) -> None:
        """Sets the learning rate; raises Stopped, having saved, when asked to stop."""
        if self.session.stop():
            self.save()
            raise Stopped(f"saved at step {self.step} of {self.epochs * self.steps_per_epoch}")
        self.model.train()
        self.schedule.step_update(self.step)

    def end_step(self, loss: torch.Tensor) -> bool:
        """Takes the optimiser's step on the gradients of `loss` (detached, scalar). True at the end of an epoch."""
        if self.clip_grad is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_grad)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.loss_sum += loss
        self.step += 1
        return self.step % self.steps_per_epoch == 0

    def end_epoch(self, images_per_step: int, **measured: float) -> None:
        """Logs the epoch that just ended, with what was `measured` on the val split, and saves now and then."""
        epoch = self.step // self.steps_per_epoch
        loss = self._mean_loss(self.steps_per_epoch)
        line = {"epoch": epoch, "step": self.step, "loss": loss, "lr": learning_rate(self.optimizer), **measured}
        seconds = time.monotonic() - self._epoch_began_at
        self.journal.add(line, seconds, (self.step - self._epoch_began_step) * images_per_step)
        self.session.report(epoch=epoch, epochs=self.epochs, loss=loss, metric=measured.get("top1"))
        self.loss_sum = torch.zeros_like(self.loss_sum)
        if epoch < self.epochs and time.monotonic() - self._saved_at >= SAVE_EVERY_S:
            self.save()
        self._epoch_began_at, self._epoch_began_step = time.monotonic(), self.step

    def save(self) -> None:
        """Raises ValueError rather than save a run whose loss is no longer a number."""
        self._mean_loss(max(1, self.step % self.steps_per_epoch))
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.step // self.steps_per_epoch,
            "step": self.step,
            "loss_sum": self.loss_sum,
            "metrics": self.journal.lines,
        }
        checkpoints.save(self.session.run.checkpoints, self.step, state)
        self._saved_at = time.monotonic()

    def finish(self) -> None:
        """Writes the final weights. The step checkpoints stay until the result is written too."""
        checkpoints.write_weights(self.session.run.weights, self.model)

    def _mean_loss(self, steps: int) -> float:
        loss = self.loss_sum.item() / steps
        if not math.isfinite(loss):
            raise ValueError(f"the loss is {loss} by step {self.step}; lower base_lr or clip the gradient (clip_grad)")
        return loss
