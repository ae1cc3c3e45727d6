"""Top-1 against a column, or against what the pretraining cost: a line a method and encoder, a panel a stage."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from mixmae.presentation.declaration import Declaration, PlotSpec
from results.cells import STAGE_LABELS, cells, member_rows, separating_columns
from results.plots.costs import COSTS, device_labels, macs_unit, with_macs
from results.plots.layout import compose, few_round_ticks, panels, say_in, thin_tick_labels
from results.plots.lines import draw_lines, handle, repetitions, set_dashes, styles_of, told_apart, with_names
from results.plots.published_points import HOLLOW, hollow_handle, published_points, source_notes
from results.tables import COLUMN_LABELS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

X_LABELS = {"pretrain_epochs": "pretraining epochs", "ratio": "share of hidden units", "images": "images mixed"}
DOUBLED = ("pretrain_epochs", "labels_per_class", "decoder_width", "decoder_depth")
"""Columns that are swept by doubling: base 2 where their values span more than two doublings."""


def draw_curves(frame: pd.DataFrame, spec: PlotSpec, declaration: Declaration, title: str) -> "Figure":
    """Means over seeds with std as bars. What has no x, as training from scratch has no pretraining, is a level."""
    rows = with_macs(member_rows(frame, declaration.members, spec.sweeps, spec.stages), declaration)
    along = "pretrain_epochs" if spec.x in COSTS else spec.x
    columns = separating_columns(rows, ("method", "encoder"), ("stage", along))
    told = told_apart(rows, columns)
    rows = with_names(rows.assign(x=rows[spec.x].astype("float64"), y=rows["top1"]), told)
    unit, size = macs_unit(rows["x"].min()) if spec.x == "pretrain_macs" else ("", 1.0)
    rows = rows.assign(x=rows["x"] / size)
    published = published_points(rows, spec, declaration, told)
    done, notes = _with_known_x(rows[rows["state"] == "done"], spec.x)
    points, levels = done[done["x"].notna()].assign(device=""), done[done["x"].isna()]
    if spec.x == "pretrain_hours":
        notes = [*notes, "Hours as they were measured, whatever else the machines did."]
        points = _at_mean_hours(points, [*columns, "stage", along, "pretrain_device"])
    points = points.sort_values(along, kind="stable")  # more epochs may have been measured to take less time
    devices = sorted(points["device"].unique()) or [""]
    styles = styles_of(pd.concat([rows[rows["line"].isin({*done["line"], *published["line"]})], published]))
    figure, axes = panels(len(spec.stages) * len(devices), columns=len(spec.stages) if devices[1:] else None)
    places = [(device, stage) for device in devices for stage in spec.stages]
    for ax, (device, stage) in zip(axes, places, strict=True):
        here = points[(points["stage"] == stage) & (points["device"] == device)]
        beside, level = published[published["stage"] == stage], levels[levels["stage"] == stage]
        _draw_levels(ax, level, styles)
        draw_lines(ax, here, styles, errors="bars")
        _draw_published(ax, beside, styles)
        if here.empty and beside.empty and level.empty:
            say_in(ax, "no finished run")
        label = device_labels(devices)[device]
        _scale_x(ax, spec.x, pd.concat([points["x"], published["x"]]).dropna())
        ax.set_title(f"{STAGE_LABELS[stage]} · {label}" if devices[1:] else STAGE_LABELS[stage])
        ax.set_xlabel(_x_label(spec.x, unit, label))
        few_round_ticks(ax.yaxis, 6)
        ax.set_ylabel("top-1 (%)" if stage == spec.stages[0] else "")
    handles = [handle(line, style) for line, style in styles.items()]
    handles += [hollow_handle()] if len(published) else []
    seeds = repetitions(done, [*columns, "stage", along])
    compose(figure, title, handles, [seeds, *notes, *source_notes(published)])
    thin_tick_labels(axes)
    return figure


def _with_known_x(done: pd.DataFrame, x: str) -> tuple[pd.DataFrame, list[str]]:
    """Without what was pretrained at an unknown cost, and a note that says how many runs those are."""
    lost = done["x"].isna() & done["pretraining"].notna() & (x in COSTS)
    what = {"pretrain_macs": "multiply-adds", "pretrain_hours": "hours"}.get(x)
    notes = [f"Left out, of unknown {what} of pretraining: {lost.sum()} of {len(done)} runs."] if lost.any() else []
    return done[~lost], notes


def _at_mean_hours(points: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Repetitions take different times: all of them at the mean."""
    moved = [group.assign(x=group["x"].mean(), device=group["pretrain_device"]) for _, group in cells(points, columns)]
    return pd.concat(moved) if moved else points


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
    """What has no x stands at the right edge, as its level does."""
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
    return X_LABELS.get(x, COLUMN_LABELS.get(x, x))


def _scale_x(ax: "Axes", x: str, values: pd.Series) -> None:
    """Ticks at the values there are, or at round ones of a logarithmic axis where x is a cost."""
    from matplotlib.ticker import NullLocator

    if values.empty:
        return
    low, high, found = values.min(), values.max(), sorted(values.unique())
    if x in COSTS:
        ax.set_xscale("log")
        ax.set_xlim(low / 1.25, high * 1.25)
        ticks = _round_ticks(low / 1.25, high * 1.25)
    else:
        if x in DOUBLED and high > 4 * low:
            ax.set_xscale("log", base=2)
        ticks = found if len(found) <= 12 else None
        if len(found) == 1:
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
