"""Runs against what their grid expects of them (no torch)."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

import pandas as pd

from mixmae.presentation.columns import ALIASES, MISSING, paths
from mixmae.presentation.declaration import Declaration, Expected, Selected
from mixmae.presentation.shown import Shown, varying
from results.rows.shown import shown_runs
from results.tables import label_of

EXACTLY = 1e-9
"""What rounding in the last bits may add to a tolerance."""


@dataclass(frozen=True)
class Checked:
    """An expectation, and the mean of the finished runs of a setting that it names, with their ids. distinct: what
    distinguishes the setting from others that it names, too."""

    expected: Expected
    of: Selected
    distinct: tuple[str, ...] = ()
    mean: float | None = None
    runs: tuple[str, ...] = ()

    @property
    def difference(self) -> float | None:
        """The mean less what is expected."""
        return None if self.mean is None else self.mean - self.expected.mean

    @property
    def verdict(self) -> Literal["ok", "off", "missing"]:
        if self.difference is None:
            return "missing"
        return "ok" if abs(self.difference) <= self.expected.tolerance + EXACTLY else "off"

    def line(self) -> str:
        expected, form = self.expected, self.of.metric.format
        where = ", ".join([*(f"{column} {value}" for column, value in expected.where.items()), *self.distinct]) or "all"
        mean = MISSING if self.mean is None else format(self.mean, form)
        difference = MISSING if self.difference is None else format(self.difference, f"+{form}")
        return (
            f"{self.verdict:<7}  {self.of.label}, {where}: expected {expected.mean:{form}}, found {mean}, "
            f"difference {difference}, tolerance {expected.tolerance:{form}}, n = {len(self.runs)}"
        )

    def document(self) -> dict[str, Any]:
        return {
            "where": self.expected.where,
            "told": list(self.distinct),
            "stage": self.expected.stage,
            "expected": self.expected.mean,
            "tolerance": self.expected.tolerance,
            "found": self.mean,
            "difference": self.difference,
            "n": len(self.runs),
            "runs": list(self.runs),
            "verdict": self.verdict,
        }


def check(frame: pd.DataFrame, declaration: Declaration) -> list[Checked]:
    """Compares every expectation at the declaration's scale with the finished runs that it names; where these are of
    several settings, with each of them, since a mean over settings could hide that one is off.

    Raises ValueError where the grid expects nothing at that scale.
    """
    expected = [entry for entry in declaration.expected if entry.scale == declaration.scale]
    if not expected:
        scale = f"the scale {declaration.scale}" if declaration.scale else "full scale"
        raise ValueError(f"{declaration.name} expects nothing at {scale}; write expected: [{{where: …, top1: …}}]")
    return [checked for entry in expected for checked in _checked(frame, declaration, entry)]


def _checked(frame: pd.DataFrame, declaration: Declaration, expected: Expected) -> list[Checked]:
    of = declaration.select(expected.stage)
    runs = [run for run in shown_runs(frame, declaration, names=[of.name]) if run.done and run.meets(expected.where)]
    once = {run.key: run for run in reversed(runs)}
    settings: dict[str, list[Shown]] = {}
    for run in reversed(once.values()):
        settings.setdefault(run.config, []).append(run)
    columns = _distinguishing([run for group in settings.values() for run in group])
    return [
        Checked(
            expected,
            of,
            _distinct(columns, group, len(settings)),
            fmean(run.figures[of.metric.name] for run in group),
            tuple(run.key[1] for run in group),
        )
        for group in settings.values()
    ] or [Checked(expected, of)]


def _distinguishing(runs: Sequence[Shown]) -> list[str]:
    """The columns in which settings differ: those with short names alone where they are enough."""
    short = varying(runs, ALIASES)
    return short or [column for column in varying(runs, paths(run.declared for run in runs)) if column != "seed"]


def _distinct(columns: Sequence[str], group: Sequence[Shown], settings: int) -> tuple[str, ...]:
    if settings > 1 and not columns:
        return (f"{group[0].key[1][:8]} …",)
    return tuple(label_of(column, group).named() for column in columns)
