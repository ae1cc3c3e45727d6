"""Grey images placed on a canvas: at a size, a position and a tilt, in a polarity over a background (no torch).

A placement is a function of what it is for, by a hash and not by a generator, whose numbers may change with its
library's version.
"""

import hashlib
from dataclasses import dataclass

from PIL import Image

SIDE = 32
"""Of the canvas, in pixels."""
_BYTES = 8


@dataclass(frozen=True)
class Placement:
    """size: the image's side, px. left, top: of its corner, px. tilt: degrees, counter-clockwise about its centre.
    background, ink: the grey levels, 0 to 255, that black and white become."""

    size: int
    left: int
    top: int
    tilt: float = 0.0
    background: int = 0
    ink: int = 255


def drawn(purpose: str, *place: int) -> list[float]:
    """Returns eight numbers, each in [0, 1), that depend on nothing but `purpose` and `place`."""
    text = "/".join([purpose, *map(str, place)])
    digest = hashlib.blake2b(text.encode(), digest_size=8 * _BYTES).digest()
    parts = (digest[start : start + _BYTES] for start in range(0, len(digest), _BYTES))
    return [(int.from_bytes(part, "little") >> 11) / 2**53 for part in parts]


def within(least: int, most: int, share: float) -> int:
    """Returns the whole number from `least` to `most`, both included, at that share, in [0, 1), of the way."""
    return least + int(share * (most - least + 1))


def placed(image: Image.Image, placement: Placement) -> Image.Image:
    """Returns a grey canvas with the square grey `image`, black as its background, where `placement` says."""
    size = placement.size
    canvas = Image.new("L", (SIDE, SIDE))
    canvas.paste(image.resize((size, size), Image.Resampling.BICUBIC), (placement.left, placement.top))
    if placement.tilt:
        centre = placement.left + size / 2, placement.top + size / 2
        canvas = canvas.rotate(placement.tilt, Image.Resampling.BICUBIC, center=centre)
    span = placement.ink - placement.background
    return canvas.point([placement.background + round(span * level / 255) for level in range(256)])
