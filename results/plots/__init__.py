"""Plots of a grid as PNG (200 dpi), PDF and SVG (no torch); matplotlib is imported when something is drawn.

curves: top-1 against a column or a cost. losses: of pretrainings, by epoch. bars: top-1 of every encoder. forest:
differences to one setting. They share a theme and a layout; the files are the same bytes whenever they are drawn of the
same data.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from mixmae.presentation.declaration import Declaration, PlotSpec
from results.plots.bars import draw_bars
from results.plots.curves import draw_curves
from results.plots.files import FORMATS, save
from results.plots.forest import draw_forest
from results.plots.losses import draw_losses
from results.plots.theme import DPI, theme
from results.tables.building import scale_words

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["DPI", "FORMATS", "draw", "save", "write_plots"]

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
    return [path for spec in declaration.plots for path in _write(frame, spec, declaration, folder, formats)]


def _write(
    frame: pd.DataFrame, spec: PlotSpec, declaration: Declaration, folder: Path, formats: Sequence[str]
) -> list[Path]:
    """The SVG's ids are its own among the plots of several grids in one page."""
    ids = "-".join(filter(None, (declaration.name, declaration.scale, spec.name)))
    label = _title(spec, declaration) or spec.name
    return save(draw(frame, spec, declaration), spec.name, folder, formats, ids, label)


def draw(frame: pd.DataFrame, spec: PlotSpec, declaration: Declaration) -> "Figure":
    """The figure of one spec; raises what `write_plots` raises."""
    with theme():
        figure = _DRAWN[spec.kind](frame, spec, declaration, _title(spec, declaration))
    figure.set_layout_engine("none")  # it is laid out: writing a file does not do it again
    return figure


def _title(spec: PlotSpec, declaration: Declaration) -> str:
    """Says a scale first, so that its figures are not taken for the paper's."""
    return f"{scale_words(declaration.scale)}: {spec.title or spec.name}" if declaration.scale else spec.title
