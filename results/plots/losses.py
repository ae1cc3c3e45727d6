"""Pretraining losses by epoch: a panel a method, since their losses have different units."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from mixmae.files.records import read_lines
from mixmae.presentation.declaration import Declaration, PlotSpec
from mixmae.runs.folder import RunFolder
from results.cells import MISSING, member_rows, separating_columns, shown
from results.plots.layout import compose, panels, say_in
from results.plots.lines import draw_lines, handle, repetitions, set_dashes, styles_of, told_apart, with_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOSS_LABELS = {"mixmae": "squared error", "mae": "squared error", "simmim": "L1"}
NEUTRAL = "0.25"
"""Colour of a line in the legend, where it stands for lines of all methods."""


def draw_losses(frame: pd.DataFrame, spec: PlotSpec, declaration: Declaration, title: str) -> "Figure":
    """Means over the seeds that are done, with std as a band, or with `smoothing` their running means over the pale
    unsmoothed mean. A run that is not done is a thin line of its own, to where it is."""
    from matplotlib.ticker import MaxNLocator

    runs = member_rows(frame, declaration.members, spec.sweeps, ["pretrain"])
    columns = separating_columns(runs, ("method", "encoder"), ())
    runs = with_names(runs, told_apart(runs, columns))
    runs = runs.assign(line=runs["rest"])
    epochs = _epochs(runs, spec.smoothing)
    methods = list(runs["method"].unique())
    styles = styles_of(epochs, by_method=False)
    figure, axes = panels(max(len(methods), 1))
    for ax, method in zip(axes, methods or [None], strict=True):
        here = epochs[epochs["method"] == method]
        _draw_panel(ax, here, _in_colour(styles, method), spec.smoothing)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, nbins=5))
        ax.set(title=shown("method", method), xlabel="epoch", ylabel=f"loss ({LOSS_LABELS.get(method, MISSING)})")
        if here.empty:
            say_in(ax, "no epoch yet")
    handles = [handle(line, {**style, "color": NEUTRAL}) for line, style in styles.items()]
    done = epochs[epochs["state"] == "done"]
    notes = [repetitions(done, (*columns, "x")), *_notes(runs, epochs, spec.smoothing)]
    compose(figure, title, handles, notes)
    return figure


# ----------------------------------------------------------------------------------------------------------- reading


def _epochs(runs: pd.DataFrame, smoothing: float) -> pd.DataFrame:
    """A row an epoch of every run: its columns, `x` (the epoch), `raw` (the loss) and `y` (smoothed)."""
    curves = []
    for run in runs.to_dict("records"):
        folder = RunFolder(Path(run["root"]), run["stage"], run["id"])
        if run["state"] == "done":
            folder.check(folder.metrics)
        lines = as_counted(read_lines(folder.metrics))
        raw = [line["loss"] for line in lines]
        values = {"x": [line["epoch"] for line in lines], "raw": raw, "y": running_mean(raw, smoothing)}
        curves.append(pd.DataFrame(values, dtype="float64").assign(id=run["id"]))
    table = pd.concat(curves) if curves else pd.DataFrame({"x": [], "raw": [], "y": [], "id": []})
    return runs.merge(table.astype({"id": "str"}), on="id", sort=False)


def as_counted(lines: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The lines of metrics.jsonl, each epoch once: where the count goes back, what came after that epoch was lost and
    logged again, so that the later lines count."""
    kept: list[Mapping[str, Any]] = []
    for line in lines:
        while kept and kept[-1]["epoch"] >= line["epoch"]:
            kept.pop()
        kept.append(line)
    return kept


def running_mean(values: Sequence[float], smoothing: float) -> list[float]:
    """m_t = s·m_{t-1} + (1 - s)·v_t from m_0 = 0, divided by 1 - s^t: without that division the first values would be
    drawn towards zero. It is the mean of the values so far, weighted by s to the power of their age."""
    return list(pd.Series(values, dtype="float64").ewm(alpha=1 - smoothing, adjust=True).mean())


# ----------------------------------------------------------------------------------------------------------- drawing


def _draw_panel(ax: "Axes", epochs: pd.DataFrame, styles: dict[str, dict], smoothing: float) -> None:
    done = epochs["state"] == "done"
    if smoothing:
        pale = epochs[done].groupby(["line", "x"], sort=False)["raw"].mean()
        for name, line in pale.groupby(level="line", sort=False):
            ax.plot(line.index.get_level_values("x"), line, color=styles[name]["color"], alpha=0.35, linewidth=0.6)
    draw_lines(ax, epochs[done], styles, errors="band")
    for _, run in epochs[~done].groupby("id", sort=False):
        style = styles[run["line"].iloc[0]]
        if smoothing:
            ax.plot(run["x"], run["raw"], color=style["color"], alpha=0.35, linewidth=0.6)
        (line,) = ax.plot(
            run["x"], run["y"], color=style["color"], linewidth=0.8, marker=style["marker"], markevery=[-1]
        )
        line.set(markerfacecolor="none", markeredgewidth=1.0)
        set_dashes(line, style)


def _in_colour(styles: dict[str, dict], method: str | None) -> dict[str, dict]:
    """The styles for the panel of a method, in shades of its colour."""
    from results.plots.theme import shade

    return {name: {**style, "color": shade(method, place)} for place, (name, style) in enumerate(styles.items())}


def _notes(runs: pd.DataFrame, epochs: pd.DataFrame, smoothing: float) -> list[str]:
    notes = []
    if smoothing:
        notes.append(f"Running means, what came before weighs {smoothing:g}; pale: unsmoothed.")
    unfinished = epochs.loc[epochs["state"] != "done", "id"].nunique()
    if unfinished:
        notes.append(f"{unfinished} of {len(runs)} runs not done: thin, each by itself, to a hollow marker.")
    return notes
