"""How all figures look: sizes, fonts, colours, markers, dashes and hatches.

A method has one colour in every figure. Colours are far apart for every kind of colour vision, and what they show is
shown a second time by dashes, markers or hatches, so that a figure can be read in grey. A figure is as wide as a column
of a page or as the page, and its text is 8 points or more at that size.
"""

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from mixmae.methods.methods import methods
from mixmae.presentation.row import PIXELS, RANDOM, UNKNOWN

COLUMN_INCHES, PAGE_INCHES = 3.5, 7.0
"""Width of a figure of one panel, and of one of several."""
DPI = 200
TEXT, TITLE = 8.0, 10.0
"""Sizes in points."""
GREY = "0.35"
"""The colour of text beside the figures proper."""


@dataclass(frozen=True)
class Look:
    """How a method is drawn: its colour, the dashes of its lines, and the hatch of its bars."""

    colour: str
    dashes: tuple[float, ...]
    hatch: str


PALETTE = (
    Look("#004c8c", (), ""),
    Look("#d55e00", (5, 1.8), "/////"),
    Look("#2aa58a", (1.2, 1.4), "xxxx"),
    Look("#404040", (7, 3), "\\\\\\\\\\"),
    Look("#a52dff", (5, 1.5, 1.2, 1.5), "++++"),
    Look("#b8860b", (9, 2, 2, 2), "...."),
    Look("#c2185b", (4, 1, 1, 1), "oooo"),
    Look("#5c6bc0", (10, 1.5), "**"),
)
"""A method's spec names its index here; methods that name none take the free ones."""
_OTHERS = {
    UNKNOWN: Look("#7a6a4f", (3, 1, 1, 1, 1, 1), "////---"),
    RANDOM: Look("#6b6b6b", (2.5, 2.5), "-----"),
    PIXELS: Look("#8c8c8c", (7, 2, 1.5, 2), "|||||"),
}


@cache
def look_of(method: str) -> Look:
    """How the lines of a method, or of what stands in the place of one, are drawn."""
    if method in _OTHERS:
        return _OTHERS[method]
    taken = {spec.colour for spec in methods}
    free = [place for place in range(len(PALETTE)) if place not in taken]
    others = [spec.name for spec in methods if spec.colour is None]
    spec = methods.get(method)
    if spec is not None and spec.colour is not None:
        return PALETTE[spec.colour % len(PALETTE)]
    return PALETTE[free[others.index(method) % len(free)]] if method in others else _OTHERS[UNKNOWN]


def colour(method: str) -> str:
    return look_of(method).colour


MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*")
DASHES = ((), (5, 1.8), (1.2, 1.4), (5, 1.5, 1.2, 1.5), (8, 2.5), (3, 1, 1, 1, 1, 1))
"""Markers and dashes of the lines of one method."""

_LOOK = {
    "font.family": "sans-serif",
    # The first comes with matplotlib and is measured; those of other machines that stand in for it in an SVG are not
    # wider.
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Segoe UI", "Helvetica", "Arial", "sans-serif"],
    "font.size": TEXT,
    "axes.titlesize": TEXT + 1,
    "axes.titlepad": 4.0,
    "axes.labelsize": TEXT,
    "axes.edgecolor": "0.3",
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.useoffset": False,
    "figure.constrained_layout.h_pad": 0.06,
    "figure.constrained_layout.w_pad": 0.06,
    "grid.color": "0.9",
    "grid.linewidth": 0.5,
    "xtick.labelsize": TEXT,
    "ytick.labelsize": TEXT,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.2,
    "lines.markersize": 5.0,
    "lines.markeredgewidth": 0.6,
    "errorbar.capsize": 2.0,
    "hatch.linewidth": 0.7,
    "figure.dpi": DPI,
    "legend.fontsize": TEXT,
    "legend.frameon": False,
    "legend.handlelength": 3.2,
    "legend.columnspacing": 1.4,
    "text.hinting": "none",  # text is as wide at every resolution
    "text.parse_math": False,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
}


@contextmanager
def theme() -> Iterator[None]:
    """Figures are drawn and written within it: matplotlib's own defaults and what differs here, whatever the machine's
    matplotlibrc says. Only `results.plots.files.save` warns of letters that the font lacks."""
    from matplotlib import style

    with style.context(["default", _LOOK]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph .* missing from font")
        yield


def shade(method: str, place: int) -> tuple[float, float, float]:
    """The method's colour for its line number `place`: that itself, then such as lie between it and white, or black
    where it is light."""
    from matplotlib.colors import to_rgb

    base = to_rgb(colour(method))
    towards = 1.0 if sum(base) < 1 else 0.0
    share = (0.0, 0.4, 0.2, 0.55)[place % 4]
    red, green, blue = ((1 - share) * channel + share * towards for channel in base)
    return red, green, blue


def line_styles(lines: Sequence[tuple[str, str, str]], by_method: bool = True) -> dict[str, dict[str, Any]]:
    """Colour, marker and dashes of every line, given as (line, method, rest of its name). Marker and shade stand for
    the rest; dashes for the method, or for the rest where lines of different methods are not drawn together."""
    rests = list(dict.fromkeys(rest for _, _, rest in lines))
    styles: dict[str, dict[str, Any]] = {}
    lines_of: Counter[str] = Counter()
    for line, method, rest in lines:
        place = rests.index(rest)
        styles[line] = {
            "color": shade(method, lines_of[method]),
            "marker": MARKERS[place % len(MARKERS)],
            "dashes": look_of(method).dashes if by_method else DASHES[place % len(DASHES)],
        }
        lines_of[method] += 1
    return styles
