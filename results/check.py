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
    """An expectation and the mean of the finished runs of a setting that it names, by their ids. told: what tells the
    setting from others that it names, too."""

    expected: Expected
    of: Selected
    told: tuple[str, ...] = ()
    found: float | None = None
    runs: tuple[str, ...] = ()

    @property
    def difference(self) -> float | None:
        """The mean less what is expected."""
        return None if self.found is None else self.found - self.expected.mean

    @property
    def verdict(self) -> Literal["ok", "off", "missing"]:
        if self.difference is None:
            return "missing"
        return "ok" if abs(self.difference) <= self.expected.tolerance + EXACTLY else "off"

    def line(self) -> str:
        expected, form = self.expected, self.of.metric.format
        where = ", ".join([*(f"{column} {value}" for column, value in expected.where.items()), *self.told]) or "all"
        found = MISSING if self.found is None else format(self.found, form)
        difference = MISSING if self.difference is None else format(self.difference, f"+{form}")
        return (
            f"{self.verdict:<7}  {self.of.label}, {where}: expected {expected.mean:{form}}, found {found}, "
            f"difference {difference}, tolerance {expected.tolerance:{form}}, n = {len(self.runs)}"
        )

    def document(self) -> dict[str, Any]:
        return {
            "where": self.expected.where,
            "told": list(self.told),
            "stage": self.expected.stage,
            "expected": self.expected.mean,
            "tolerance": self.expected.tolerance,
            "found": self.found,
            "difference": self.difference,
            "n": len(self.runs),
            "runs": list(self.runs),
            "verdict": self.verdict,
        }


def check(frame: pd.DataFrame, declaration: Declaration) -> list[Checked]:
    """Every expectation at the declaration's scale against the finished runs that it names; where these are of several
    settings, once for each, since a mean over settings could hide that one is off.

    Raises ValueError where the grid expects nothing at that scale.
    """
    asked = [entry for entry in declaration.expected if entry.scale == declaration.scale]
    if not asked:
        scale = f"the scale {declaration.scale}" if declaration.scale else "full scale"
        raise ValueError(f"{declaration.name} expects nothing at {scale}; write expected: [{{where: …, top1: …}}]")
    return [checked for entry in asked for checked in _checked(frame, declaration, entry)]


def _checked(frame: pd.DataFrame, declaration: Declaration, expected: Expected) -> list[Checked]:
    of = declaration.select(expected.stage)
    runs = [run for run in shown_runs(frame, declaration, names=[of.name]) if run.done and run.meets(expected.where)]
    once = {run.key: run for run in reversed(runs)}
    settings: dict[str, list[Shown]] = {}
    for run in reversed(once.values()):
        settings.setdefault(run.config, []).append(run)
    told = _telling([run for group in settings.values() for run in group])
    return [
        Checked(
            expected,
            of,
            _told(told, group, len(settings)),
            fmean(run.figures[of.metric.name] for run in group),
            tuple(run.key[1] for run in group),
        )
        for group in settings.values()
    ] or [Checked(expected, of)]


def _telling(runs: Sequence[Shown]) -> list[str]:
    """The columns in which settings differ; the short names say enough where they tell them apart."""
    short = varying(runs, ALIASES)
    return short or [column for column in varying(runs, paths(run.declared for run in runs)) if column != "seed"]


def _told(columns: Sequence[str], group: Sequence[Shown], settings: int) -> tuple[str, ...]:
    if settings > 1 and not columns:
        return (f"{group[0].key[1][:8]} …",)
    return tuple(label_of(column, group).named() for column in columns)
