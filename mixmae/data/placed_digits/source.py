"""scikit-learn's digits, each placed several times on a canvas of 32 px."""

from functools import cache

from PIL import Image

from mixmae.data.digits.source import grey_digits, split_rows
from mixmae.data.placed_digits.spec import SPEC, PlacedDigitsConfig
from mixmae.data.placing import SIDE, Placement, drawn, placed, within

SIZES = 14, 28
TILT = 30.0
"""Degrees, to either side."""
BACKGROUND = 0.4
"""Most share of the range from the one end of the grey levels, at whose other end the ink lies."""


class PlacedDigits:
    """One split, "train" or "val": the copies of a digit are consecutive, digits in file order. RGB, 32 x 32 px."""

    def __init__(self, config: PlacedDigitsConfig, split: str):
        _, targets = grey_digits()
        self.classes = [str(digit) for digit in range(10)]
        self._split, self._copies = split, SPEC.copies(config, split)
        self._rows = split_rows(targets)[split]
        self.labels = [int(targets[row]) for row in self._rows for _ in range(self._copies)]

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> Image.Image:
        return _image(self._split, self._rows[index // self._copies], index % self._copies)

    def name(self, index: int) -> str:
        return f"placed_digits/{self._rows[index // self._copies]}/{index % self._copies}"


@cache
def _image(split: str, row: int, copy: int) -> Image.Image:
    """Kept: some microseconds each, but in every epoch."""
    return placed(grey_digits()[0][row], placement(split, row, copy)).convert("RGB")


def placement(split: str, row: int, copy: int) -> Placement:
    """Returns where a copy of the digit in that row of scikit-learn's file lies. Two copies differ in everything."""
    size, left, top, tilt, dark, level, *_ = drawn(f"placed digits/{split}", row, copy)
    side = within(*SIZES, size)
    background = round(255 * BACKGROUND * level)
    return Placement(
        size=side,
        left=within(0, SIDE - side, left),
        top=within(0, SIDE - side, top),
        tilt=TILT * (2 * tilt - 1),
        background=background if dark < 0.5 else 255 - background,
        ink=255 if dark < 0.5 else 0,
    )
