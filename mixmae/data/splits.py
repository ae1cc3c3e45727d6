"""The splits that stages see: a source's own, less what is set aside for tuning (no torch)."""

from typing import Annotated, Literal

from mixmae.data.sources import DataModel, DataSpec, sources
from mixmae.fields.identity import Neutral

TUNING = "tuning"

Measure = Annotated[Literal["val", "tuning"], Neutral("val")]
"""Which split an evaluation scores; "tuning": what the data set aside, to choose settings by."""


def source_split(split: str) -> str:
    """Returns the source's own split in which the images of `split` lie."""
    return "train" if split == TUNING else split


def split_copies(data: DataModel, split: str) -> int:
    """Returns how many consecutive images of a split are made of one source image."""
    return sources[data.name].copies(data, source_split(split))


def split_counts(data: DataModel, split: str) -> tuple[int, ...]:
    """Returns the images of each class in "train", "tuning" or "val". Raises ValueError where too few are left."""
    spec: DataSpec = sources[data.name]
    counts, copies = spec.counts(data, source_split(split)), split_copies(data, split)
    if split == TUNING:
        return tuple(copies * set_aside(data, count // copies, label) for label, count in enumerate(counts))
    if split == "train" and data.tuning:
        return tuple(count - copies * set_aside(data, count // copies, label) for label, count in enumerate(counts))
    return counts


def set_aside(data: DataModel, available: int, label: int) -> int:
    """Returns how many of the `available` source images of class `label` are for tuning: at least one, where any are.

    Raises ValueError where none would be left to train on.
    """
    share = max(1, round(data.tuning * available)) if data.tuning else 0
    if share and share >= available:
        what = f"sets aside {share} of the {available} training images of class {label}"
        raise ValueError(f"{data.tuning:g} {what}; write a smaller share")
    return share
