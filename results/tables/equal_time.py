"""Whether a ranking at equal time would hold if the methods' speeds had another ratio (no torch)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import log
from statistics import fmean
from typing import Any

from mixmae.cost.budgets import SPEEDS
from mixmae.experiment.metric import Metric
from mixmae.fields.identity import Key
from mixmae.presentation.columns import ALIASES, BUDGET, shown
from mixmae.presentation.declaration import Declaration
from mixmae.presentation.shown import BySetting, Shown, by_setting, cells

SLOWER = "pretrain.budget_slower"
"""A column of runs with a budget in hours: the epochs that it would come to at the lower of SPEEDS."""
LENGTHS = ("pretrain.epochs", "pretrain.warmup_epochs", "pretrain.warmup_steps", "pretrain.decay_epochs")
_HOW = (
    "Ranking at equal time if the ratio of two methods' speeds were 15 % lower or higher, whichever of them is the "
    "slower or faster one: figures are interpolated over the logarithm of the epochs, not rounded to whole ones, "
    "between the runs of the grid"
)


@dataclass(frozen=True)
class Setting:
    """One that was given equal time. mean: higher is better. epochs: that its budget comes to before they are rounded
    down. curve: the means by epochs of all runs that differ from it in length alone."""

    name: str
    mean: float
    epochs: float
    curve: Mapping[int, float]


def has_hours(declaration: Declaration, keys: Iterable[Key]) -> bool:
    """Whether some of these runs have a budget in hours."""
    return any(SLOWER in case for key in keys for _, case in declaration.cases.get(key, ()))


def at(curve: Mapping[int, float], epochs: float) -> float | None:
    """The figure after so many epochs: as measured, or on the line between its neighbours over the logarithm of the
    epochs. None beyond what was measured."""
    if epochs in curve:
        return curve[int(epochs)]
    below, above = [e for e in curve if e < epochs], [e for e in curve if e > epochs]
    if not below or not above:
        return None
    low, high = max(below), min(above)
    share = (log(epochs) - log(low)) / (log(high) - log(low))
    return curve[low] + share * (curve[high] - curve[low])


def holds(ahead: Setting, behind: Setting) -> bool | None:
    """Whether `ahead` stays ahead when either of them is given 15 % less or more of the time; None where that is not
    known of either. A place that is seen to be lost is lost, whatever else is not known."""
    theirs = [None if figure is None else figure < ahead.mean for figure in _at_other_speeds(behind)]
    own = [None if figure is None else figure > behind.mean for figure in _at_other_speeds(ahead)]
    if False in (*theirs, *own):
        return False
    return True if None not in theirs or None not in own else None


def _at_other_speeds(setting: Setting) -> list[float | None]:
    return [at(setting.curve, setting.epochs * speed) for speed in SPEEDS]


def verdict(settings: Sequence[Setting]) -> str:
    """ "holds", or whose places change and of whom it is not known."""
    ranked = sorted(settings, key=lambda setting: -setting.mean)
    pairs = [pair for pair in combinations(ranked, 2) if pair[0].mean != pair[1].mean]
    found = [(f"{ahead.name} and {behind.name}", holds(ahead, behind)) for ahead, behind in pairs]
    turned, unknown = ([names for names, held in found if held is wanted] for wanted in (False, None))
    parts = [f"does not hold for {', '.join(turned)}"] * bool(turned)
    parts += [f"not known of {', '.join(unknown)} (too few lengths were run)"] * bool(unknown)
    return "; ".join(parts) or "holds"


def of_time(
    runs: Sequence[Shown], every: Sequence[Shown], columns: Sequence[str], what: tuple[str, Metric]
) -> list[str]:
    """The verdict for each budget in hours of `runs`, which are those of one column of figures, where two settings or
    more were given it. every: all runs of that evaluation. columns: those of the table. what: the column in words, and
    what it shows."""
    text, metric = what
    timed = [run for run in runs if run.done and run.value(SLOWER) is not None]
    apart = [column for column in columns if not _of_method(column) and not _of_length(column)]
    own = [column for column in columns if _of_method(column)]
    by_length, lines = by_setting(every, _of_no_setting), []
    for (budget, *values), group in cells(timed, ["budget", *apart]):
        settings = [_setting(names, own, alike, by_length, metric) for names, alike in cells(group, own)]
        if len(settings) > 1:
            where = ", ".join(shown(column, value) for column, value in zip(apart, values, strict=True))
            lines.append(f"{text} at {budget}{f' ({where})' if where else ''}: {verdict(settings)}")
    return lines


def sentence(lines: Sequence[str]) -> Iterator[str]:
    """Yields the note that has these lines, if there are any."""
    if lines:
        yield f"{_HOW}: {'. '.join(lines)}."


def _path(column: str) -> str:
    return ALIASES[column].path if column in ALIASES else column


def _of_method(column: str) -> bool:
    return _path(column).split(".")[0] == "method"


def _of_length(column: str) -> bool:
    return _path(column) in LENGTHS or _path(column).startswith(BUDGET)


def _setting(
    names: Sequence[Any], own: Sequence[str], alike: Sequence[Shown], by_length: BySetting, metric: Metric
) -> Setting:
    by_epochs: dict[int, dict[Any, float]] = {}
    for run in by_length.get(alike[0].setting(_of_no_setting), ()):
        by_epochs.setdefault(run.value("pretrain_epochs"), {})[run.key] = metric.better(run.figures[metric.name])
    curve = {epochs: fmean(figures.values()) for epochs, figures in by_epochs.items()}
    name = " ".join(shown(column, value) for column, value in zip(own, names, strict=True))
    mean = fmean(metric.better(run.figures[metric.name]) for run in alike)
    epochs = alike[0].value("pretrain_epochs") / (alike[0].value("budget_reached") / 100)
    return Setting(name, mean, epochs, curve)


def _of_no_setting(path: str) -> bool:
    """Whether it is the seed or the length of the pretraining."""
    return path == "seed" or _of_length(path)
