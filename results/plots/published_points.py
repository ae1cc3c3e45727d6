"""The published numbers that belong into a figure of our runs: hollow, at the x where they were published."""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import pandas as pd

from mixmae.presentation.declaration import Declaration, PlotSpec, PublishedRow
from results.cells import member_ids, shown
from results.declared import meets
from results.plots.lines import Told, names_of
from results.plots.theme import GREY
from results.published import named, published_for, published_results

if TYPE_CHECKING:
    from matplotlib.lines import Line2D

NAMES = ["method", "encoder", "line", "rest", "series"]
COLUMNS = ["stage", *NAMES, "x", "y", "source"]
HOLLOW = {"markerfacecolor": "none", "markersize": 8, "markeredgewidth": 1.1, "linestyle": "none"}
"""How their markers differ from ours."""


def published_points(rows: pd.DataFrame, spec: PlotSpec, declaration: Declaration, told: Told) -> pd.DataFrame:
    """One row a published top-1 of what `rows` (with `line` and, if spec is a curve, `x`) or the grid's expectations
    name: `COLUMNS`, x NaN where there is none.

    Against epochs and multiply-adds all published numbers of epochs of a line count, at their own epochs; against
    another column those at its published settings; hours are of a machine, so that none compare. At a scale nothing
    compares.
    """
    if declaration.scale is not None or spec.x == "pretrain_hours" and spec.kind == "curve":
        return pd.DataFrame(columns=COLUMNS)
    found = [*_of_rows(rows, spec), *_of_expectations(rows, spec, declaration, told)]
    points = pd.DataFrame(found, columns=COLUMNS).astype({"x": "float64", "y": "float64"})
    return points.drop_duplicates(["stage", "line", "x", "y"])


def source_notes(points: pd.DataFrame) -> list[str]:
    """Where the points were read, for below the figure."""
    if points.empty:
        return []
    read = (f"{shown('method', point.method)} {point.y:g}: {point.source}" for point in points.itertuples())
    return ["Hollow: published.", *dict.fromkeys(read)]


def hollow_handle(**look: Any) -> "Line2D":
    """What a legend says of them."""
    from matplotlib.lines import Line2D

    return Line2D([], [], label="published", **{"color": GREY, "marker": "o", **HOLLOW, **look})


def _of_rows(rows: pd.DataFrame, spec: PlotSpec) -> Iterator[tuple]:
    along = _is_along(spec)
    for row in rows.drop_duplicates(["stage", "line"] if along else ["stage", "line", "config"]).to_dict("records"):
        for epochs in _published_epochs() if along and not pd.isna(row["x"]) else [row["pretrain_epochs"]]:
            found = published_for({**row, "pretrain_epochs": epochs})
            if found:
                x = _x_at(row, epochs, spec) if spec.kind == "curve" else None
                yield row["stage"], *(row[name] for name in NAMES), x, found.value, found.cited()


def _is_along(spec: PlotSpec) -> bool:
    """Whether the points of a line differ in their epochs."""
    return spec.kind == "curve" and spec.x in ("pretrain_epochs", "pretrain_macs")


def _x_at(row: dict[str, Any], epochs: int, spec: PlotSpec) -> float | None:
    """A pretraining's multiply-adds are in proportion to its epochs."""
    if pd.isna(row["x"]):
        return None
    if spec.x == "pretrain_epochs":
        return epochs
    return row["x"] * epochs / row["pretrain_epochs"] if spec.x == "pretrain_macs" else row["x"]


def _of_expectations(rows: pd.DataFrame, spec: PlotSpec, declaration: Declaration, told: Told) -> Iterator[tuple]:
    """Of the published numbers that the grid itself names, those of the runs it shows here, started or not."""
    here = {(row["stage"], row["id"]): row for row in rows.to_dict("records")}
    wanted = member_ids(declaration.members, spec.sweeps)
    keys = [key for key in declaration.full if key in wanted]
    along = _is_along(spec)
    for expected in declaration.expected:
        if expected.published is None or expected.scale is not None:
            continue
        if along and not expected.published.pretrain_epochs.isdigit():  # a length in iterations
            continue
        cited = named(expected.published, expected.top1).cited()
        for key in keys:
            row = here.get(key, {})
            if spec.kind == "curve" and spec.x == "pretrain_macs" and not row:
                continue
            for case in declaration.full[key] if key[0] == expected.stage else ():
                if meets(case, expected.where):
                    called = row or case | names_of(case, told)
                    x = _x_expected(case, row, expected.published, spec)
                    yield key[0], *(called[name] for name in NAMES), x, expected.top1, cited


def _x_expected(case: dict[str, Any], row: dict[str, Any], published: PublishedRow, spec: PlotSpec) -> float | None:
    if spec.kind != "curve" or case["pretrain_epochs"] is None:
        return None
    if spec.x in ("pretrain_epochs", "pretrain_macs"):
        return _x_at(row or case | {"x": case["pretrain_epochs"]}, int(published.pretrain_epochs), spec)
    return case[spec.x]


@cache
def _published_epochs() -> Sequence[int]:
    """Every length of pretraining that something was published at."""
    epochs = pd.to_numeric(published_results()["pretrain_epochs"], errors="coerce").dropna()
    return sorted({int(number) for number in epochs if number > 0})
