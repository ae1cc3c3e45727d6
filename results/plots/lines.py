"""The lines of a figure: which runs belong to one, and what it is called."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from mixmae.presentation.columns import named, shown
from mixmae.presentation.shown import Shown, cells, varying
from results.plots.theme import line_styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

Differing = dict[tuple[str, str], list[str]]
"""The further columns in which the runs of each (method, encoder) differ."""


def differing_columns(runs: Sequence[Shown], columns: Sequence[str]) -> Differing:
    """The columns, among `columns`, whose values the names of the lines give."""
    further = [column for column in columns if column not in ("method", "encoder")]
    return {pair: varying(alike, further) for pair, alike in cells(runs, ("method", "encoder"))}


def names_of(run: Shown, differing: Differing) -> dict[str, str]:
    """What a run is called: in full (`line`), without the method (`rest`) and without the encoder (`series`)."""
    method, encoder = run.value("method"), run.value("encoder")
    whose = [shown("encoder", encoder)] if encoder != "-" else []
    further = [
        named(column, shown(column, run.value(column)))
        for column in differing.get((method, encoder), [])
        if run.value(column) is not None
    ]
    parts = {
        "line": [shown("method", method), *whose, *further],
        "rest": [*whose, *further],
        "series": [shown("method", method), *further],
    }
    return {name: " · ".join(words) for name, words in parts.items()}


def ordered_runs(runs: Sequence[Shown], differing: Differing) -> list[Shown]:
    """The runs in the order in which lines are shown."""
    return [
        run
        for pair, alike in cells(runs, ("method", "encoder"))
        for _, group in cells(alike, ["method", "encoder", *differing[pair]])
        for run in group
    ]


def styles_of(rows: pd.DataFrame, by_method: bool = True) -> dict[str, dict]:
    """Colour, marker and dashes of the lines of `rows`; see `results.plots.theme.line_styles`."""
    lines = rows[["line", "method", "rest"]].drop_duplicates("line")
    return line_styles(list(lines.itertuples(index=False, name=None)), by_method)


def draw_lines(ax: "Axes", points: pd.DataFrame, styles: Mapping[str, dict], errors: Literal["bars", "band"]) -> None:
    """Draws `y` against `x`, one line for each value of `line`, in the order of its points: means over seeds with std
    (n - 1) as bars or as a band, which a single seed does not have."""
    import seaborn as sns

    names = [name for name in styles if name in set(points["line"])]
    if not names:
        return
    sns.lineplot(
        points,
        x="x",
        y="y",
        hue="line",
        style="line",
        hue_order=names,
        style_order=names,
        palette={name: styles[name]["color"] for name in names},
        markers={name: styles[name]["marker"] for name in names},
        dashes={name: styles[name]["dashes"] for name in names},
        sort=False,
        errorbar="sd",
        err_style=errors,
        err_kws={"linewidth": 0.9} if errors == "bars" else {"alpha": 0.15, "linewidth": 0},
        markevery=max(1, points["x"].nunique() // 8) if errors == "band" else 1,
        legend=False,
        ax=ax,
    )


def set_dashes(line: "Line2D", style: Mapping[str, Any]) -> None:
    if style["dashes"]:
        line.set_dashes(style["dashes"])


def handle(label: str, style: Mapping[str, Any], **more: Any) -> "Line2D":
    """The line as a legend shows it."""
    from matplotlib.lines import Line2D

    line = Line2D([], [], label=label, color=style["color"], marker=style["marker"], markeredgecolor="white", **more)
    set_dashes(line, style)
    return line


def repetitions(rows: pd.DataFrame, columns: Sequence[str]) -> str:
    """How many seeds there are to a value, as a note says it."""
    counts = sorted(set(rows.groupby(list(columns), dropna=False, observed=True).size())) if len(rows) else []
    if not counts:
        return "No finished run."
    if counts == [1]:
        return "One seed each."
    span = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"Mean and standard deviation (n - 1) over {span} seeds."
