"""Deterministic parts of a train split, and how many images they hold (no torch)."""

from functools import lru_cache
from typing import Annotated, Self

from pydantic import Field, model_validator

from mixmae.data.sources import DataModel
from mixmae.data.splits import split_copies, split_counts
from mixmae.fields.identity import Neutral
from mixmae.fields.model import Fraction, Model, Positive, impossible


class Subset(Model):
    """A deterministic part of the train split; at most one of fraction and labels_per_class."""

    fraction: Fraction | None = None
    """Share of each class's images."""
    labels_per_class: Positive | None = None
    """Number of images of each class; where several are made of one source image, of source images with all theirs."""
    seed: Annotated[int | None, Field(ge=0), Neutral(None)] = None
    """By which the images are drawn: where it is given, the same ones for all seeds of runs; default: the run's."""

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if self.fraction is not None and self.labels_per_class is not None:
            raise impossible(("labels_per_class",), "fraction is given too; write only one of them")
        return self

    @model_validator(mode="after")
    def _something_is_drawn(self) -> Self:
        if self.seed is not None and self.fraction is None and self.labels_per_class is None:
            raise impossible(
                ("seed",), "draws nothing of all images; write fraction or labels_per_class too, or leave it out"
            )
        return self


def kept(part: Subset, available: int, label: int) -> int:
    """Returns how many of the `available` images of class `label` a subset keeps, at least one. Raises ValueError."""
    if part.fraction is not None:
        return max(1, round(part.fraction * available))
    if part.labels_per_class is None:
        return available
    if part.labels_per_class > available:
        what = f"class {label} has {available} training images; write {available} or fewer"
        raise ValueError(f"labels_per_class: {part.labels_per_class}: {what}")
    return part.labels_per_class


@lru_cache
def training_images(data: DataModel, part: Subset) -> int:
    """Returns how many training images a subset holds. Raises ValueError where a class has too few."""
    copies = split_copies(data, "train")
    counts = split_counts(data, "train")
    return sum(copies * kept(part, count // copies, label) for label, count in enumerate(counts))
