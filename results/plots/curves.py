"""Top-1 against a column, and pretraining losses by epoch.

Lines differ in colour, marker and dashes, so that they can be told apart in grey. matplotlib and seaborn are imported
when something is drawn.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from mixmae.presentation import Declaration, PlotSpec
from mixmae.runs import RunFolder, read_lines
from results.cells import MISSING, STAGE_LABELS, cells, member_rows, separating_columns, shown
from results.tables import COLUMN_LABELS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend
    from matplotlib.text import Text

PANEL = (4.2, 3.4)
"""Width and height of a panel in inches."""

X_LABELS = {"pretrain_epochs": "pretraining epochs", "ratio": "share of hidden units", "images": "images mixed"}
LOSS_LABELS = {"mixmae": "squared error", "mae": "squared error", "simmim": "L1"}

_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_DASHES = ((), (5, 2), (1, 1.5), (5, 2, 1, 2), (3, 1, 1, 1, 1, 1))
_REFERENCE_DASHES = ((6, 3), (2, 2), (6, 2, 1, 2), (1, 3), (10, 3), (4, 1, 1, 1, 1, 1), (8, 2, 2, 2, 2, 2))


def draw(frame: pd.DataFrame, spec: PlotSpec, declaration: Declaration) -> "Figure":
    """The figure of one spec."""
    import seaborn as sns

    with sns.plotting_context("notebook", font_scale=0.85), sns.axes_style("whitegrid"):
        if spec.kind == "loss":
            return _draw_losses(_losses(member_rows(frame, declaration.members, spec.sweeps, ["pretrain"])), spec)
        return _draw_curves(member_rows(frame, declaration.members, spec.sweeps, spec.stages), spec)


# ------------------------------------------------------------------------------------------------------------ curves


def _draw_curves(rows: pd.DataFrame, spec: PlotSpec) -> "Figure":
    columns = separating_columns(rows, ("method", "encoder"), ("stage", spec.x))
    rows = _with_lines(rows, columns)
    done = rows[rows["state"] == "done"]
    lines = done[done[spec.x].notna()].assign(x=lambda some: some[spec.x].astype(float))
    levels = done[done[spec.x].isna()]
    styles = _styles([line for line in rows["line"].unique() if line in set(lines["line"])])
    level_styles = _level_styles([line for line in rows["line"].unique() if line in set(levels["line"])])
    figure, axes = _panels(len(spec.stages))
    for ax, stage in zip(axes, spec.stages, strict=True):
        panel = lines[lines["stage"] == stage]
        for name, level in levels[levels["stage"] == stage].groupby("line", sort=False):
            ax.axhline(level["top1"].mean(), **level_styles[name])
        _draw_lines(ax, panel, "top1", styles, errors="bars")
        _scale_x(ax, lines["x"], logarithmic=spec.x in ("pretrain_epochs", "labels_per_class"))
        ax.set(title=STAGE_LABELS[stage], xlabel=X_LABELS.get(spec.x, COLUMN_LABELS.get(spec.x, spec.x)))
        ax.set_ylabel("top-1 (%)")
        _say_if_empty(ax, done[done["stage"] == stage])
    _finish(figure, {**styles, **level_styles}, spec.title, _repetitions(done, (*columns, "stage", spec.x)))
    return figure


def _level_styles(names: Sequence[str]) -> dict[str, dict]:
    """Dashed lines for runs to which x does not apply, in greys that leave the colours to the curves."""
    greys = ("0.15", "0.35", "0.5", "0.6")
    return {
        name: {
            "color": greys[place % len(greys)],
            "dashes": _REFERENCE_DASHES[place % len(_REFERENCE_DASHES)],
            "linewidth": 1.3,
            "zorder": 1,
        }
        for place, name in enumerate(names)
    }


def _scale_x(ax: "Axes", x: pd.Series, logarithmic: bool) -> None:
    """Ticks at the values there are; base 2 where they span more than two doublings."""
    values = sorted(x.unique())
    if not values:
        return
    if logarithmic and values[-1] > 4 * values[0]:
        ax.set_xscale("log", base=2)
    ax.minorticks_off()
    if len(values) <= 8:
        ax.set_xticks(values, [f"{value:.3g}" if value < 1000 else f"{value:g}" for value in values])
    if len(values) == 1:
        ax.set_xlim(values[0] * 0.5, values[0] * 1.5)


# ------------------------------------------------------------------------------------------------------------ losses


def _losses(rows: pd.DataFrame) -> pd.DataFrame:
    """A row an epoch of every pretraining among `rows`, finished or not: its columns, `x` (the epoch) and `y`."""
    curves = []
    for row in rows.itertuples():
        run = RunFolder(Path(row.root), row.stage, row.id)
        if row.state == "done":
            run.check(run.metrics)
        lines = read_lines(run.metrics)
        epochs = pd.DataFrame({"x": [line["epoch"] for line in lines], "y": [line["loss"] for line in lines]})
        curves.append(epochs.assign(id=row.id))
    table = pd.concat(curves, ignore_index=True) if curves else pd.DataFrame({"x": [], "y": [], "id": []})
    return rows.drop(columns="loss").merge(table.astype({"id": "str"}), on="id", how="left", sort=False)


def _draw_losses(rows: pd.DataFrame, spec: PlotSpec) -> "Figure":
    """One panel a method: their losses have different units."""
    from matplotlib.ticker import MaxNLocator

    columns = separating_columns(rows, ("method", "encoder"), ("x",))
    rows = _with_lines(rows, columns, but="method")
    drawn = rows[rows["y"].notna()]
    methods = list(rows["method"].unique())
    styles = _styles(list(drawn["line"].unique()))
    figure, axes = _panels(max(len(methods), 1))
    for ax, method in zip(axes, methods or [None], strict=True):
        panel = drawn[drawn["method"] == method]
        _draw_lines(ax, panel, "y", styles, errors="band")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        ax.set(title=shown("method", method), xlabel="epoch", ylabel=f"loss ({LOSS_LABELS.get(method, MISSING)})")
        _say_if_empty(ax, panel)
    _finish(figure, styles, spec.title, _repetitions(drawn, (*columns, "x")))
    return figure


# ----------------------------------------------------------------------------------------------------------- drawing


def _with_lines(rows: pd.DataFrame, columns: Sequence[str], but: str | None = None) -> pd.DataFrame:
    """The rows in the order shown, with `line`: the name of the line a row belongs to, made of method, encoder and
    what else in `columns` varies among the runs of that method and encoder."""
    named = []
    for _, alike in cells(rows, ("method", "encoder")):
        told = [
            column
            for column in columns
            if column != but and (column in ("method", "encoder") or alike[column].nunique(dropna=False) > 1)
        ]
        for values, group in cells(alike, told):
            parts = [_part(*pair) for pair in zip(told, values, strict=True) if pair[1] not in (None, "-")]
            named.append(group.assign(line=" · ".join(parts)))
    return pd.concat(named) if named else rows.assign(line="")


def _part(column: str, value) -> str:
    text = shown(column, value)
    return text if column in ("method", "encoder") else f"{COLUMN_LABELS.get(column, column)} {text}"


def _styles(names: Sequence[str]) -> dict[str, dict]:
    """Colour, marker and dashes a line: colour-blind safe, dark enough for white paper, distinct without colour."""
    import seaborn as sns

    yellow = 8
    palette = [colour for place, colour in enumerate(sns.color_palette("colorblind")) if place != yellow]
    return {
        name: {
            "color": palette[place % len(palette)],
            "marker": _MARKERS[place % len(_MARKERS)],
            "dashes": _DASHES[place % len(_DASHES)],
        }
        for place, name in enumerate(names)
    }


def _draw_lines(ax: "Axes", panel: pd.DataFrame, y: str, styles: dict[str, dict], errors: str) -> None:
    """Means over seeds with std (n - 1) as bars or as a band; where there is one seed there is no bar."""
    import seaborn as sns

    if panel.empty:
        return
    names = [name for name in styles if name in set(panel["line"])]
    sns.lineplot(
        panel,
        x="x",
        y=y,
        hue="line",
        style="line",
        hue_order=names,
        style_order=names,
        palette={name: styles[name]["color"] for name in names},
        markers={name: styles[name]["marker"] for name in names},
        dashes={name: styles[name]["dashes"] for name in names},
        errorbar="sd",
        err_style=errors,
        err_kws={"capsize": 2.5} if errors == "bars" else {},
        markevery=max(1, panel["x"].nunique() // 8),
        legend=False,
        ax=ax,
    )


def _panels(count: int) -> tuple["Figure", list["Axes"]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(PANEL[0] * count, PANEL[1]), layout="constrained")
    return figure, list(figure.subplots(1, count, squeeze=False)[0])


def _say_if_empty(ax: "Axes", panel: pd.DataFrame) -> None:
    if panel.empty:
        ax.text(0.5, 0.5, "no finished run", ha="center", va="center", transform=ax.transAxes, color="0.4")


def _repetitions(rows: pd.DataFrame, columns: Sequence[str]) -> str:
    counts = sorted({len(group) for _, group in cells(rows, columns)})
    if not counts or counts == [1]:
        return "one seed each"
    span = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"mean and std over {span} seeds"


def _finish(figure: "Figure", styles: dict[str, dict], title: str, seeds: str) -> None:
    """Title and legend, and as much height as the legend needs."""
    from matplotlib.lines import Line2D

    handles = []
    for name, style in styles.items():
        line = {"linestyle": "-", **style}
        dashes = line.pop("dashes")
        handle = Line2D([], [], label=name, **line)
        if dashes:
            handle.set_dashes(dashes)
        handles.append(handle)
    heading = figure.suptitle(f"{title} ({seeds})" if title else seeds)
    if handles:
        legend = figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, handlelength=3.5)
        _grow(figure, heading, legend)
    else:
        _grow(figure, heading)


def _grow(figure: "Figure", heading: "Text", legend: "Legend | None" = None) -> None:
    """Makes the figure wide enough for both, and higher by the legend."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    renderer = FigureCanvasAgg(figure).get_renderer()
    boxes = [part.get_window_extent(renderer) for part in (heading, legend) if part]
    width, height = figure.get_size_inches()
    needed = max(box.width for box in boxes) / figure.dpi + 0.3
    figure.set_size_inches(max(width, needed), height + (boxes[1].height / figure.dpi if legend else 0))
