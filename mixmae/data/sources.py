"""What a source of images is to the rest of the program, and the sources there are (no torch)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Protocol

from pydantic import Field

from mixmae.fields.choice import Chosen
from mixmae.fields.identity import Neutral
from mixmae.fields.model import Model
from mixmae.fields.specs import Specs

SPLITS = ("train", "val")


class DataModel(Model):
    """A data set's config; `name` names its spec."""

    name: str
    tuning: Annotated[float, Field(ge=0, lt=1), Neutral(0.0)] = 0.0
    """Share of each class's training images that is set aside to choose settings by: no stage trains on it, and
    evaluations that `measure` it score it in val's place. The same images for every seed."""


class DataNotHere(ValueError):
    """The images are not on this machine.

    path: the field of the data's config at fault. variable: the environment variable that is not set, if one is.
    """

    def __init__(self, path: tuple, what: str, variable: str | None = None):
        super().__init__(what)
        self.path, self.what, self.variable = path, what, variable


class DataSpec(Protocol):
    """A source of images. What a source does not define is as defined here."""

    name: str
    label: str
    order: int = 1000
    version: int = 1
    """Raised by its author where the same config gives other images; part of the id where it is not 1."""
    config: type[DataModel]
    source: str
    """Dotted name of the class of a split: called with the config and "train" or "val". It has `labels`, `classes`,
    `image(index)`, `name(index)` and a length; where `image` can raise Unreadable, `bad_files` too."""
    labelled: bool = True
    may_be_elsewhere: bool = False
    """Whether results may be shown where the images are not."""

    def placed(self, config: Any) -> Any:
        """Returns the config with what depends on the machine, such as a path, resolved. Raises DataNotHere."""
        return config

    def counts(self, config: Any, split: str) -> tuple[int, ...]:
        """Counts the images of each class. Raises FileNotFoundError or ValueError where the data is not there."""
        raise NotImplementedError

    def copies(self, config: Any, split: str) -> int:
        """Returns how many images are made of each source image: consecutive ones of a split, all of one class. Subsets
        and the tuning split take all of them or none."""
        return 1

    def fingerprint(self, config: Any, root: Path) -> str:
        """Returns 16 hex digits, the same wherever the data lies. May be cached under `root`.

        Raises FileNotFoundError or ValueError where the data is missing or not laid out as it should be."""
        raise NotImplementedError

    def recall(self, config: Any, root: Path) -> None:
        """Loads what is cached under `root`, if anything is, so that opening a split is fast."""
        return

    def title(self, config: Any) -> str:
        """Returns the name of the data set in a caption."""
        return self.label

    @property
    def published_as(self) -> str:
        """Name of the data set in published.csv."""
        return self.name

    def published_name(self, fields: Mapping[str, Any]) -> str:
        """Returns that name for a config with these fields, where a source has several data sets."""
        return self.published_as

    def of_folder(self, path: Path) -> DataModel | None:
        """Returns the config for a folder that a command names; None where this is no source of folders."""
        return None


sources: Specs[DataSpec] = Specs("data", DataSpec, "mixmae.data", "mixmae.data")

DataConfig = Annotated[DataModel, Chosen(sources)]
"""A data set's name, or its name and fields."""


def folder_of_images(path: Path) -> DataModel:
    """Returns the config for a folder of labelled images that a command names."""
    return next(config for spec in sources if (config := spec.of_folder(path)) is not None)


def spec_of(config: DataModel) -> DataSpec:
    return sources[config.name]
