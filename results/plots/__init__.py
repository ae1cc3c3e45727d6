"""Plots of a grid as PNG (200 dpi), PDF and SVG (no torch); matplotlib is imported when something is drawn.

curves: top-1 against a column or a cost. losses: of pretrainings, by epoch. bars: top-1 of every encoder. forest:
differences to one setting. They share a theme and a layout; the files are the same bytes whenever they are drawn of the
same data.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mixmae.presentation import Declaration, PlotSpec
from results.plots.curves import draw
from results.plots.files import DPI, FORMATS, save, svg_element

__all__ = ["DPI", "FORMATS", "draw", "figure_svg", "save", "write_plots"]


def write_plots(
    frame: pd.DataFrame, declaration: Declaration, folder: Path, formats: Sequence[str] = FORMATS
) -> list[Path]:
    """Draws every plot declared into `folder`, as NAME.png, NAME.pdf and NAME.svg or those of them asked for, and
    returns their paths; losses are read from the run folders.

    Raises ValueError for an unknown sweep and `results.cells.MixedCell` where a point would average runs that differ
    in more than their seed and no column tells them apart.
    """
    return [
        path for spec in declaration.plots for path in save(draw(frame, spec, declaration), spec.name, folder, formats)
    ]


def figure_svg(frame: pd.DataFrame, spec: PlotSpec, declaration: Declaration) -> str:
    """The plot as an `<svg>` element for an HTML page, where several can stand; raises what `write_plots` raises."""
    name = "-".join(filter(None, (declaration.name, declaration.scale, spec.name)))
    return svg_element(draw(frame, spec, declaration), name, spec.title or spec.name)
