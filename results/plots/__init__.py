"""Plots of a grid as PNG (200 dpi), PDF and SVG (no torch); matplotlib is imported when something is drawn.

curves: top-1 against a column or a cost. losses: of pretrainings, by epoch. bars: top-1 of every encoder. forest:
differences to one setting. They share a theme and a layout; the files are the same bytes whenever they are drawn of the
same data.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from mixmae.presentation import Declaration, PlotSpec
from results.plots.bars import draw_bars
from results.plots.curves import draw_curves
from results.plots.files import FORMATS, save, svg_element
from results.plots.forest import draw_forest
from results.plots.losses import draw_losses
from results.plots.theme import DPI, theme

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["DPI", "FORMATS", "draw", "figure_svg", "save", "write_plots"]

_DRAWN = {"curve": draw_curves, "loss": draw_losses, "bars": draw_bars, "forest": draw_forest}


def write_plots(
    frame: pd.DataFrame, declaration: Declaration, folder: Path, formats: Sequence[str] = FORMATS
) -> list[Path]:
    """Draws every plot declared into `folder`, as NAME.png, NAME.pdf and NAME.svg or those of them asked for, and
    returns their paths; losses are read from the run folders.

    Raises ValueError for an unknown sweep or a forest's reference that is not one setting, and
    `results.cells.MixedCell` where a point would average runs that differ in more than their seed and no column tells
    them apart.
    """
    return [
        path for spec in declaration.plots for path in save(draw(frame, spec, declaration), spec.name, folder, formats)
    ]


def draw(frame: pd.DataFrame, spec: PlotSpec, declaration: Declaration) -> "Figure":
    """The figure of one spec; raises what `write_plots` raises."""
    with theme():
        figure = _DRAWN[spec.kind](frame, spec, declaration, _title(spec, declaration))
    figure.set_layout_engine("none")  # it is laid out: writing a file does not do it again
    return figure


def figure_svg(frame: pd.DataFrame, spec: PlotSpec, declaration: Declaration) -> str:
    """The plot as an `<svg>` element for an HTML page, where several can stand; raises what `write_plots` raises."""
    name = "-".join(filter(None, (declaration.name, declaration.scale, spec.name)))
    return svg_element(draw(frame, spec, declaration), name, _title(spec, declaration) or spec.name)


def _title(spec: PlotSpec, declaration: Declaration) -> str:
    """Says a scale first, so that its figures are not taken for the paper's."""
    scale = f"{declaration.scale.capitalize()} scale" if declaration.scale else ""
    return ": ".join(filter(None, (scale, spec.title)))
