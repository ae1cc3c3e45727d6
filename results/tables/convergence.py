"""Whether the trainings behind a table's figures are long enough: what twice their epochs change (no torch)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from mixmae.experiment.metric import Metric
from mixmae.fields.texts import many
from mixmae.presentation.columns import ALIASES
from mixmae.presentation.shown import Shown

CONVERGED = 0.5
"""Points: a length is converged where twice its epochs change the mean by less."""
LENGTH = "evaluation.epochs"
_WITH_LENGTH = ("evaluation.warmup_epochs", "evaluation.warmup_steps", "evaluation.decay_epochs")
_OF_NO_SETTING = ("seed", LENGTH, *_WITH_LENGTH, "evaluation.evaluate_every", "evaluation.measure")
"""Fields in which runs of other lengths may differ from those of a cell, which are of the same setting."""
BUDGET = ALIASES["budget"].path
"""How the columns of budgets begin, which come to epochs that are told."""

Figures = Mapping[int, float]
"""By seed."""


@dataclass(frozen=True)
class Doubling:
    """What a doubling of the epochs changes in the mean over `seeds` that were run with both."""

    epochs: int
    gain: float
    seeds: int


def last_doubling(curve: Mapping[int, Figures], epochs: int) -> Doubling | None:
    """The doubling of `epochs`; where that was not run, the one that leads to them; None without either.

    curve: figures by epochs, then by seed.
    """
    for shorter in (epochs, epochs // 2 if epochs % 2 == 0 else 0):
        before, after = curve.get(shorter, {}), curve.get(2 * shorter, {})
        if both := before.keys() & after.keys():
            return Doubling(2 * shorter, fmean(after[seed] - before[seed] for seed in both), len(both))
    return None


def unconverged(runs: Sequence[Shown], others: Iterable[Shown], metric: Metric) -> str | None:
    """What is to be said of a cell of `runs` whose training is not known to be long enough; "" where it is. None where
    they train nothing, or where no run of their evaluation is among `others`, those of other lengths and seeds."""
    epochs = runs[0].value(LENGTH) if runs else None
    alike = [run for run in others if runs and run.key[0] == runs[0].key[0]]
    if not epochs or not alike:
        return None
    setting = runs[0].setting(_not_of_setting)
    curve: dict[int, dict[int, float]] = {}
    for run in alike:
        if run.done and run.setting(_not_of_setting) == setting:
            curve.setdefault(run.value(LENGTH), {})[run.seed] = run.figures[metric.name]
    found = last_doubling(curve, epochs)
    if found is None:
        return f"whether {many(epochs, 'epoch')} are enough is not known: twice as many were not run"
    if abs(found.gain) < CONVERGED:
        return ""
    gain = metric.text(found.gain) if found.gain < 0 else f"+{metric.text(found.gain)}"
    what = f"{found.epochs} in place of {found.epochs // 2} epochs change it by {gain} {metric.difference_unit}"
    return f"not converged: {what} ({many(found.seeds, 'seed')})"


def note(marks: Sequence[str], others: Iterable[Shown]) -> Iterator[str]:
    """Yields how cells came by their marks, where there are any. marks: of the cells that train something."""
    if marks:
        seeds = ", ".join(map(str, sorted({run.seed for run in others})))
        what = f"twice its epochs change the mean over seeds {seeds} by less than {CONVERGED:g} points"
        which = "what is not, or not known to be, is marked" if any(marks) else "as is all of it here"
        yield f"Training is converged where {what}; {which}."


def _not_of_setting(path: str) -> bool:
    return path in _OF_NO_SETTING or path.startswith(BUDGET)
