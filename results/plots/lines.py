"""The lines of a figure: which runs belong to one, and what it is called."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from results.cells import cells, shown
from results.plots.theme import line_styles
from results.tables import COLUMN_LABELS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

Told = dict[tuple[str, str], list[str]]
"""Of each (method, encoder), the further columns in which its runs differ."""


def told_apart(rows: pd.DataFrame, columns: Sequence[str]) -> Told:
    """Which of `columns` the names of the lines say."""
    further = [column for column in columns if column not in ("method", "encoder")]
    return {
        pair: [column for column in further if alike[column].nunique(dropna=False) > 1]
        for pair, alike in cells(rows, ("method", "encoder"))
    }


def names_of(values: Mapping[str, Any], told: Told) -> dict[str, str]:
    """What a run with these values is called: `line`, and that without the method (`rest`) or encoder (`series`)."""
    method = [shown("method", values["method"])]
    encoder = [] if values["encoder"] in (None, "-") else [shown("encoder", values["encoder"])]
    further = [
        f"{COLUMN_LABELS.get(column, column)} {shown(column, values[column])}"
        for column in told.get((values["method"], values["encoder"]), [])
        if values[column] is not None
    ]
    parts = {"line": method + encoder + further, "rest": encoder + further, "series": method + further}
    return {name: " · ".join(words) for name, words in parts.items()}


def with_names(rows: pd.DataFrame, told: Told) -> pd.DataFrame:
    """The rows in the order in which they are shown, with the columns of `names_of`."""
    named = []
    for pair, alike in cells(rows, ("method", "encoder")):
        columns = ["method", "encoder", *told[pair]]
        for values, group in cells(alike, columns):
            named.append(group.assign(**names_of(dict(zip(columns, values, strict=True)), told)))
    return pd.concat(named) if named else rows.assign(line="", rest="", series="")


def styles_of(rows: pd.DataFrame, by_method: bool = True) -> dict[str, dict]:
    """Colour, marker and dashes of the lines of `rows`; see `results.plots.theme.line_styles`."""
    lines = rows[["line", "method", "rest"]].drop_duplicates("line")
    return line_styles(list(lines.itertuples(index=False, name=None)), by_method)


def draw_lines(ax: "Axes", points: pd.DataFrame, styles: Mapping[str, dict], errors: Literal["bars", "band"]) -> None:
    """`y` against `x`, a line each `line` in the order of its points: means over seeds with std (n - 1) as bars or as a
    band, which a single seed does not have."""
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
    counts = sorted(set(rows.groupby(list(columns), dropna=False).size()))
    if not counts:
        return "No finished run."
    if counts == [1]:
        return "One seed each."
    span = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"Mean and standard deviation (n - 1) over {span} seeds."
