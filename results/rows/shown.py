"""What was collected, as tables and plots of a grid see it (no torch)."""

from collections.abc import Collection, Sequence
from typing import Any

import pandas as pd

from mixmae.presentation.columns import position
from mixmae.presentation.declaration import Declaration
from mixmae.presentation.row import UNKNOWN
from mixmae.presentation.shown import Shown
from results.rows.reading import trains_encoder

COST_COLUMNS = ("pretrain_images", "pretrain_hours", "pretrain_device")
"""The columns with what a run's pretraining cost, where it is known."""


def shown_runs(
    frame: pd.DataFrame,
    declaration: Declaration,
    sweeps: Collection[str] = (),
    names: Collection[str] | None = None,
    as_run: bool = False,
) -> list[Shown]:
    """The runs of `sweeps` (all where it is empty) that have a folder, under each of `names` (all where it is None).
    What was pretrained is not known of evaluations whose pretraining is missing: those are left out.

    as_run: what was run stands for what the grid declares, also at a scale. Raises ValueError for an unknown sweep.
    """
    runs: list[Shown] = []
    for row in grid_runs(frame, declaration, sweeps).to_dict("records"):
        if row["method"] == UNKNOWN:
            continue
        done = row["state"] == "done"
        ran = {**row["row"], "seed": row["seed"]}
        costs = {name: None if pd.isna(row[name]) else row[name] for name in COST_COLUMNS}
        key, figures = (row["stage"], row["id"]), row["figures"] if done else {}
        costs |= {"trained": row["trained"]}
        run = Shown(key, ran, row["config"], row["state"], figures, costs, row["root"])
        runs += declaration.shown(run, sweeps, as_run)
    return [run for run in runs if names is None or run.name in names]


def all_runs(
    frame: pd.DataFrame, declaration: Declaration, sweeps: Collection[str], names: Collection[str]
) -> list[Shown]:
    """The runs of `sweeps` under each of `names`: those that have a folder, then the others as the plan knows them."""
    started = shown_runs(frame, declaration, sweeps)
    known = {run.key for run in started}
    planned = [run for run in declaration.absent(sweeps) if run.key not in known]
    return [run for run in (*started, *planned) if run.name in names]


def grid_runs(frame: pd.DataFrame, declaration: Declaration, sweeps: Collection[str] = ()) -> pd.DataFrame:
    """The rows of the runs that a grid names."""
    return of_keys(frame, declaration.ids(sweeps))


def pretrained(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of the runs that train an encoder by a method."""
    trained = [trains_encoder(stage) for stage in frame["stage"]]
    return frame[pd.Series(trained, index=frame.index, dtype=bool)]


def of_keys(frame: pd.DataFrame, keys: Collection[tuple[str, str]]) -> pd.DataFrame:
    """The rows of some runs."""
    named = [pair in keys for pair in zip(frame["stage"], frame["id"], strict=True)]
    return frame[pd.Series(named, index=frame.index, dtype=bool)]


def grouped(frame: pd.DataFrame, columns: Sequence[str]) -> list[tuple[tuple, pd.DataFrame]]:
    """The rows with equal values in some columns of a collected frame, a missing value (None) being a value of its own,
    in the order in which they are shown."""
    groups: dict[tuple, list] = {}
    for index, values in zip(frame.index, frame[list(columns)].itertuples(index=False, name=None), strict=True):
        groups.setdefault(tuple(None if pd.isna(value) else value for value in values), []).append(index)
    ordered = sorted(groups, key=lambda values: [_position(*pair) for pair in zip(columns, values, strict=True)])
    return [(values, frame.loc[groups[values]]) for values in ordered]


def _position(column: str, value: Any) -> tuple:
    """Image sizes are text in frames."""
    if column == "image_size" and value is not None:
        return position(column, tuple(map(int, value.split("x"))))
    return position(column, value)
