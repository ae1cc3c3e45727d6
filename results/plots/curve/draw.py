"""Figures of evaluations against a column, or against what the pretraining cost: a line a method and encoder, a panel
an evaluation."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from mixmae.fields.texts import prefix
from mixmae.presentation.columns import ALIASES, axis_label, canonical
from mixmae.presentation.declaration import Declaration, Selected
from mixmae.presentation.shown import Shown, separating
from results.plots.curve.costs import device_labels, macs_of, step_hours_of, step_hours_sources
from results.plots.curve.spec import COSTS, CurvePlot
from results.plots.layout import compose, few_round_ticks, panels, say_in, thin_tick_labels
from results.plots.lines import (
    Differing,
    differing_columns,
    draw_lines,
    handle,
    names_of,
    ordered_runs,
    repetitions,
    set_dashes,
    styles_of,
)
from results.plots.published_points import HOLLOW, Along, hollow_handle, published_points, source_notes
from results.rows.shown import shown_runs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROW = ["panel", "line", "method", "rest", "setting", "along", "state", "trained", "device", "x", "y"]


def draw(frame: pd.DataFrame, plot: CurvePlot, declaration: Declaration, title: str) -> "Figure":
    """Draws means over seeds with std as bars. What has no x, as training from scratch has no pretraining, is drawn as
    a horizontal level."""
    selected, x = declaration.selected(plot.stages, plot.sweeps), canonical(plot.x)
    runs = shown_runs(frame, declaration, plot.sweeps, [evaluation.name for evaluation in selected], as_run=True)
    columns = separating(runs, ("method", "encoder"), ("name", _along(x)), tuple(declaration.swept))
    differing = differing_columns(runs, columns)
    rows = _rows(ordered_runs(runs, differing), selected, x, declaration, differing, columns)
    unit, size = prefix(rows["x"].min(), "G") if x == "pretrain_macs" else ("", 1.0)
    rows = rows.assign(x=rows["x"] / size)
    per_epoch = {run.key: _x(run, "pretrain_macs", declaration) for run in runs}
    of = Along(x, {key: macs and macs / size for key, macs in per_epoch.items()})
    published = published_points(runs, selected, declaration, differing, plot.sweeps, of)
    done, notes = _with_known_x(rows[rows["state"] == "done"], x)
    points, levels = done[done["x"].notna()].assign(device=""), done[done["x"].isna()]
    if x == "pretrain_hours":
        notes = [*notes, "Hours as they were measured, whatever else the machines did."]
        points = _at_mean_hours(done[done["x"].notna()])
    if x == "pretrain_step_hours":
        notes = [*notes, *(f"Of the steps alone; {source}." for source in step_hours_sources(runs, declaration))]
    points = points.sort_values("along", kind="stable")  # more epochs may have been measured to take less time
    devices = sorted(points["device"].unique()) or [""]
    styles = styles_of(pd.concat([rows[rows["line"].isin({*done["line"], *published["line"]})], published]))
    figure, axes = panels(len(selected) * len(devices), columns=len(selected) if devices[1:] else None)
    places = [(device, evaluation) for device in devices for evaluation in selected]
    for ax, (device, evaluation) in zip(axes, places, strict=True):
        here = points[(points["panel"] == evaluation.text) & (points["device"] == device)]
        beside, level = published[published["panel"] == evaluation.text], levels[levels["panel"] == evaluation.text]
        _draw_levels(ax, level, styles)
        draw_lines(ax, here, styles, errors="bars")
        _draw_published(ax, beside, styles)
        if here.empty and beside.empty and level.empty:
            say_in(ax, "no finished run")
        label = device_labels(devices)[device]
        _scale_x(ax, x, pd.concat([points["x"], published["x"]]).dropna())
        ax.set_title(f"{evaluation.label} · {label}" if devices[1:] else evaluation.label)
        ax.set_xlabel(_x_label(x, unit, label))
        few_round_ticks(ax.yaxis, 6)
        ax.set_ylabel(
            evaluation.metric.axis if evaluation is selected[0] or evaluation.metric != selected[0].metric else ""
        )
    handles = [handle(line, style) for line, style in styles.items()]
    handles += [hollow_handle()] if len(published) else []
    seeds = repetitions(done, ["setting", "panel", "along"])
    compose(figure, title, handles, [seeds, *notes, *source_notes(published)])
    thin_tick_labels(axes)
    return figure


def _rows(
    runs: Sequence[Shown],
    selected: Sequence[Selected],
    x: str,
    declaration: Declaration,
    differing: Differing,
    columns: Sequence[str],
) -> pd.DataFrame:
    """A row a run and panel."""
    settings: dict[tuple, int] = {}
    rows = []
    for run in runs:
        names = names_of(run, differing)
        setting = settings.setdefault(tuple(run.value(column) for column in columns), len(settings))
        shared = {
            "line": names["line"],
            "method": run.method,
            "rest": names["rest"],
            "setting": setting,
            "along": run.value(_along(x)),
            "state": run.state,
            "trained": run.costs.get("trained") is not None,
            "device": run.costs.get("pretrain_device"),
            "x": _x(run, x, declaration),
        }
        rows += [
            {**shared, "panel": evaluation.text, "y": run.figures.get(evaluation.metric.name)}
            for evaluation in selected
            if evaluation.name == run.name
        ]
    return pd.DataFrame(rows, columns=ROW).astype({"x": "float64", "y": "float64", "along": "float64"})


def _along(x: str) -> str:
    """The column in which the points of a line differ."""
    return "pretrain_epochs" if x in COSTS else x


def _x(run: Shown, x: str, declaration: Declaration) -> float | None:
    if x == "pretrain_macs":
        return macs_of(run, declaration)
    if x == "pretrain_step_hours":
        return step_hours_of(run, declaration)
    return run.costs.get(x) if x in COSTS else run.value(x)


def _with_known_x(done: pd.DataFrame, x: str) -> tuple[pd.DataFrame, list[str]]:
    """Leaves out the rows that were pretrained at an unknown cost; returns the others, and a note of how many were left
    out."""
    lost = done["x"].isna() & done["trained"] & (x in COSTS)
    what = {"pretrain_macs": "multiply-adds"}.get(x, "hours")
    notes = [f"Left out, of unknown {what} of pretraining: {lost.sum()} of {len(done)} runs."] if lost.any() else []
    return done[~lost], notes


def _at_mean_hours(points: pd.DataFrame) -> pd.DataFrame:
    """Moves repetitions, which take different times, to the mean of their hours."""
    alike = points.groupby(["setting", "panel", "along", "device"], dropna=False)
    return points.assign(x=alike["x"].transform("mean"))


# ----------------------------------------------------------------------------------------------------------- drawing


def _draw_levels(ax: "Axes", levels: pd.DataFrame, styles: dict[str, dict]) -> None:
    for name, level in levels.groupby("line", sort=False):
        style = styles[name]
        (line,) = ax.plot(
            [0.02, 0.98],
            [level["y"].mean()] * 2,
            transform=ax.get_yaxis_transform(),
            color=style["color"],
            marker=style["marker"],
            markeredgecolor="white",
            linewidth=1.0,
            zorder=1.5,
        )
        set_dashes(line, style)


def _draw_published(ax: "Axes", points: pd.DataFrame, styles: dict[str, dict]) -> None:
    """Draws published figures hollow; those without an x at the right edge, where their level ends."""
    for point in points.itertuples():
        style = {"color": styles[point.line]["color"], "marker": styles[point.line]["marker"], **HOLLOW}
        if pd.isna(point.x):
            ax.plot([1.0], [point.y], transform=ax.get_yaxis_transform(), clip_on=False, **style)
        else:
            ax.plot([point.x], [point.y], **style)


def _x_label(x: str, unit: str, device: str) -> str:
    if x == "pretrain_macs":
        return f"pretraining ({unit} multiply-adds)"
    if x == "pretrain_hours":
        return f"pretraining ({device} hours)".replace("( ", "(")
    if x == "pretrain_step_hours":
        return "pretraining (hours of steps)"
    return axis_label(x)


def _scale_x(ax: "Axes", x: str, values: pd.Series) -> None:
    """Ticks at the values there are, or at round ones of a logarithmic axis where x is a cost."""
    from matplotlib.ticker import NullLocator

    if values.empty:
        return
    low, high, present = values.min(), values.max(), sorted(values.unique())
    ticks: list[float] | None
    if x in COSTS:
        ax.set_xscale("log")
        ax.set_xlim(low / 1.25, high * 1.25)
        ticks = _round_ticks(low / 1.25, high * 1.25)
    else:
        if x in ALIASES and ALIASES[x].doubled and high > 4 * low:
            ax.set_xscale("log", base=2)
        ticks = present if len(present) <= 12 else None
        if len(present) == 1:
            ax.set_xlim(low * 0.5, low * 1.5)
    ax.xaxis.set_minor_locator(NullLocator())
    if ticks is not None:
        ax.set_xticks(ticks, [f"{value:.3g}" if value < 1000 else f"{value:g}" for value in ticks])


def _round_ticks(low: float, high: float) -> list[float]:
    """Round numbers in low … high, at least three where there are as many: powers of ten, or finer ones."""
    from math import floor, log10

    decades = range(floor(log10(low)), floor(log10(high)) + 1)
    for digits in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8)):
        ticks = [digit * 10.0**decade for decade in decades for digit in digits]
        inside = [tick for tick in ticks if low <= tick <= high]
        if len(inside) >= 3:
            break
    return inside
