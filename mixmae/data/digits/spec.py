"""scikit-learn's digits: the data set that needs no download (no torch)."""

import gzip
import importlib.util
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Literal

from mixmae.data.fingerprint import digest
from mixmae.data.sources import DataModel, DataSpec


class DigitsConfig(DataModel):
    """scikit-learn's 1,797 real 8 x 8 digits, upsampled; the last 20 % of each class in file order is val."""

    name: Literal["digits"] = "digits"


class DigitsSpec(DataSpec):
    name, label, order = "digits", "digits", 1
    config = DigitsConfig
    source = "mixmae.data.digits.source:Digits"

    def counts(self, config: DigitsConfig, split: str) -> tuple[int, ...]:
        return split_counts(split)

    def fingerprint(self, config: DigitsConfig, root: Path) -> str:
        return digest([digits_file().read_bytes()])


def split_counts(split: str) -> tuple[int, ...]:
    """Returns the digits of each class in "train" or "val"."""
    val = [count // 5 for count in _counts()]
    return tuple(val if split == "val" else [count - out for count, out in zip(_counts(), val, strict=True)])


@cache
def _counts() -> tuple[int, ...]:
    """Returns the images of each class, both splits together."""
    with gzip.open(digits_file(), "rt") as file:
        classes = Counter(line.rsplit(",", 1)[1].strip() for line in file)
    return tuple(count for _, count in sorted(classes.items()))


def digits_file() -> Path:
    """Returns the path of scikit-learn's digits: 64 grey levels and the class, a line an image."""
    spec = importlib.util.find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("scikit-learn, which holds the digits, is not installed; pip install scikit-learn")
    return Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz"


SPEC = DigitsSpec()
