"""Pretraining losses by epoch: a panel a method, since their losses have different units."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from mixmae.experiment.stages import pretraining
from mixmae.files.records import read_lines
from mixmae.methods.methods import methods
from mixmae.presentation.columns import MISSING, shown
from mixmae.presentation.declaration import Declaration
from mixmae.presentation.shown import Shown, separating
from mixmae.runs.folder import RunFolder
from results.plots.layout import compose, panels, say_in
from results.plots.lines import (
    differing_columns,
    draw_lines,
    handle,
    names_of,
    ordered_runs,
    repetitions,
    set_dashes,
    styles_of,
)
from results.plots.loss.spec import LossPlot
from results.rows.shown import shown_runs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NEUTRAL = "0.25"
"""Colour of a line in the legend, where it stands for lines of all methods."""
EPOCH = ["id", "line", "rest", "method", "setting", "state", "x", "raw", "y"]


def draw(frame: pd.DataFrame, plot: LossPlot, declaration: Declaration, title: str) -> "Figure":
    """Draws means over the seeds that are done, with std as a band, or with `smoothing` their running means over the
    pale unsmoothed mean. A run that is not done is a thin line of its own, up to its last epoch."""
    from matplotlib.ticker import MaxNLocator

    runs = shown_runs(frame, declaration, plot.sweeps, [pretraining().name], as_run=True)
    columns = separating(runs, ("method", "encoder"), (), tuple(declaration.swept))
    runs = ordered_runs(runs, differing := differing_columns(runs, columns))
    epochs = _epochs(runs, [names_of(run, differing)["rest"] for run in runs], columns, plot.smoothing)
    present = list(dict.fromkeys(run.method for run in runs))
    styles = styles_of(epochs, by_method=False)
    figure, axes = panels(max(len(present), 1))
    shown_methods: list[str | None] = [*present] or [None]
    for ax, method in zip(axes, shown_methods, strict=True):
        here = epochs[epochs["method"] == method]
        _draw_panel(ax, here, _in_colour(styles, method) if method else styles, plot.smoothing)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, nbins=5))
        ax.set(title=shown("method", method), xlabel="epoch", ylabel=f"loss ({_loss_label(method)})")
        if here.empty:
            say_in(ax, "no epoch yet")
    handles = [handle(line, {**style, "color": NEUTRAL}) for line, style in styles.items()]
    done = epochs[epochs["state"] == "done"]
    notes = [repetitions(done, ("setting", "x")), *_notes(len(runs), epochs, plot.smoothing)]
    compose(figure, title, handles, notes)
    return figure


def _loss_label(method: str | None) -> str:
    spec = methods.get(method or "")
    return spec.loss_label if spec else MISSING


# ----------------------------------------------------------------------------------------------------------- reading


def _epochs(runs: Sequence[Shown], lines: Sequence[str], columns: Sequence[str], smoothing: float) -> pd.DataFrame:
    """A row an epoch of every run: what it is called, `x` (the epoch), `raw` (the loss) and `y` (smoothed)."""
    curves = []
    for run, line in zip(runs, lines, strict=True):
        lines_of_run = logged(RunFolder(Path(run.root), *run.key), run.done)
        raw = [entry["loss"] for entry in lines_of_run]
        values = {"x": [entry["epoch"] for entry in lines_of_run], "raw": raw, "y": running_mean(raw, smoothing)}
        shared = {"id": run.key[1], "line": line, "rest": line, "method": run.method, "state": run.state}
        setting = repr([run.value(column) for column in columns])
        curves.append(pd.DataFrame(values, dtype="float64").assign(**shared, setting=setting))
    return pd.concat(curves)[EPOCH] if curves else pd.DataFrame(columns=EPOCH)


def logged(run: RunFolder, done: bool) -> list[Mapping[str, Any]]:
    """The lines of a run's metrics.jsonl, each epoch once. Raises Damaged where they are not those of the result of a
    run that is done."""
    if done:
        run.check(run.metrics)
    return as_counted(read_lines(run.metrics))


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


def _in_colour(styles: dict[str, dict], method: str) -> dict[str, dict]:
    """The styles for the panel of a method, in shades of its colour."""
    from results.plots.theme import shade

    return {name: {**style, "color": shade(method, place)} for place, (name, style) in enumerate(styles.items())}


def _notes(runs: int, epochs: pd.DataFrame, smoothing: float) -> list[str]:
    notes = []
    if smoothing:
        notes.append(f"Running means, what came before weighs {smoothing:g}; pale: unsmoothed.")
    unfinished = epochs.loc[epochs["state"] != "done", "id"].nunique()
    if unfinished:
        notes.append(f"{unfinished} of {runs} runs not done: thin, each by itself, to a hollow marker.")
    return notes
