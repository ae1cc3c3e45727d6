"""The published numbers that belong into a figure of our runs: hollow, at the x where they were published."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from mixmae.fields.identity import Key
from mixmae.presentation.columns import shown
from mixmae.presentation.declaration import Declaration, Selected
from mixmae.presentation.shown import Shown
from results.plots.lines import Differing, names_of
from results.plots.theme import GREY
from results.published import named_by, published_epochs, published_for

if TYPE_CHECKING:
    from matplotlib.lines import Line2D

POINT_COLUMNS = ["panel", "method", "encoder", "line", "rest", "series", "x", "y", "source"]
HOLLOW: dict[str, Any] = {"markerfacecolor": "none", "markersize": 8, "markeredgewidth": 1.1, "linestyle": "none"}
"""How their markers differ from ours."""
EPOCHS = "pretrain_epochs"
OF_A_MACHINE = ("pretrain_hours", "pretrain_step_hours")
"""What published numbers are not compared along."""


@dataclass(frozen=True)
class Along:
    """What a curve is drawn against, and the multiply-adds of pretrainings, in the unit of the figure."""

    x: str
    macs: Mapping[Key, float | None] = field(default_factory=dict)

    @property
    def by_epochs(self) -> bool:
        """Whether the points of a line differ in their epochs."""
        return self.x in (EPOCHS, "pretrain_macs")

    def at(self, run: Shown, epochs: int) -> float | None:
        """x of what a run does, at other epochs: multiply-adds are in proportion to them."""
        if run.value(EPOCHS) is None:
            return None
        if self.x == "pretrain_macs":
            macs = self.macs.get(run.key)
            return None if macs is None else macs * epochs / run.value(EPOCHS)
        return epochs if self.x == EPOCHS else run.value(self.x)


def published_points(
    runs: Sequence[Shown],
    selected: Sequence[Selected],
    declaration: Declaration,
    differing: Differing,
    sweeps: Sequence[str],
    along: Along | None = None,
) -> pd.DataFrame:
    """One row (`POINT_COLUMNS`) a published figure of what `runs` or the grid's expectations name; x is NaN where there
    is none.

    Against epochs and multiply-adds all published numbers of epochs of a line count, at their own epochs; against
    another column those at its published settings; hours are of a machine, so that none compare. At a scale nothing
    compares.
    """
    points: list[tuple] = []
    if declaration.scale is None and (along is None or along.x not in OF_A_MACHINE):
        for evaluation in selected:
            here = [run for run in runs if run.name == evaluation.name]
            points += _of_runs(here, evaluation, differing, along)
            points += _of_expectations(here, evaluation, declaration, differing, sweeps, along)
    frame = pd.DataFrame(points, columns=POINT_COLUMNS).astype({"x": "float64", "y": "float64"})
    return frame.drop_duplicates(["panel", "line", "x", "y"])


def source_notes(points: pd.DataFrame) -> list[str]:
    """Where the points were read, for below the figure."""
    if points.empty:
        return []
    read = (f"{shown('method', point.method)} {point.y:g}: {point.source}" for point in points.itertuples())
    return ["Hollow: published.", *dict.fromkeys(read)]


def hollow_handle(**look: Any) -> "Line2D":
    """The legend's entry for published figures."""
    from matplotlib.lines import Line2D

    return Line2D([], [], label="published", **{"color": GREY, "marker": "o", **HOLLOW, **look})


def _of_runs(runs: Sequence[Shown], evaluation: Selected, differing: Differing, along: Along | None) -> Iterator[tuple]:
    seen = set()
    for run in runs:
        names = names_of(run, differing)
        moves = along is not None and along.by_epochs and along.at(run, 1) is not None
        what = names["line"] if moves else (names["line"], run.config)
        if what in seen:
            continue
        seen.add(what)
        for epochs in published_epochs() if moves else [run.value(EPOCHS)]:
            at = replace(run, declared={**run.declared, "pretrain.epochs": epochs})
            if published := published_for(at, evaluation.metric.name):
                x = along.at(run, epochs) if along else None
                yield evaluation.text, *_whose(run, names), x, published.value, published.cited()


def _of_expectations(
    runs: Sequence[Shown],
    evaluation: Selected,
    declaration: Declaration,
    differing: Differing,
    sweeps: Sequence[str],
    along: Along | None,
) -> Iterator[tuple]:
    """Yields the published numbers that the grid itself names, for the runs that it shows here, started or not."""
    here = {run.key: run for run in runs}
    cases = [run for run in declaration.absent(sweeps) if run.name == evaluation.name]
    for expected in declaration.expected:
        if expected.published is None or expected.scale is not None or declaration.select(expected.stage) != evaluation:
            continue
        epochs = expected.published.pretrain_epochs
        if along is not None and along.by_epochs and not epochs.isdigit():  # a length in iterations
            continue
        cited = named_by(expected.published, expected.mean, evaluation.metric).cited()
        for case in cases:
            run = here.get(case.key, case)
            if not case.meets(expected.where) or (along and along.x == "pretrain_macs" and run is case):
                continue
            x = along.at(run, int(epochs) if along.by_epochs else 0) if along else None
            yield evaluation.text, *_whose(run, names_of(run, differing)), x, expected.mean, cited


def _whose(run: Shown, names: Mapping[str, str]) -> tuple[str, str, str, str, str]:
    return run.method, run.value("encoder"), names["line"], names["rest"], names["series"]
