"""How far a training run is: weights, optimiser, step, the epoch's loss so far; how it is saved and gone on with."""

import logging
import resource
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from mixmae.files.records import whole_lines
from mixmae.runs.cause import Cause
from mixmae.training import checkpoints
from mixmae.training.display import Display, Length
from mixmae.training.feed import Feed
from mixmae.training.journal import Journal
from mixmae.training.optimisation import learning_rate, schedule
from mixmae.training.recipe import Optimisation
from mixmae.training.session import Session, Stopped, computation

log = logging.getLogger(__name__)

FORMAT = 3
"""Of step checkpoints; another is refused."""
SKIPS_IN_A_ROW = 10
"""Steps whose loss or gradient is non-finite before the run goes back, or gives up."""
NAMED = 8
"""Images in an error message."""


class Diverged(ValueError):
    """Loss or gradient stays non-finite; the message says since when, and what to lower."""

    cause = Cause.DIVERGED


class Progress:
    """The state both training loops share; the same on every process, and saved by the one that leads.

    A run is saved at the end of every epoch, and every so many minutes and steps as the resources say. An epoch's end
    is where it goes back to when steps are non-finite: so whether and when it is saved besides changes nothing.
    """

    def __init__(
        self, session: Session, model: nn.Module, optimizer: torch.optim.Optimizer, recipe: Optimisation, feed: Feed
    ):
        self.session, self.processes, self.feed = session, session.processes, feed
        self.model, self.optimizer, self.recipe = model, optimizer, recipe
        self.schedule = schedule(optimizer, recipe, feed.steps_per_epoch)
        self.scaler = torch.amp.GradScaler(session.device.type, enabled=recipe.precision == "float16")
        self.average = ModelEmaV3(model, decay=recipe.average_decay) if recipe.average_decay else None
        self.network = self.processes.synchronised(model)
        self.steps = recipe.epochs * feed.steps_per_epoch
        self.step = self.restores = 0
        self.loss, self.loss_sum, self.norm_sum = (self._zero() for _ in range(3))
        self.skipped = self.skipped_in_a_row = 0
        self.journal = Journal(session.run.path, self.processes.leads, session.trackers)
        self._display: Display | None = None
        self._saved_at = self._epoch_began_at = time.monotonic()
        self._epoch_began_step, self._waited_s, self._epoch_waited_s = 0, 0.0, 0.0

    def _zero(self) -> Tensor:
        return torch.zeros((), dtype=torch.float64, device=self.session.device)

    @property
    def measured(self) -> nn.Module:
        """What is evaluated and kept: the model, or its moving average where the recipe asks for one."""
        return self.average.module if self.average else self.model

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Around the training: shows it in the terminal, or once a minute in the log, where this process leads."""
        if not self.processes.leads:
            yield
            return
        run, length = self.session.run, Length(self.recipe.epochs, self.feed.steps_per_epoch, self.feed.batch)
        self._display = Display(f"{run.stage} {run.id[:8]}", length, self.step)
        try:
            yield
        finally:
            self._display.close()

    def pause(self, doing: str) -> AbstractContextManager:
        """Around what is no training."""
        return self._display.pause(doing) if self._display else nullcontext()

    # --------------------------------------------------------------------------------------------------------- steps

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """This process's part of every batch that is left, each step begun. Raises Stopped, having saved."""
        while self.step < self.steps:
            restores, asked_at = self.restores, time.monotonic()
            for batch in self.feed.batches(self.step, restores, self.session.workers):
                self._waited_s = time.monotonic() - asked_at
                self._begin_step()
                yield batch
                if restores != self.restores:
                    break
                asked_at = time.monotonic()

    def _begin_step(self) -> None:
        stop, unreadable = self._agreed(self.session.stop(), bool(self.feed.samples.fresh))
        if unreadable:
            self.feed.exchange()
        if stop:
            self.save()
            self.processes.barrier()
            raise Stopped(f"saved at step {self.step} of {self.steps}")
        self.model.train()
        self.schedule.step_update(self.step)
        self.loss = torch.zeros((), device=self.session.device)

    def _agreed(self, *flags: bool) -> list[bool]:
        """Each flag: whether any process has raised it."""
        return (self.processes.sum(torch.tensor(flags, dtype=torch.int64)) > 0).tolist()

    def accumulate(self, number: int, images: Tensor, given: Tensor) -> None:
        """Adds the gradient of chunk `number` of the batch. given: the model's second argument."""
        last = number == self.feed.chunks[-1]
        with self.processes.no_sync(self.network, last):
            with computation(self.session.device, self.recipe.precision):
                share = self.network(images, given).loss.float() / self.feed.parts
            self.loss += share.detach()
            # Gradients are averaged over the processes, each of which has a part of the sum.
            self.scaler.scale(share * self.processes.count).backward()

    def end_step(self) -> bool:
        """Takes the optimiser's step on the accumulated gradients. True at the end of an epoch.

        A step whose loss or gradient is non-finite is not taken but counted. After too many in a row the run goes back
        to the last epoch's end, once, and sees its images in another order. Raises Diverged when that does not help.
        """
        trained = [parameter for parameter in self.model.parameters() if parameter.grad is not None]
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.get_total_norm([parameter.grad for parameter in trained if parameter.grad is not None])
        loss = self.processes.sum(self.loss)
        if torch.isfinite(loss + norm):
            if self.recipe.clip_grad is not None:
                nn.utils.clip_grads_with_norm_(trained, self.recipe.clip_grad, norm)
            self.scaler.step(self.optimizer)
            if self.average:
                self.average.update(self.model)
            self.loss_sum += loss
            self.norm_sum += norm
            self.skipped_in_a_row = 0
        else:
            self._skip(loss.item(), norm.item())
        self.scaler.update()
        self.optimizer.zero_grad()
        self.step += 1
        self._epoch_waited_s += self._waited_s
        if self._display:
            figures = loss.item(), learning_rate(self.optimizer), norm.item(), peak_memory_gb(), self._waited_s
            self._display.step(self.step, *figures)
        if self._diverged():
            self._go_back(loss.item(), norm.item())
            return False
        ended = self.step % self.feed.steps_per_epoch == 0
        if not ended and self._is_time_to_save():
            self._save_if_possible()
        return ended

    def _skip(self, loss: float, norm: float) -> None:
        self.skipped += 1
        # A loss scale that can still be halved is no reason to give up.
        self.skipped_in_a_row += self.scaler.get_scale() <= 1
        log.warning("step %d skipped: %s", self.step, self._figures(loss, norm))

    def _figures(self, loss: float, norm: float) -> str:
        return f"loss {loss:g}, gradient norm {norm:g}, learning rate {learning_rate(self.optimizer):g}"

    def _diverged(self) -> bool:
        whole_epoch = self.step % self.feed.steps_per_epoch == 0 and self.skipped == self.feed.steps_per_epoch
        return self.skipped_in_a_row >= SKIPS_IN_A_ROW or whole_epoch

    def _go_back(self, loss: float, norm: float) -> None:
        failed = self.step - 1
        began = failed - failed % self.feed.steps_per_epoch
        saved = None if self.restores or not began else checkpoints.load(self.session.run.checkpoints, began)
        if saved is None:
            names = self.feed.names(failed, self.restores)
            shown = ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
            since = f"{self.skipped_in_a_row - 1} before it" + (", after going back once," if self.restores else "")
            what = f"step {failed} and {since} gave no numbers: {self._figures(loss, norm)}"
            raise Diverged(f"{what}; lower base_lr or clip the gradient (clip_grad); images: {shown}")
        log.warning("no numbers up to step %d: back to step %d, the images in another order", failed, began)
        self._set(saved)
        self.restores = 1  # process 0 may have saved anew before this one has read
        if self.processes.leads:
            checkpoints.remove_after(self.session.run.checkpoints, began)
        self.save()

    # -------------------------------------------------------------------------------------------------------- epochs

    def end_epoch(self, **measured: float) -> None:
        """Logs the epoch that just ended, with what was `measured` on the val split, if it was, and saves."""
        epoch, taken = self.step // self.feed.steps_per_epoch, self.feed.steps_per_epoch - self.skipped
        loss = self.loss_sum.item() / taken
        counted = {"grad_norm": self.norm_sum.item() / taken, "skipped_steps": self.skipped, "restores": self.restores}
        rate = learning_rate(self.optimizer)
        line = {"epoch": epoch, "step": self.step, "loss": loss, "lr": rate, **counted, **measured}
        seconds = time.monotonic() - self._epoch_began_at
        timing = {"data_wait_s": round(self._epoch_waited_s, 3), "peak_memory_gb": round(peak_memory_gb(), 3)}
        self.session.check_lease()
        self.journal.add(line, seconds, (self.step - self._epoch_began_step) * self.feed.batch, **timing)
        self.session.report(epoch=epoch, epochs=self.recipe.epochs, loss=loss, metric=measured.get(self.session.main))
        self.loss_sum, self.norm_sum, self.skipped = self._zero(), self._zero(), 0
        if self.step < self.steps:
            self._save_if_possible()
        self._epoch_began_at, self._epoch_began_step, self._epoch_waited_s = time.monotonic(), self.step, 0.0

    def finish(self) -> dict:
        """The last line of the metrics; leaves the final weights. The step checkpoints stay until the result is written
        too."""
        self.session.check_lease()
        if self.processes.leads:
            checkpoints.write_weights(self.session.run.weights, self.measured)
        return self.journal.lines[-1]

    # -------------------------------------------------------------------------------------------------------- saving

    def _is_time_to_save(self) -> bool:
        asked = self.session.resources
        by_steps = asked.save_steps and self.step % asked.save_steps == 0
        return bool(by_steps) or time.monotonic() - self._saved_at >= asked.save_minutes * 60

    def _save_if_possible(self) -> None:
        """A disk that is full now may have room before the run is to end."""
        try:
            self.save()
        except OSError as error:
            self._saved_at = time.monotonic()
            log.warning("step %d is not saved: %s; going on", self.step, error)

    def save(self) -> None:
        if not self.processes.leads:
            return
        state = {
            "format": FORMAT,
            "model": self.model.state_dict(),
            "average": self.average.module.state_dict() if self.average else None,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "epoch": self.step // self.feed.steps_per_epoch,
            "step": self.step,
            "restores": self.restores,
            "loss_sum": self.loss_sum,
            "norm_sum": self.norm_sum,
            "skipped": self.skipped,
            "skipped_in_a_row": self.skipped_in_a_row,
            "unreadable": self.feed.samples.unreadable,
            "metrics": self.journal.lines,
        }
        began = self.step - self.step % self.feed.steps_per_epoch
        self.session.check_lease()
        with self.pause("saving"):
            checkpoints.save(self.session.run.checkpoints, self.step, state, keep=(began,))
        self._saved_at = time.monotonic()

    def resume(self) -> None:
        """Goes on from the newest checkpoint that can be read; from the start where none was ever saved."""
        folder = self.session.run.checkpoints
        if self.processes.leads:
            self.session.check_lease()
            checkpoints.remove_half_written(folder)
        saved = checkpoints.load_newest(folder) if self.processes.leads else None
        step = self.processes.broadcast(saved and saved["step"])
        if step is None:
            self._begin_anew()
            return
        saved = saved or checkpoints.load(folder, step)
        if saved is None:
            raise RuntimeError(f"{folder}: process 0 reads step {step}, process {self.processes.rank} does not")
        if saved.get("format") != FORMAT:
            what = f"a checkpoint of format {saved.get('format', 1)}, this version reads {FORMAT}"
            raise ValueError(f"{folder}: {what}; go on with the version that began the run")
        self._set(saved)
        log.info("resumed at step %d of %d", self.step, self.steps)

    def _begin_anew(self) -> None:
        """What was logged without ever being saved, by a process that was killed in between, is logged again."""
        if self.processes.leads and (logged := whole_lines(self.session.run.metrics)[0]):
            what = f"{self.session.run.checkpoints} holds no checkpoint, though {len(logged)} epochs were logged"
            log.warning("%s; begins anew", what)
        self.journal.restore([])

    def _set(self, saved: dict) -> None:
        self.model.load_state_dict(saved["model"])
        if self.average:
            self.average.module.load_state_dict(saved["average"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.scaler.load_state_dict(saved["scaler"])
        self.step = self._epoch_began_step = saved["step"]
        self.restores = saved["restores"]
        self.loss_sum, self.norm_sum = (saved[name].to(self.session.device) for name in ("loss_sum", "norm_sum"))
        self.skipped, self.skipped_in_a_row = saved["skipped"], saved["skipped_in_a_row"]
        self.feed.samples.unreadable |= saved["unreadable"]
        self.journal.restore(saved["metrics"])
        self._epoch_began_at = time.monotonic()


def peak_memory_gb() -> float:
    """10^9 bytes: the most this process has had on its GPU, or of memory where it computes on the CPU."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
