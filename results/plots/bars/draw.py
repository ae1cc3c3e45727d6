"""Figures of every encoder: a group of bars an encoder, a bar a method, a panel an evaluation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from mixmae.experiment.metric import Metric
from mixmae.presentation.columns import position, shown
from mixmae.presentation.declaration import Declaration
from mixmae.presentation.shown import cells, separating
from results.plots.bars.spec import BarsPlot
from results.plots.layout import (
    PANEL_INCHES,
    compose,
    few_round_ticks,
    line_inches,
    panels,
    say_in,
    text_inches,
    wrapped,
)
from results.plots.lines import names_of, ordered_runs, repetitions
from results.plots.published_points import HOLLOW, hollow_handle, published_points, source_notes
from results.plots.theme import COLUMN_INCHES, PAGE_INCHES, TEXT, look_of, shade
from results.rows.shown import shown_runs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GROUP = 0.86
"""Share of a group's width that its bars take; a group is 1 wide."""
BESIDE = 0.6
"""Inches of a panel that are not between its axes."""
NARROWEST = 0.115
"""Inches: the width of a bar over which an upright figure can be written."""
PUBLISHED: dict[str, Any] = {**HOLLOW, "marker": "D", "markersize": 5, "color": "black", "markerfacecolor": "white"}


@dataclass(frozen=True)
class Bar:
    """One bar of a panel; mean is None without a finished run, std with fewer than two."""

    encoder: str
    series: str
    mean: float | None
    std: float | None
    published: tuple[float, ...]

    @property
    def top(self) -> float:
        return max([*self.published, *([self.mean + (self.std or 0)] if self.mean is not None else [])])


def draw(frame: pd.DataFrame, plot: BarsPlot, declaration: Declaration, title: str) -> "Figure":
    """Draws means over seeds with std, which a single seed does not have, and published numbers as hollow diamonds."""
    selected = declaration.selected(plot.stages, plot.sweeps)
    runs = shown_runs(frame, declaration, plot.sweeps, [evaluation.name for evaluation in selected], as_run=True)
    columns = separating(runs, ("method", "encoder"), ("name",), tuple(declaration.swept))
    differing = {pair: list(columns[2:]) for pair, _ in cells(runs, ("method", "encoder"))}
    rows = pd.DataFrame(
        [
            {**names_of(run, differing), "panel": of.text, "method": run.method, "encoder": run.value("encoder"),
             "setting": tuple(map(run.value, columns)), "state": run.state, "y": run.figures.get(of.metric.name)}
            for run in ordered_runs(runs, differing)
            for of in selected
            if of.name == run.name
        ],
        columns=["line", "rest", "series", "panel", "method", "encoder", "setting", "state", "y"],
    )  # fmt: skip
    published = published_points(runs, selected, declaration, differing, plot.sweeps)
    done = rows[rows["state"] == "done"]
    bars = [
        _bars(done[done["panel"] == evaluation.text], published[published["panel"] == evaluation.text])
        for evaluation in selected
    ]
    seen = {bar.series for panel in bars for bar in panel}
    looks = _looks(pd.concat([rows, published])[["series", "method"]].drop_duplicates("series"), seen)
    columns_beside, width = _size(bars)
    names = [_group_names(width / columns_beside, panel) for panel in bars]
    lines = max((name.count("\n") for panel in names for name in panel), default=0)
    figure, axes = panels(len(selected), PANEL_INCHES + lines * line_inches(TEXT), columns_beside, width)
    for ax, evaluation, panel, groups in zip(axes, selected, bars, names, strict=True):
        _draw_panel(ax, panel, looks)
        ax.set_xticks(range(len(groups)), groups)
        with_y = ax is axes[0] or columns_beside == 1 or evaluation.metric != selected[0].metric
        ax.set(title=evaluation.label, ylabel=evaluation.metric.axis if with_y else "")
    notes = [repetitions(done, ["setting", "panel"]), *source_notes(published)]
    compose(figure, title, _handles(looks, len(published) > 0), notes)
    for ax, evaluation, panel in zip(axes, selected, bars, strict=True):
        _write_values(ax, panel, evaluation.metric)
    figure.draw_without_rendering()
    return figure


def _bars(done: pd.DataFrame, published: pd.DataFrame) -> list[Bar]:
    """The bars of a panel in the order in which they stand."""
    either = pd.concat([done, published])
    bars = []
    for encoder in sorted(set(either["encoder"]), key=lambda name: position("encoder", name)):
        for series in dict.fromkeys(either.loc[either["encoder"] == encoder, "series"]):
            ours = done.loc[(done["encoder"] == encoder) & (done["series"] == series), "y"]
            theirs = published.loc[(published["encoder"] == encoder) & (published["series"] == series), "y"]
            mean = float(ours.mean()) if len(ours) else None
            std = float(ours.std(ddof=1)) if len(ours) > 1 else None
            bars.append(Bar(encoder, series, mean, std, tuple(theirs)))
    return bars


# ------------------------------------------------------------------------------------------------------------- looks


def _looks(series: pd.DataFrame, seen: set[str]) -> dict[str, dict]:
    """Colour and hatch of every series: the method's, in shades where there are several of it."""
    looks = {}
    for method, alike in series[series["series"].isin(seen)].groupby("method", sort=False):
        for place, name in enumerate(alike["series"]):
            looks[name] = {"facecolor": shade(method, place), "hatch": look_of(method).hatch}
    return looks


def _handles(looks: Mapping[str, dict], published: bool) -> list:
    from matplotlib.patches import Patch

    handles: list = [Patch(label=name, edgecolor="white", linewidth=0, **look) for name, look in looks.items()]
    return handles + ([hollow_handle(**PUBLISHED)] if published else [])


def _size(bars: Sequence[Sequence[Bar]]) -> tuple[int, float]:
    """How many panels stand beside one another, and the figure's width in inches: all of them if that leaves every bar
    its width, else one."""
    beside = COLUMN_INCHES if len(bars) == 1 else PAGE_INCHES / len(bars)
    if all(_inches_a_bar(beside, panel) >= NARROWEST for panel in bars):
        return len(bars), beside * len(bars)
    return 1, PAGE_INCHES


def _group_names(panel: float, bars: Sequence[Bar]) -> list[str]:
    """The encoders, in as many lines as the width of a group makes of them."""
    groups = _groups(bars)
    inches = (panel - BESIDE) / max(len(groups), 1) - 0.04
    return ["\n".join(wrapped(shown("encoder", name), inches)) for name in groups]


def _inches_a_bar(panel: float, bars: Sequence[Bar]) -> float:
    return (panel - BESIDE) * _width(bars) / max(len(_groups(bars)), 1)


def _width(bars: Sequence[Bar]) -> float:
    return GROUP / max((len(group) for group in _groups(bars).values()), default=1)


def _groups(bars: Sequence[Bar]) -> dict[str, list[Bar]]:
    groups: dict[str, list[Bar]] = {}
    for bar in bars:
        groups.setdefault(bar.encoder, []).append(bar)
    return groups


# ----------------------------------------------------------------------------------------------------------- drawing


def _draw_panel(ax: "Axes", bars: Sequence[Bar], looks: Mapping[str, dict]) -> None:
    if not bars:
        say_in(ax, "no finished run")
        ax.set_yticks([])
        return
    for x, bar in _placed(bars):
        if bar.mean is not None:
            ax.bar(x, bar.mean, _width(bars), edgecolor="white", linewidth=0.5, **looks[bar.series])
            if bar.std is not None:
                ax.errorbar(x, bar.mean, bar.std, color="black", linewidth=0.9)
        ax.plot([x] * len(bar.published), bar.published, zorder=3, **PUBLISHED)
    ax.grid(False, axis="x")
    ax.tick_params(axis="x", length=0)
    ax.set_xlim(-0.5, len(_groups(bars)) - 0.5)
    ax.set_ylim(bottom=0)
    few_round_ticks(ax.yaxis, 6)


def _placed(bars: Sequence[Bar]) -> list[tuple[float, Bar]]:
    """The bars and where their middles are; groups stand at 0, 1, 2, …"""
    return [
        (place + (number - (len(group) - 1) / 2) * _width(bars), bar)
        for place, group in enumerate(_groups(bars).values())
        for number, bar in enumerate(group)
    ]


def _write_values(ax: "Axes", bars: Sequence[Bar], metric: Metric) -> None:
    """Writes the means above the bars, upright where they are too wide, and makes room for them."""
    if not bars:
        return
    box = ax.get_window_extent()
    texts = {x: _value(bar.mean, metric) for x, bar in _placed(bars) if bar.mean is not None}
    longest = max(map(text_inches, texts.values()), default=0.0)
    bar_inches = box.width / ax.figure.dpi * _width(bars) / len(_groups(bars))
    upright = longest + 0.04 > bar_inches
    gap = 6 if any(bar.published for bar in bars) else 3
    needed = (longest if upright else TEXT * 1.1 / 72) + (gap + 2) / 72
    ax.set_ylim(0, max(bar.top for bar in bars) / (1 - needed / (box.height / ax.figure.dpi)))
    for x, bar in _placed(bars):
        if bar.mean is not None:
            ax.annotate(
                texts[x], (x, bar.top), (0, gap), textcoords="offset points", ha="center", va="bottom",
                rotation=90 if upright else 0,
            )  # fmt: skip


def _value(mean: float, metric: Metric) -> str:
    """A mean as text; percent are given to a tenth, since bars are narrow."""
    return f"{mean:.1f}" if metric.unit == "%" else metric.text(mean)
