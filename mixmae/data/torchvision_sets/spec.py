"""torchvision's sets for classification, where they lie as torchvision lays them (no torch).

The first plan of a set has torchvision read it; what is needed of it is then kept under the root.
"""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from mixmae.data.paths import expanded
from mixmae.data.sources import DataModel, DataNotHere, DataSpec
from mixmae.data.torchvision_sets.sets import SETS, command, missing, stale
from mixmae.fields.identity import Neutral, Recorded
from mixmae.fields.model import impossible

Dataset = Literal[
    "CIFAR10",
    "CIFAR100",
    "FashionMNIST",
    "Flowers102",
    "Food101",
    "INaturalist",
    "MNIST",
    "Places365",
    "STL10",
    "SVHN",
]


class TorchvisionConfig(DataModel):
    """A set of torchvision.datasets, as `mixmae data fetch` lays it; its test images are val where it has no val.

    Of Flowers102 train and val are trained on and test is val; Places365 is the one of 256 px, INaturalist that of
    2021. Grey images become three equal channels.
    """

    name: Literal["torchvision"] = "torchvision"
    dataset: Dataset
    """Which set, by the name of its class in torchvision."""
    path: Annotated[str, Recorded]
    """The folder that torchvision calls `root`; environment variables are expanded."""
    pad: Annotated[int, Field(ge=0, le=64), Neutral(0)] = 0
    """Black pixels added at each of the four sides: 2 makes the 28 px of MNIST and FashionMNIST 32 without resizing."""
    placed: Annotated[bool, Neutral(False)] = False
    """Draws each image at a size of 18 to 28 px and a position on a black canvas of 32 px, both drawn from (split,
    index), the same for every seed; of MNIST and FashionMNIST."""
    bad_files: Annotated[int, Field(ge=0), Recorded] = 0
    """How many unreadable images a split may hold before its runs fail, where a set's images are files."""

    @model_validator(mode="after")
    def _placed_on_a_canvas(self) -> Self:
        if self.placed and not SETS[self.dataset].grey:
            grey = " or ".join(name for name, of in SETS.items() if of.grey)
            raise impossible(
                ("placed",), f"{self.dataset} is in colour and fills its images; leave it out, or take {grey}"
            )
        if self.placed and self.pad:
            raise impossible(("pad",), "placed images are 32 px already; leave it out")
        return self


def data_root(config: TorchvisionConfig) -> Path:
    return Path(config.path).expanduser()


class TorchvisionSpec(DataSpec):
    name, label, order = "torchvision", "torchvision", 3
    config = TorchvisionConfig
    source = "mixmae.data.torchvision_sets.source:TorchvisionSplit"
    may_be_elsewhere = True

    def placed(self, config: TorchvisionConfig) -> TorchvisionConfig:
        """Returns the config with its path expanded and made absolute."""
        fetch = command(config.dataset, "DIR")
        folder = expanded(config.path, f", which should name the folder that {fetch!r} has filled")
        if lacking := missing(config.dataset, folder):
            what = f"no {config.dataset} in {folder}, which lacks {lacking[0]}"
            raise DataNotHere(("path",), f"{what}; fetch it: {command(config.dataset, folder)}")
        if left := stale(config.dataset, folder):
            what = f"{left} is of an older torchvision, which would be read in place of raw"
            raise DataNotHere(("path",), f"{what}; remove it")
        return config.model_copy(update={"path": str(folder)})

    def counts(self, config: TorchvisionConfig, split: str) -> tuple[int, ...]:
        return _counts(config.dataset, data_root(config), split)

    def fingerprint(self, config: TorchvisionConfig, root: Path) -> str:
        from mixmae.data.torchvision_sets.indexed import fingerprint

        return fingerprint(config.dataset, data_root(config), root)

    def recall(self, config: TorchvisionConfig, root: Path) -> None:
        from mixmae.data.torchvision_sets.indexed import recall

        recall(config.dataset, data_root(config), root)

    def title(self, config: TorchvisionConfig) -> str:
        return _titled(config.dataset, config.placed)

    def published_name(self, fields: Mapping[str, Any]) -> str:
        return _titled(fields["dataset"], fields.get("placed", False))


def _titled(dataset: str, placed: bool) -> str:
    """Returns the name of the images; placed ones are others than those that numbers were published of."""
    return f"{dataset}, placed" if placed else dataset


@lru_cache
def _counts(dataset: str, folder: Path, split: str) -> tuple[int, ...]:
    from mixmae.data.torchvision_sets.indexed import indexed

    return indexed(dataset, folder).counts(split)


SPEC = TorchvisionSpec()
