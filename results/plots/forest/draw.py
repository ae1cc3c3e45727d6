"""How far every setting of a grid is from one of them: paired differences, a row a setting, a panel an evaluation."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from mixmae.experiment.metric import Metric
from mixmae.presentation.columns import MISSING
from mixmae.presentation.declaration import Declaration, Selected
from mixmae.presentation.shown import Shown
from results.plots.forest.settings import (
    PlottedSetting,
    reference_of,
    setting_names,
    settings_of,
    with_runs_of_their_own,
)
from results.plots.forest.spec import ForestPlot
from results.plots.layout import compose, few_round_ticks, line_inches, panels, wrapped
from results.plots.theme import GREY, PAGE_INCHES, TEXT, colour
from results.rows.shown import shown_runs
from results.statistics import FEWEST, Comparison, Seeds, paired

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROW, AROUND = 0.32, 0.65
"""Inches a row takes at least, and those above and below the rows."""
NAMES = 0.36
"""Share of the figure's width that the names of settings take at most."""

_BLANK = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}


def draw(frame: pd.DataFrame, plot: ForestPlot, declaration: Declaration, title: str) -> "Figure":
    """Draws the mean paired differences to the reference over the seeds that both have, with 95 % t intervals.

    Raises ValueError where `reference` does not name exactly one setting.
    """
    selected = declaration.selected(plot.stages, plot.sweeps)
    runs = shown_runs(frame, declaration, plot.sweeps, [of.name for of in selected], as_run=True)
    settings = settings_of(plot, declaration, runs)
    reference = reference_of(settings, plot)
    others, hidden = with_runs_of_their_own(settings, reference)
    names = setting_names(others, reference)
    labels = ["\n".join(wrapped(name, NAMES * PAGE_INCHES)) for name in names]
    row = max([ROW, *((label.count("\n") + 1) * line_inches(TEXT) + 0.06 for label in labels)])
    figure, axes = panels(len(selected), AROUND + row * max(len(others), 1), len(selected), PAGE_INCHES)
    drawn: list[Comparison] = []
    for ax, of in zip(axes, selected, strict=True):
        drawn += _draw_panel(ax, of, [run for run in runs if run.name == of.name and run.done], others, reference)
        unit = of.metric.difference_unit
        ax.set(title=of.label, xlabel=f"Δ {of.metric.short} ({unit})" if unit else f"Δ {of.metric.short}")
        ax.set_yticks(range(len(others)), labels if ax is axes[0] else [""] * len(labels))
    compose(figure, title, [], _notes(drawn, reference, plot, hidden))
    return figure


def _notes(
    drawn: Sequence[Comparison], reference: PlottedSetting, plot: ForestPlot, hidden: Sequence[PlottedSetting]
) -> list[str]:
    notes = [f"Zero: {' · '.join(reference.part(column) for column in plot.reference)}."]
    repeated = sorted({compared.pairs for compared in drawn if compared.half is not None})
    if repeated:
        span = f"{repeated[0]} to {repeated[-1]}" if repeated[1:] else f"{repeated[0]}"
        notes.append(f"Mean difference over {span} matched seeds, with its 95 % t interval.")
    if any(compared.half is None for compared in drawn):
        notes.append(f"Hollow: fewer than {FEWEST} matched seeds, so no interval.")
    if hidden:
        names = "; ".join(dict.fromkeys(setting.name(reference, brief=False) for setting in hidden))
        notes.append(f"Not shown, since at this scale they are the same runs as another setting: {names}.")
    return notes


# ----------------------------------------------------------------------------------------------------------- drawing


def _draw_panel(
    ax: "Axes", of: Selected, done: Sequence[Shown], settings: Sequence[PlottedSetting], reference: PlottedSetting
) -> list[Comparison]:
    ax.axvline(0, color="0.3", linewidth=0.8, zorder=1)
    ax.set_ylim(len(settings) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.grid(False, axis="y")
    zero, drawn = _by_seed(done, reference, of), []
    for place, setting in enumerate(settings):
        own = _by_seed(done, setting, of)
        compared = paired(own, zero)
        if compared.difference is None:
            what = "no matched seed" if own and zero else "not finished"
            what = what if any(key[0] == of.kind for key in setting.keys) else MISSING
            ax.text(
                0.5, place, what, transform=ax.get_yaxis_transform(), color=GREY, ha="center", va="center", bbox=_BLANK
            )
            continue
        drawn.append(compared)
        _draw_difference(ax, place, compared, of.metric, colour(setting.run.method))
    ax.margins(x=0.22)
    few_round_ticks(ax.xaxis, 4)
    if not drawn:
        ax.set_xticks([0.0], ["0"])
    return drawn


def _draw_difference(ax: "Axes", place: int, compared: Comparison, metric: Metric, colour: str) -> None:
    mean = compared.difference
    assert mean is not None
    ax.errorbar(
        mean, place, xerr=compared.half, color=colour, marker="o", markersize=5, markeredgewidth=1.1,
        markerfacecolor="none" if compared.half is None else colour,
    )  # fmt: skip
    text = format(mean, f"+{metric.format}").replace("-", "\N{MINUS SIGN}")
    ax.annotate(text, (mean, place), (0, 4), textcoords="offset points", ha="center", va="bottom", bbox=_BLANK)


def _by_seed(done: Sequence[Shown], setting: PlottedSetting, of: Selected) -> Seeds:
    """The figures of the setting's finished runs, by seed."""
    return {run.seed: run.figures[of.metric.name] for run in done if run.key in setting.keys}
