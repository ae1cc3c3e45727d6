"""How all figures look: sizes, fonts, colours, markers, dashes and hatches.

A method has one colour in every figure. Colours are far apart for every kind of colour vision, and what they tell is
told a second time by dashes, markers or hatches, so that a figure can be read in grey. A figure is as wide as a
column of a page or as the page, and its text is 8 points or more at that size.
"""

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

COLUMN_INCHES, PAGE_INCHES = 3.5, 7.0
"""Width of a figure of one panel, and of one of several."""
DPI = 200
TEXT, TITLE = 8.0, 10.0
"""Sizes in points."""
GREY = "0.35"
"""Of text beside the figures proper."""

COLOURS = {
    "mixmae": "#004c8c",
    "simmim": "#d55e00",
    "mae": "#2aa58a",
    "imported": "#a52dff",
    "unknown": "#7a6a4f",
    "supervised": "#404040",
    "random init": "#6b6b6b",
    "raw pixels": "#8c8c8c",
}
"""By method."""
METHOD_DASHES = {
    "mixmae": (),
    "simmim": (5, 1.8),
    "mae": (1.2, 1.4),
    "imported": (5, 1.5, 1.2, 1.5),
    "unknown": (3, 1, 1, 1, 1, 1),
    "supervised": (7, 3),
    "random init": (2.5, 2.5),
    "raw pixels": (7, 2, 1.5, 2),
}
HATCHES = {
    "mixmae": "",
    "simmim": "/////",
    "mae": "xxxx",
    "imported": "++++",
    "unknown": "////---",
    "supervised": "\\\\\\\\\\",
    "random init": "-----",
    "raw pixels": "|||||",
}
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*")
DASHES = ((), (5, 1.8), (1.2, 1.4), (5, 1.5, 1.2, 1.5), (8, 2.5), (3, 1, 1, 1, 1, 1))
"""Of lines of one method."""

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
    matplotlibrc says. Letters that the font lacks are told of by `results.plots.files.save` alone."""
    from matplotlib import style

    with style.context(["default", _LOOK]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph .* missing from font")
        yield


def shade(method: str, place: int) -> tuple[float, float, float]:
    """The method's colour for its line number `place`: that itself, then such as lie between it and white, or black
    where it is light."""
    from matplotlib.colors import to_rgb

    colour = to_rgb(COLOURS[method])
    towards = 1.0 if sum(colour) < 1 else 0.0
    share = (0.0, 0.4, 0.2, 0.55)[place % 4]
    return tuple((1 - share) * channel + share * towards for channel in colour)


def line_styles(lines: Sequence[tuple[str, str, str]], by_method: bool = True) -> dict[str, dict]:
    """Colour, marker and dashes of every line, given as (line, method, rest of its name). Marker and shade tell the
    rest; dashes tell the method, or the rest where lines of different methods are not drawn together."""
    rests = list(dict.fromkeys(rest for _, _, rest in lines))
    styles, of_method = {}, Counter()
    for line, method, rest in lines:
        place = rests.index(rest)
        styles[line] = {
            "color": shade(method, of_method[method]),
            "marker": MARKERS[place % len(MARKERS)],
            "dashes": METHOD_DASHES[method] if by_method else DASHES[place % len(DASHES)],
        }
        of_method[method] += 1
    return styles
