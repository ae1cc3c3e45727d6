"""Plots of a grid as PNG (200 dpi), PDF and SVG (no torch); matplotlib is imported when something is drawn.

A kind of plot is a folder beside this module. They share a theme and a layout; the files are the same bytes whenever
they are drawn of the same data.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from mixmae.fields.specs import resolve
from mixmae.presentation.declaration import Declaration
from mixmae.presentation.plots import PlotModel, plot_kinds
from results.plots.files import FORMATS, save
from results.plots.theme import theme
from results.tables.building import scale_words

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_plots(
    frame: pd.DataFrame, declaration: Declaration, folder: Path, formats: Sequence[str] = FORMATS
) -> list[Path]:
    """Draws every plot declared into `folder`, as NAME.png, NAME.pdf and NAME.svg or those of them asked for, and
    returns their paths; losses are read from the run folders.

    Raises ValueError for an unknown sweep or a forest's reference that is not one setting, and
    `mixmae.presentation.shown.MixedCell` where a point would average runs that differ in more than their seed and no
    column tells them apart.
    """
    return [path for spec in declaration.plots for path in _write(frame, spec, declaration, folder, formats)]


def _write(
    frame: pd.DataFrame, spec: PlotModel, declaration: Declaration, folder: Path, formats: Sequence[str]
) -> list[Path]:
    """The SVG's ids are its own among the plots of several grids in one page."""
    ids = "-".join(filter(None, (declaration.name, declaration.scale, spec.name)))
    label = _title(spec, declaration) or spec.name
    return save(draw(frame, spec, declaration), spec.name, folder, formats, ids, label)


def draw(frame: pd.DataFrame, spec: PlotModel, declaration: Declaration) -> "Figure":
    """The figure of one plot; raises what `write_plots` raises."""
    with theme():
        figure = resolve(plot_kinds[spec.kind].draw)(frame, spec, declaration, _title(spec, declaration))
    figure.set_layout_engine("none")  # it is laid out: writing a file does not do it again
    return figure


def _title(spec: PlotModel, declaration: Declaration) -> str:
    """Says a scale first, so that its figures are not taken for the paper's."""
    return f"{scale_words(declaration.scale)}: {spec.title or spec.name}" if declaration.scale else spec.title
