"""Runs against what their grid expects of them (no torch)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import pandas as pd

from mixmae.presentation.declaration import Column, Declaration, Expected
from results.cells import MISSING, STAGE_LABELS
from results.declared import declared_rows, meets
from results.tables import label_of

EXACTLY = 1e-9
"""What rounding in the last bits may add to a tolerance."""


@dataclass(frozen=True)
class Checked:
    """An expectation and the mean top-1 of the finished runs of a setting that it names, by their ids. told: what tells
    the setting from others that it names, too."""

    expected: Expected
    told: tuple[str, ...] = ()
    found: float | None = None
    runs: tuple[str, ...] = ()

    @property
    def difference(self) -> float | None:
        """Found minus expected, in points."""
        return None if self.found is None else self.found - self.expected.top1

    @property
    def verdict(self) -> Literal["ok", "off", "missing"]:
        if self.difference is None:
            return "missing"
        return "ok" if abs(self.difference) <= self.expected.tolerance + EXACTLY else "off"

    def line(self) -> str:
        expected = self.expected
        where = ", ".join([*(f"{column} {value}" for column, value in expected.where.items()), *self.told]) or "all"
        found = MISSING if self.found is None else f"{self.found:.2f}"
        difference = MISSING if self.difference is None else f"{self.difference:+.2f}"
        return (
            f"{self.verdict:<7}  {STAGE_LABELS[expected.stage]}, {where}: expected {expected.top1:.2f}, found {found}, "
            f"difference {difference}, tolerance {expected.tolerance:.2f}, n = {len(self.runs)}"
        )

    def document(self) -> dict[str, Any]:
        return {
            "where": self.expected.where,
            "told": list(self.told),
            "stage": self.expected.stage,
            "expected": self.expected.top1,
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
    rows = declared_rows(frame, declaration, (), [expected.stage])
    met = [meets(row, expected.where) for row in rows.to_dict("records")]
    rows = rows[pd.Series(met, index=rows.index, dtype=bool)].drop_duplicates("id")
    done = rows[rows["state"] == "done"]
    settings = [group for _, group in done.groupby("config", sort=False)]
    told = [column for column in get_args(Column) if done[column].nunique(dropna=False) > 1]
    return [
        Checked(expected, _told(told, group, len(settings)), float(group["top1"].mean()), tuple(group["id"]))
        for group in settings
    ] or [Checked(expected)]


def _told(columns: Sequence[str], group: pd.DataFrame, settings: int) -> tuple[str, ...]:
    if settings > 1 and not columns:
        return (f"{group['id'].iloc[0][:8]} …",)
    return tuple(label_of(column, group.to_dict("records")).named() for column in columns)
