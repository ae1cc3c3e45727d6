"""Runs beside what their grid declares of them; at a scale that is not what was run (no torch)."""

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any, get_args

import pandas as pd

from mixmae.fields.identity import Key
from mixmae.presentation.declaration import Column, Declaration
from results.cells import member_ids, member_rows

RAN = "ran_"
"""Begins the names of the columns with what was run."""


NO_RUN = "no run"
"""The state of what a grid declares and nothing is known of."""


def declared_rows(
    frame: pd.DataFrame, declaration: Declaration, sweeps: Collection[str], stages: Collection[str]
) -> pd.DataFrame:
    """The rows of the sweeps and stages, each once for every case of the grid that its run stands for: the columns of
    `Column` as the grid declares them, what was run in `ran_…`. Rows whose `config` is the same are repetitions of what
    was declared, too. Cases without a run come last, with what would be run, in the state NO_RUN; their `config` is the
    case."""
    rows = member_rows(frame, declaration.members, sweeps, stages)
    known = set(zip(rows["stage"], rows["id"], strict=True))
    asked = member_ids(declaration.members, sweeps) - known
    absent = [_without_run(key, declaration) for key in declaration.planned if key in asked and key[0] in stages]
    lines = [line for row in (*rows.to_dict("records"), *absent) for line in _lines(row, declaration)]
    types = {**rows.dtypes, **{RAN + column: rows[column].dtype for column in get_args(Column)}}
    return pd.DataFrame(lines, columns=list(types)).astype(types)


def _without_run(key: Key, declaration: Declaration) -> dict[str, Any]:
    planned = declaration.planned[key]
    config = json.dumps(planned, sort_keys=True, separators=(",", ":"))
    return {**planned, "stage": key[0], "id": key[1], "state": NO_RUN, "config": config}


def ran(row: Mapping[str, Any]) -> dict[str, Any]:
    """A declared row with what was run in its place."""
    return {**row, **{column: row[RAN + column] for column in get_args(Column)}}


def meets(row: Mapping[str, Any], where: Mapping[str, Any]) -> bool:
    """Whether the row has these values, as a grid file writes them."""
    return all(_same(row[column], _as_collected(column, wanted)) for column, wanted in where.items())


def _lines(row: dict[str, Any], declaration: Declaration) -> Iterator[dict[str, Any]]:
    was = {RAN + column: row[column] for column in get_args(Column)}
    cases = declaration.full.get((row["stage"], row["id"]), ({},))
    seen = []
    for case in cases:
        declared = {column: value for column, value in case.items() if column != "weights"}
        if declared in seen:
            continue
        seen.append(declared)
        differing = {column: value for column, value in declared.items() if not _same(row[column], value)}
        yield {**row, **was, **declared, "config": _with(row["config"], differing)}


def _with(config: str, declared: dict[str, Any]) -> str:
    if not declared:
        return config
    return json.dumps({**json.loads(config), "declared": declared}, sort_keys=True, separators=(",", ":"))


def _same(one: Any, other: Any) -> bool:
    return (_missing(one) and _missing(other)) or (not _missing(one) and not _missing(other) and one == other)


def _missing(value: Any) -> bool:
    return not isinstance(value, list | tuple | dict) and pd.isna(value)


def _as_collected(column: str, value: Any) -> Any:
    if column == "image_size":
        sides = value if isinstance(value, list | tuple) else [value]
        return "x".join(dict.fromkeys(map(str, sides)))
    return value
