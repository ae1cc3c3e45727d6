"""scikit-learn's digits, placed: what a classifier of pixels cannot read off (no torch)."""

from typing import Annotated, Literal

from pydantic import Field

from mixmae.data.digits.spec import digits_file, split_counts
from mixmae.data.fingerprint import digest
from mixmae.data.sources import DataModel, DataSpec

BUILDER = 1
"""Raised where the same digits give other images."""
VAL_COPIES = 4


class PlacedDigitsConfig(DataModel):
    """scikit-learn's digits, each at a size of 14 to 28 px, a position, a tilt, a polarity and a background level on a
    canvas of 32 px that are drawn from (split, digit, copy), the same for every seed. The last 20 % of each class in
    file order is val, four images of each digit there."""

    name: Literal["placed_digits"] = "placed_digits"
    copies: Annotated[int, Field(gt=0)] = 2
    """Training images that are made of each digit."""


class PlacedDigitsSpec(DataSpec):
    name, label, order = "placed_digits", "placed digits", 2
    config = PlacedDigitsConfig
    source = "mixmae.data.placed_digits.source:PlacedDigits"

    def copies(self, config: PlacedDigitsConfig, split: str) -> int:
        return VAL_COPIES if split == "val" else config.copies

    def counts(self, config: PlacedDigitsConfig, split: str) -> tuple[int, ...]:
        return tuple(self.copies(config, split) * count for count in split_counts(split))

    def fingerprint(self, config: PlacedDigitsConfig, root: object) -> str:
        return digest([f"placed digits {BUILDER}\n".encode(), digits_file().read_bytes()])


SPEC = PlacedDigitsSpec()
