"""What a budget comes to: whole epochs of a pretraining, rounded down (no torch)."""

import math
from dataclasses import dataclass, replace
from typing import Any

from mixmae.cost.multiply_adds import pretraining_step
from mixmae.data.subset import training_images
from mixmae.fields.texts import many, with_prefix

HOUR = 3600.0
SPEEDS = (0.85, 1.15)
"""Shares of the measured speed at which an equal-time comparison should hold, too."""
MOST_EPOCHS = 1_000_000
"""What comes to more is a slip: published pretrainings have up to 1,600."""


@dataclass(frozen=True)
class Resolution:
    """epochs: what a budget comes to. reached: its cost in percent of the budget. of: the budget, in words. between: of
    hours, the epochs at each of SPEEDS."""

    epochs: int
    reached: float
    of: str
    between: tuple[int, int] | None = None


class OutOfBudget(ValueError):
    """Not even one epoch fits, or more than MOST_EPOCHS; the message says what does."""


def of_multiply_adds(budget: float, job: Any) -> Resolution | None:
    """The epochs of a pretraining's job that so many multiply-adds come to; None where their number is not known."""
    an_epoch = epoch_multiply_adds(job)
    if an_epoch is None:
        return None
    of = f"{with_prefix(budget)} multiply-adds"
    return _within((budget, of), (an_epoch, job), f"multiply_adds: {_up(an_epoch):.4g}")


def of_epochs(other: Any, job: Any) -> Resolution | None:
    """The epochs that the multiply-adds of another pretraining's job come to; None where they are not known."""
    an_epoch, others = epoch_multiply_adds(job), epoch_multiply_adds(other)
    if an_epoch is None or others is None:
        return None
    of = epochs_in_words(other)
    return _within((other.recipe.epochs * others, of), (an_epoch, job), f"epochs: {-(-an_epoch // others)}")


def epochs_in_words(job: Any) -> str:
    return f"{many(job.recipe.epochs, 'epoch')} of {job.method.name}"


def hours_in_words(hours: float) -> str:
    text = f"{hours:g}"
    return f"{text} hour" if text == "1" else f"{text} hours"


def _within(budget: tuple[float, str], epoch: tuple[float, Any], least: str) -> Resolution:
    """budget: its size, and in words; epoch: what one takes, and of which job. least: the budget of one."""
    (size, of), (an_epoch, job) = budget, epoch
    if size / an_epoch > MOST_EPOCHS:
        what = f"comes to {size / an_epoch:.3g} epochs of {job.method.name} on {job.encoder.label}"
        raise OutOfBudget(f"{what}, and at most {MOST_EPOCHS:,} are taken for meant; write less")
    if epochs := _whole(size, an_epoch):
        return Resolution(epochs, 100 * epochs * an_epoch / size, of)
    what = f"an epoch of {job.method.name} on {job.encoder.label} takes {an_epoch / size:.3g} times as much"
    raise OutOfBudget(f"{of}: {what}; write {least} or more")


def of_hours(budget: float, seconds: float, job: Any) -> Resolution:
    """The epochs that so many hours come to. seconds: of a step."""
    an_epoch = epoch_hours(seconds, job)
    found = _within((budget, hours_in_words(budget)), (an_epoch, job), f"hours: {_up(an_epoch):.4g}")
    slower, faster = (_whole(budget * speed, an_epoch) for speed in SPEEDS)
    return replace(found, between=(slower, faster))


def epoch_hours(seconds: float, job: Any) -> float:
    """The hours of an epoch's steps. seconds: of a step."""
    return seconds * _steps(job) / HOUR


def epoch_multiply_adds(job: Any) -> int | None:
    """The multiply-adds of an epoch of full batches, forward and backward; None where nobody counts them."""
    an_image = pretraining_step(job)
    return None if an_image is None else an_image * _steps(job) * job.recipe.batch


def _steps(job: Any) -> int:
    """Of an epoch."""
    return training_images(job.data, job.recipe.subset) // job.recipe.batch


def _whole(budget: float, an_epoch: float) -> int:
    """Rounds down, but takes what is a whole number but for the last bits as that."""
    return math.floor(budget / an_epoch * (1 + 1e-12))


def _up(value: float) -> float:
    """Rounds up to four digits."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 3)
    return math.ceil(value / unit) * unit
