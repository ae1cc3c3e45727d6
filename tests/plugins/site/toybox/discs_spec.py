"""Drawn discs of a few sizes: a source of images that needs no file (no torch)."""

from pathlib import Path
from typing import Literal

from mixmae.data.fingerprint import digest
from mixmae.data.sources import DataModel, DataSpec
from mixmae.fields.model import Positive


class DiscsConfig(DataModel):
    """White discs on noise, 32 px; the class is the disc's size."""

    name: Literal["discs"] = "discs"
    sizes: Positive = 6
    each: Positive = 8
    """Training images of a size; half as many are val."""


class Discs(DataSpec):
    name, label = "discs", "discs"
    config = DiscsConfig
    source = "toybox.discs:Split"

    def counts(self, config: DiscsConfig, split: str) -> tuple[int, ...]:
        return (config.each if split == "train" else config.each // 2,) * config.sizes

    def fingerprint(self, config: DiscsConfig, root: Path) -> str:
        return digest([b"discs", str(config.sizes).encode(), str(config.each).encode()])


SPEC = Discs()
