"""Whether the trainings behind a table's figures are long enough: what twice their epochs change (no torch)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from mixmae.experiment.metric import Metric
from mixmae.fields.texts import many
from mixmae.presentation.columns import BUDGET, SCORED
from mixmae.presentation.shown import BySetting, Shown, by_setting

CONVERGED = 0.5
"""Points: a length is converged where twice its epochs change the mean by less."""
LENGTH = "evaluation.epochs"
_WITH_LENGTH = ("evaluation.warmup_epochs", "evaluation.warmup_steps", "evaluation.decay_epochs")
_OF_NO_SETTING = ("seed", LENGTH, *_WITH_LENGTH, "evaluation.evaluate_every", SCORED)
"""Fields in which runs of other lengths may differ from those of a cell, which are of the same setting."""

Figures = Mapping[Any, float]
"""By seed and split."""


@dataclass(frozen=True)
class Doubling:
    """What a doubling to `epochs` changes in the mean over `runs` of both lengths."""

    epochs: int
    gain: float
    runs: int


def last_doubling(curve: Mapping[int, Figures], epochs: int) -> Doubling | None:
    """The doubling of `epochs`; where that was not run, the one that leads to them; None without either.

    curve: figures by epochs.
    """
    for shorter in (epochs, epochs // 2 if epochs % 2 == 0 else 0):
        before, after = curve.get(shorter, {}), curve.get(2 * shorter, {})
        if both := before.keys() & after.keys():
            return Doubling(2 * shorter, fmean(after[one] - before[one] for one in both), len(both))
    return None


@dataclass(frozen=True)
class Lengths:
    """Runs of several lengths: the stages that they are of, and those that are done, by their setting."""

    stages: frozenset[str]
    done: BySetting


def lengths_of(runs: Sequence[Shown]) -> Lengths:
    return Lengths(frozenset(run.key[0] for run in runs), by_setting(runs, _of_no_setting))


def unconverged(runs: Sequence[Shown], lengths: Lengths, metric: Metric) -> str | None:
    """What is to be said of a cell of `runs` whose training is not known to be long enough; "" where it is. None where
    they train nothing, where their figure has no points, or where no run of several lengths is of their stage."""
    epochs = runs[0].value(LENGTH) if runs else None
    if not epochs or runs[0].key[0] not in lengths.stages or metric.difference_unit != "points":
        return None
    curve: dict[int, dict[Any, float]] = {}
    for run in lengths.done.get(runs[0].setting(_of_no_setting), ()):
        curve.setdefault(run.value(LENGTH), {})[run.seed, run.value(SCORED)] = run.figures[metric.name]
    found = last_doubling(curve, epochs)
    unknown = f"not known to have converged after {many(epochs, 'epoch')}"
    if found is None:
        return f"{unknown}: no run of this setting has them, and one twice as many"
    gain = metric.text(found.gain) if found.gain < 0 else f"+{metric.text(found.gain)}"
    what = f"{found.epochs} in place of {found.epochs // 2} epochs change it by {gain} {metric.difference_unit}"
    said = f"{what} ({many(found.runs, 'seed')})"
    if abs(found.gain) >= CONVERGED:
        return f"not converged: {said}"
    return "" if found.epochs > epochs else f"{unknown}: twice as many were not run; {said}"


def note(marks: Sequence[str]) -> Iterator[str]:
    """Yields how cells came by their marks, where there are any. marks: of the cells that train something."""
    if marks:
        what = f"twice its epochs change the mean over seeds run with both by less than {CONVERGED:g} points"
        which = "what is not, or not known to be, is marked" if any(marks) else "as is all of it here"
        yield f"Training is converged where {what}; {which}."


def _of_no_setting(path: str) -> bool:
    return path in _OF_NO_SETTING or path.startswith(BUDGET)
