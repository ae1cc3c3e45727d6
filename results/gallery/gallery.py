"""Galleries of reconstructions: the same images through one or several pretrainings, side by side.

The only part of the results that runs a model, with `inputs.py` and `reconstructions.py`: torch is imported inside the
functions.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mixmae.runs.folder import RunFolder
from results.gallery.inputs import Images, Source, open_images, open_source
from results.gallery.reconstructions import HIDDEN, Column, Group, reconstructions
from results.plots.layout import BETWEEN_PARTS, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROWS = 4
COLOURS = {"blue": "#0173b2", "orange": "#de8f05", "green": "#029e73", "pink": "#cc78bc"}
"""Outlines of the units of the row's own image, and of those mixed with it."""

SIDE, GAP, BETWEEN, MARGIN = 1.5, 0.06, 0.3, 0.12
"""Inches: of an image's height, between images, between sources, around all."""
TITLE, LABEL, COLUMN, CAPTION = 11, 10, 9, 9
"""Sizes of letters in points."""


def gallery_figure(runs: Sequence[RunFolder], rows: int = ROWS, seed: int = 0) -> "Figure":
    """Finished pretrainings side by side, on validation images of the first. Raises what `open_source` and
    `open_images` raise."""
    sources = [open_source(run) for run in runs]
    return draw_gallery(sources, open_images(sources, None, rows, seed), seed)


def draw_gallery(sources: Sequence[Source], images: Images, seed: int = 0) -> "Figure":
    """A row an image, a column a picture, the sources from left to right; `seed` draws the masks."""
    return draw_groups(reconstructions(sources, images, seed), images.of)


# ----------------------------------------------------------------------------------------------------------- drawing


def draw_groups(groups: Sequence[Group], title: str) -> "Figure":
    """Draws the groups from left to right, each under its label; below them what outlines and shades mean."""
    from matplotlib.figure import Figure

    lefts, width = _across(groups)
    rows = len(groups[0].columns[0].pictures)
    inner = width - 2 * MARGIN
    heading = wrapped(title, inner, TITLE)
    caption = [line for note in _notes(groups) for line in wrapped(note, inner, CAPTION)]
    labels = [wrapped(group.label, _width(group), LABEL, BETWEEN_PARTS) for group in groups]
    titles = [[wrapped(column.title, _side(column), COLUMN) for column in group.columns] for group in groups]
    bottom = MARGIN + _height([caption], CAPTION) + GAP
    top = bottom + rows * (SIDE + GAP)
    under_labels = top + _height([text for texts in titles for text in texts], COLUMN) + GAP
    under_heading = under_labels + _height(labels, LABEL) + 2 * GAP
    height = under_heading + _height([heading], TITLE) + MARGIN

    figure = Figure(figsize=(width, height))
    _write(figure, width / 2, under_heading, heading, TITLE)
    _write(figure, width / 2, MARGIN, caption, CAPTION)
    for group, label, texts, places in zip(groups, labels, titles, lefts, strict=True):
        if label:
            _rule(figure, places[0], places[0] + _width(group), under_labels)
            _write(figure, places[0] + _width(group) / 2, under_labels + GAP, label, LABEL)
        for column, text, left in zip(group.columns, texts, places, strict=True):
            _write(figure, left + _side(column) / 2, top, text, COLUMN)
            for row in range(rows):
                place = (left, top - row * (SIDE + GAP) - SIDE - GAP / 2, _side(column), SIDE)
                _draw_picture(figure, place, column, row)
    return figure


def _draw_picture(figure: "Figure", place: tuple[float, float, float, float], column: Column, row: int) -> None:
    """place: left, bottom, width and height in inches."""
    width, height = figure.get_size_inches()
    ax = figure.add_axes((place[0] / width, place[1] / height, place[2] / width, place[3] / height))
    ax.imshow(column.pictures[row], interpolation="none")
    ax.set_axis_off()
    if column.shown is not None:
        _outline(ax, column.shown[row], column.pictures.shape[1] // column.shown.shape[1])


def _outline(ax: "Axes", shown: np.ndarray, cell: int) -> None:
    """The mask's grid in thin grey, and the cells the encoder was shown in their image's colour; cell: its px."""
    points = SIDE * 72 / len(shown)
    _squares(ax, np.argwhere(shown >= HIDDEN), cell, 0, color="0.6", linewidth=min(0.3, 0.02 * points))
    for slot, colour in enumerate(COLOURS.values()):
        _squares(ax, np.argwhere(shown == slot), cell, 0.03 * cell, color=colour, linewidth=min(1.1, 0.06 * points))


def _squares(ax: "Axes", cells: np.ndarray, side: int, inset: float, color: str, linewidth: float) -> None:
    """cells: (count, 2) rows and columns. One path, so that files stay small where cells are many."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Outline

    if len(cells):
        square = np.array([(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)]) * (side - 2 * inset) + inset
        corners = cells[:, None, ::-1] * side - 0.5 + square
        path = Outline.make_compound_path(*(Outline(corner, closed=True) for corner in corners))
        ax.add_patch(PathPatch(path, fill=False, edgecolor=color, linewidth=linewidth))


# ----------------------------------------------------------------------------------------------- words and distances


def _notes(groups: Sequence[Group]) -> list[str]:
    """The notes that a reader needs to understand the columns."""
    named = [group for group in groups if group.label]
    most = max(group.mixed for group in named)
    others = " and ".join(", ".join(list(COLOURS)[1:most]).rsplit(", ", 1))
    whose = f", blue of the original, {others} of {'its partner' if most == 2 else 'what is mixed with it'}"
    outlined = "outlined: units that the encoder was shown, and that reconstructions keep"
    notes = dict.fromkeys(column.note for group in named for column in group.columns if column.note)
    return [outlined + (whose if most > 1 else ""), *sorted(notes, reverse=True)]  # the star comes last


def _across(groups: Sequence[Group]) -> tuple[list[list[float]], float]:
    """The left edges of each group's columns, and the figure's width."""
    lefts, x = [], MARGIN
    for group in groups:
        offsets = np.cumsum([0, *(_side(column) + GAP for column in group.columns)])
        lefts.append([float(x + offset) for offset in offsets[:-1]])
        x += _width(group) + BETWEEN
    return lefts, x - BETWEEN + MARGIN


def _width(group: Group) -> float:
    return sum(_side(column) + GAP for column in group.columns) - GAP


def _side(column: Column) -> float:
    """The width of a picture that is SIDE high."""
    _, height, width, _ = column.pictures.shape
    return SIDE * width / height


def _height(texts: Sequence[Sequence[str]], size: float) -> float:
    """Inches that the longest of some texts takes, each given as its lines."""
    return max(map(len, texts)) * _line(size)


def _line(size: float) -> float:
    """Inches from one line to the next."""
    return size * 1.25 / 72


def _write(figure: "Figure", x: float, y: float, lines: Sequence[str], size: float) -> None:
    """Writes lines of text centred above (x, y), in inches. Names of files and folders are no formulae."""
    inches = figure.dpi_scale_trans
    for number, line in enumerate(reversed(lines)):
        above = y + (number + 0.25) * _line(size)
        figure.text(x, above, line, fontsize=size, transform=inches, parse_math=False, ha="center", va="baseline")


def _rule(figure: "Figure", left: float, right: float, y: float) -> None:
    from matplotlib.lines import Line2D

    line = Line2D([left, right], [y, y], transform=figure.dpi_scale_trans, color="0.5", linewidth=0.8)
    figure.add_artist(line)
