"""Which runs are averaged together: repetitions that differ in their seed, and in nothing else.

A table's cell or a plot's point gathers the runs that agree in some columns. Where those would mix runs that differ in
more than the seed, further columns are added until they do not; where no column tells them apart, it is an error.
"""

import json
from collections.abc import Collection, Iterable, Sequence
from typing import Any, get_args

import pandas as pd

from mixmae.encoders.families import variants
from mixmae.presentation.declaration import Column

Members = dict[str, set[tuple[str, str]]]
"""Of each sweep of a grid, its runs as (stage, id)."""

MISSING = "\N{EN DASH}"
"""What stands where there is nothing."""

METHOD_LABELS = {
    "mixmae": "MixMAE",
    "simmim": "SimMIM",
    "mae": "MAE",
    "imported": "imported",
    "unknown": "unknown",
    "supervised": "from scratch",
    "random init": "random init",
    "raw pixels": "raw pixels",
}
"""The methods as they are shown, in the order in which they are shown."""

STAGE_LABELS = {"pretrain": "pretraining", "finetune": "fine-tuning", "linear": "linear", "knn": "kNN"}

REFERENCES = ("supervised", "random init", "raw pixels")
"""What is called a method though nothing was pretrained."""


class MixedCell(ValueError):
    """Runs that differ in more than the seed would be averaged."""


def member_ids(members: Members, sweeps: Collection[str]) -> set[tuple[str, str]]:
    """The (stage, id) of the runs of `sweeps`, of all where it is empty. Raises ValueError for an unknown sweep."""
    for sweep in sweeps:
        if sweep not in members:
            raise ValueError(f"no sweep {sweep!r}; write one of {', '.join(sorted(members))}")
    return set().union(*(members[sweep] for sweep in sweeps or members))


def member_rows(
    frame: pd.DataFrame, members: Members, sweeps: Collection[str], stages: Collection[str]
) -> pd.DataFrame:
    """The rows of `frame` that belong to the sweeps and stages. What was pretrained is not known of evaluations whose
    pretraining is missing: those are left out."""
    ids = member_ids(members, sweeps)
    named = [pair in ids for pair in zip(frame["stage"], frame["id"], strict=True)]
    known = frame["method"] != "unknown"
    return frame[pd.Series(named, index=frame.index, dtype=bool) & frame["stage"].isin(list(stages)) & known]


def separating_columns(rows: pd.DataFrame, keys: Sequence[str], within: Sequence[str]) -> tuple[str, ...]:
    """`keys` and the further columns needed for (keys, within) to gather only runs that differ in their seed.

    Raises MixedCell, naming the differing fields, where no column tells such runs apart.
    """
    columns = tuple(keys)
    for candidate in get_args(Column):
        mixed = _mixed(rows, [*columns, *within])
        if mixed.empty:
            return columns
        if candidate not in (*columns, *within) and _varies(mixed, [*columns, *within], candidate).any():
            columns = (*columns, candidate)
    mixed = _mixed(rows, [*columns, *within])
    if not mixed.empty:
        first = cells(mixed, [*columns, *within])[0][1].drop_duplicates("config")
        names = " and ".join(f"{row.stage}/{row.id}" for row in list(first.itertuples())[:2])
        fields = ", ".join(differing_fields(first["config"].iloc[0], first["config"].iloc[1]))
        raise MixedCell(f"{names} would be averaged though they differ in {fields}; show them in separate sweeps")
    return columns


def cells(rows: pd.DataFrame, columns: Iterable[str]) -> list[tuple[tuple, pd.DataFrame]]:
    """The groups of rows with equal values in `columns`, a missing value (None) being a value of its own, in the order
    in which they are shown."""
    columns = list(columns)
    groups: dict[tuple, list] = {}
    for index, values in zip(rows.index, rows[columns].itertuples(index=False, name=None), strict=True):
        groups.setdefault(tuple(None if pd.isna(value) else value for value in values), []).append(index)
    ordered = sorted(groups, key=lambda values: [_position(*pair) for pair in zip(columns, values, strict=True)])
    return [(values, rows.loc[groups[values]]) for values in ordered]


def shown(column: str, value) -> str:
    """A cell's value as text."""
    if value is None or value == "-":
        return MISSING
    if column == "method":
        return METHOD_LABELS[value]
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def differing_fields(one: str, other: str) -> list[str]:
    """The dotted fields in which two canonical JSON objects differ."""
    return list(changed_fields(flat_fields(one), flat_fields(other)))


def flat_fields(text: str) -> dict[str, Any]:
    """A canonical JSON object by dotted field."""
    return _flat(json.loads(text))


def changed_fields(one: dict[str, Any], other: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The fields in which two differ, with both values; a field that one does not have is None there."""
    names = sorted(one.keys() | other.keys())
    return {name: (one.get(name), other.get(name)) for name in names if one.get(name) != other.get(name)}


def _mixed(rows: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """The rows of the cells that hold several configs."""
    return rows[_varies(rows, columns, "config")]


def _varies(rows: pd.DataFrame, columns: Sequence[str], other: str) -> pd.Series:
    """Of each row, whether its cell has several values of another column; missing is a value."""
    codes = pd.Series(pd.factorize(rows[other], use_na_sentinel=False)[0], index=rows.index)
    return codes.groupby([rows[column] for column in columns], dropna=False).transform("nunique") > 1


def _position(column: str, value) -> tuple:
    """Sorts methods and encoders as they are listed, other values by size, missing ones last."""
    order = {"method": list(METHOD_LABELS), "encoder": list(variants())}.get(column, [])
    if value is None:
        return (2, 0, "")
    if value in order:
        return (0, order.index(value), "")
    if column == "image_size":
        return (1, int(value.split("x")[0]), value)
    return (1, 0, value) if isinstance(value, str) else (1, value, "")


def _flat(value, path: str = "") -> dict:
    if not isinstance(value, dict):
        return {path: value}
    merged = {}
    for name, item in value.items():
        merged.update(_flat(item, f"{path}.{name}" if path else name))
    return merged
