"""scikit-learn's 1,797 real digits, upsampled to 32 px: the data set that needs no download."""

from collections import defaultdict
from functools import cache

import numpy as np
from PIL import Image

from mixmae.data.digits.spec import DigitsConfig, digits_file

SIDE = 32


class Digits:
    """One split of the digits. The last 20 % of each class, in file order, is val: random splits leak writers.

    `split` is "train" or "val". Images are RGB, 32 x 32 px, bicubic from the 8 x 8 originals of 17 grey levels.
    """

    def __init__(self, config: DigitsConfig, split: str):
        images, targets = _upsampled()
        self.classes = [str(digit) for digit in range(10)]
        self._rows = split_rows(targets)[split]
        self.labels = [int(targets[row]) for row in self._rows]
        self._images = [images[row] for row in self._rows]

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> Image.Image:
        return self._images[index]

    def name(self, index: int) -> str:
        return f"digits/{self._rows[index]}"


def read() -> tuple[np.ndarray, np.ndarray]:
    """Returns grey levels of (N, 8, 8) and classes of (N,), read as `sklearn.datasets.load_digits` does: importing it
    would add some three seconds to the start of every job."""
    rows = np.loadtxt(digits_file(), delimiter=",")
    return rows[:, :-1].reshape(-1, 8, 8), rows[:, -1].astype(int)


def split_rows(targets: np.ndarray) -> dict[str, list[int]]:
    """Returns the row numbers of the two splits, in file order."""
    rows_of = defaultdict(list)
    for row, target in enumerate(targets):
        rows_of[int(target)].append(row)
    val = {row for rows in rows_of.values() for row in rows[len(rows) - len(rows) // 5 :]}
    return {"train": [row for row in range(len(targets)) if row not in val], "val": sorted(val)}


@cache
def grey_digits() -> tuple[list[Image.Image], np.ndarray]:
    """Returns all images, 8 x 8 px of 256 grey levels, and their classes, in file order."""
    levels, targets = read()
    return [Image.fromarray(image) for image in np.round(levels * (255 / 16)).astype(np.uint8)], targets


@cache
def _upsampled() -> tuple[list[Image.Image], np.ndarray]:
    """Returns all images and their classes, in file order. Kept: a worker runs one job after another."""
    grey, targets = grey_digits()
    return [image.resize((SIDE, SIDE), Image.Resampling.BICUBIC).convert("RGB") for image in grey], targets
