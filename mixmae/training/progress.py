"""How far a training run is: weights, optimiser, step, the epoch's loss so far; how it is saved and gone on with."""

import logging
import time
from collections.abc import Callable

import torch
from timm.scheduler.scheduler import Scheduler
from torch import nn

from mixmae.training import checkpoints
from mixmae.training.journal import Journal
from mixmae.training.optimisation import learning_rate
from mixmae.training.session import Session, Stopped

log = logging.getLogger(__name__)

FORMAT = 2
"""Of step checkpoints; another is refused."""

SAVE_EVERY_S = 60.0
"""An epoch's end is saved when the last save is longer ago than this."""

SKIPS_IN_A_ROW = 10
"""Steps whose loss or gradient is no number before the run gives up."""


class Progress:
    """The state both training loops share. `steps` is a whole number of epochs of `steps_per_epoch`.

    images_of: the names of the images of a step's batch, asked for when a run gives up.
    """

    def __init__(
        self,
        session: Session,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        schedule: Scheduler,
        steps_per_epoch: int,
        epochs: int,
        clip_grad: float | None,
        images_of: Callable[[int], list[str]],
    ):
        self.session = session
        self.model = model
        self.optimizer = optimizer
        self.schedule = schedule
        self.steps_per_epoch = steps_per_epoch
        self.epochs = epochs
        self.clip_grad = clip_grad
        self.images_of = images_of
        self.step = 0
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=session.device)
        self.norm_sum = torch.zeros((), dtype=torch.float64, device=session.device)
        self.skipped = self.skipped_in_a_row = 0
        self.journal = Journal(session.run.path)
        self._saved_at = self._epoch_began_at = time.monotonic()
        self._epoch_began_step = 0

    def resume(self) -> None:
        """Goes on from the newest checkpoint that can be read; from the start where none was ever saved."""
        saved = checkpoints.load_newest(self.session.run.checkpoints)
        if saved is None:
            self.journal.restore([])
            return
        if saved.get("format") != FORMAT:
            what = f"a checkpoint of format {saved.get('format', 1)}, this version reads {FORMAT}"
            raise ValueError(f"{self.session.run.checkpoints}: {what}; go on with the version that began the run")
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.step = self._epoch_began_step = saved["step"]
        self.loss_sum = saved["loss_sum"].to(self.session.device)
        self.norm_sum = saved["norm_sum"].to(self.session.device)
        self.skipped, self.skipped_in_a_row = saved["skipped"], saved["skipped_in_a_row"]
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
        """Takes the optimiser's step on the gradients of `loss` (detached, scalar). True at the end of an epoch.

        A step whose loss or gradient is no number is not taken but counted. Raises ValueError after too many in a row.
        """
        trained = [parameter for parameter in self.model.parameters() if parameter.grad is not None]
        norm = nn.utils.get_total_norm([parameter.grad for parameter in trained])
        if torch.isfinite(loss + norm):
            if self.clip_grad is not None:
                nn.utils.clip_grads_with_norm_(trained, self.clip_grad, norm)
            self.optimizer.step()
            self.loss_sum += loss
            self.norm_sum += norm
            self.skipped_in_a_row = 0
        else:
            self._skip(loss.item(), norm.item())
        self.optimizer.zero_grad()
        self.step += 1
        return self.step % self.steps_per_epoch == 0

    def _skip(self, loss: float, norm: float) -> None:
        self.skipped += 1
        self.skipped_in_a_row += 1
        what = f"loss {loss:g}, gradient norm {norm:g}, learning rate {learning_rate(self.optimizer):g}"
        log.warning("step %d skipped: %s", self.step, what)
        last = self.step % self.steps_per_epoch == self.steps_per_epoch - 1
        if self.skipped_in_a_row >= SKIPS_IN_A_ROW or (last and self.skipped == self.steps_per_epoch):
            names = self.images_of(self.step)
            shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
            before = self.skipped_in_a_row - 1
            advice = "lower base_lr or clip the gradient (clip_grad)"
            raise ValueError(
                f"step {self.step} and {before} before it gave no numbers: {what}; {advice}; images: {shown}"
            )

    def end_epoch(self, images_per_step: int, **measured: float) -> None:
        """Logs the epoch that just ended, with what was `measured` on the val split, and saves now and then."""
        epoch = self.step // self.steps_per_epoch
        taken = self.steps_per_epoch - self.skipped
        loss = self.loss_sum.item() / taken
        counted = {"grad_norm": self.norm_sum.item() / taken, "skipped_steps": self.skipped}
        rate = learning_rate(self.optimizer)
        line = {"epoch": epoch, "step": self.step, "loss": loss, "lr": rate, **counted, **measured}
        seconds = time.monotonic() - self._epoch_began_at
        self.journal.add(line, seconds, (self.step - self._epoch_began_step) * images_per_step)
        self.session.report(epoch=epoch, epochs=self.epochs, loss=loss, metric=measured.get("top1"))
        self.loss_sum, self.norm_sum, self.skipped = torch.zeros_like(self.loss_sum), torch.zeros_like(self.norm_sum), 0
        if epoch < self.epochs and time.monotonic() - self._saved_at >= SAVE_EVERY_S:
            self.save()
        self._epoch_began_at, self._epoch_began_step = time.monotonic(), self.step

    def save(self) -> None:
        state = {
            "format": FORMAT,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.step // self.steps_per_epoch,
            "step": self.step,
            "loss_sum": self.loss_sum,
            "norm_sum": self.norm_sum,
            "skipped": self.skipped,
            "skipped_in_a_row": self.skipped_in_a_row,
            "metrics": self.journal.lines,
        }
        checkpoints.save(self.session.run.checkpoints, self.step, state)
        self._saved_at = time.monotonic()

    def finish(self) -> None:
        """Writes the final weights. The step checkpoints stay until the result is written too."""
        checkpoints.write_weights(self.session.run.weights, self.model)
