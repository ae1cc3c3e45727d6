"""Where the parts of a figure go: a title, panels, a legend and notes below one another, none of them clipped.

Panels keep their height, and the figure grows by what the other parts need. Text is measured and broken into lines.
"""

import re
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from results.plots.theme import COLUMN_INCHES, GREY, PAGE_INCHES, TEXT, TITLE

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL_INCHES = 2.3
"""Height of a panel with its labels."""
MARGIN = 0.08
"""Inches between the parts, and around all of them."""
LINE = 1.3
"""Height of a line of text in sizes of the text."""


def panels(
    count: int, height: float = PANEL_INCHES, columns: int | None = None, width: float | None = None
) -> tuple["Figure", list["Axes"]]:
    """A figure of `count` panels, at most three beside one another unless `columns` says how many; heights and widths
    in inches."""
    from matplotlib.figure import Figure

    columns = columns or {4: 2}.get(count, min(count, 3))
    rows = -(-count // columns)
    width = width or (COLUMN_INCHES if columns == 1 else PAGE_INCHES)
    figure = Figure(figsize=(width, rows * height), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for spare in axes[count:]:
        spare.remove()
    return figure, axes[:count]


def compose(figure: "Figure", title: str, handles: Sequence["Artist"], notes: Sequence[str]) -> None:
    """Puts the title above the panels, the legend of `handles` and the notes below them, and lays it all out."""
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    width, body = figure.get_size_inches()
    room = width - 2 * MARGIN
    heading = wrapped(title, room, TITLE)
    footing = [line for note in notes for line in wrapped(note, room)]
    top = MARGIN + len(heading) * line_inches(TITLE)
    below = MARGIN + len(footing) * line_inches(TEXT)
    legend = _legend(figure, handles, room) if handles else None
    bottom = below + (_height(legend) + MARGIN if legend else 0)
    height = top + body + bottom
    figure.set_size_inches(width, height)
    for place, line in enumerate(heading):
        y = 1 - (MARGIN / 2 + place * line_inches(TITLE)) / height
        figure.text(0.5, y, line, size=TITLE, ha="center", va="top")
    for place, line in enumerate(footing):
        y = (MARGIN / 2 + (len(footing) - place) * line_inches(TEXT)) / height
        figure.text(MARGIN / width, y, line, color=GREY, ha="left", va="top")
    if legend:
        legend.set_bbox_to_anchor((0.5, (below + MARGIN / 2) / height), figure.transFigure)
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)  # as `panels` made it
    engine.set(rect=(0, bottom / height, 1, body / height))
    figure.draw_without_rendering()


def thin_tick_labels(axes: Sequence["Axes"]) -> None:
    """Blanks labels of fixed ticks of x that run into the next one, of a figure that is laid out; the last stays."""
    for ax in axes:
        low, high = sorted(ax.get_xlim())
        reached, labels = float("inf"), ax.get_xticklabels()
        for label in reversed(labels):
            if not low <= label.get_position()[0] <= high:
                continue
            box = label.get_window_extent()
            if box.x1 + 2 > reached:
                label.set_text("")
            else:
                reached = box.x0
        ax.set_xticks(ax.get_xticks(), [label.get_text() for label in labels])


def few_round_ticks(axis, steps: int) -> None:
    """Sets at most `steps` ticks on an axis, at multiples of 1, 2 or 5 times a power of ten."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins=steps, steps=[1, 2, 5, 10]))


def say_in(ax: "Axes", what: str) -> None:
    """Writes `what` in the middle of an empty panel."""
    ax.text(0.5, 0.5, what, ha="center", va="center", transform=ax.transAxes, color=GREY)


# -------------------------------------------------------------------------------------------------------------- text


BETWEEN_WORDS, BETWEEN_PARTS = r"\s+(?!·)", r"(?<=·)\s+"
"""Where lines may be broken: between words, a separating dot staying with the word before it, or at such dots alone."""


def wrapped(text: str, inches: float, size: float = TEXT, gaps: str = BETWEEN_WORDS) -> list[str]:
    """The text in lines of at most `inches`, broken at `gaps`, then at underscores and slashes, then anywhere. What
    cannot be printed is shown as �."""
    lines, line = [], ""
    for word in re.split(gaps, printable(text).strip()):
        for place, piece in enumerate(_pieces(word, inches, size)):
            joined = f"{line} {piece}" if line and not place else line + piece
            if line and text_inches(joined, size) > inches:
                lines.append(line)
                joined = piece
            line = joined
    return [*lines, line] if line else lines


def printable(text: str) -> str:
    """The text with � for what can neither be printed nor stand in an SVG, and spaces for all other gaps."""
    gaps = "".join(" " if char.isspace() else char for char in text)
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in gaps)


def text_inches(text: str, size: float = TEXT) -> float:
    """The width of a line of text."""
    from matplotlib.font_manager import FontProperties

    return _measure().get_text_width_height_descent(text, FontProperties(size=size), False)[0] / _measure().dpi


def _pieces(word: str, inches: float, size: float) -> list[str]:
    if text_inches(word, size) <= inches:
        return [word]
    pieces, piece = [], ""
    for char in word:
        if piece and (piece[-1] in "_/" or text_inches(piece + char, size) > inches):
            pieces.append(piece)
            piece = ""
        piece += char
    return [*pieces, piece]


@cache
def _measure():
    from matplotlib.backends.backend_agg import RendererAgg

    return RendererAgg(1, 1, 720)


def line_inches(size: float) -> float:
    """The height of a line of text."""
    return size * LINE / 72


# ------------------------------------------------------------------------------------------------------------ legend


def _legend(figure: "Figure", handles: Sequence["Artist"], room: float):
    """Makes the legend, in as many columns as the widest entry leaves room for."""
    from matplotlib import rcParams

    before = (rcParams["legend.handlelength"] + rcParams["legend.handletextpad"]) * TEXT / 72
    between = rcParams["legend.columnspacing"] * TEXT / 72
    labels = ["\n".join(wrapped(str(handle.get_label()), room - before)) for handle in handles]
    widest = before + max(text_inches(line) for label in labels for line in label.split("\n"))
    columns = max(1, min(len(handles), int((room + between) / (widest + between))))
    columns = -(-len(handles) // -(-len(handles) // columns))
    return figure.legend(
        handles, labels, loc="lower center", ncols=columns, borderpad=0, borderaxespad=0, labelspacing=0.35
    )


def _height(legend) -> float:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = legend.get_figure()
    return legend.get_window_extent(FigureCanvasAgg(figure).get_renderer()).height / figure.dpi
