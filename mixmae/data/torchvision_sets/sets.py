"""The sets of torchvision that can be trained on, and where each keeps what is needed of it (no torch)."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from shlex import quote
from typing import Any

Parts = tuple[Mapping[str, Any], ...]
"""Arguments of torchvision's constructor, for each of the parts that a split is made of."""


@dataclass(frozen=True)
class TorchvisionSet:
    """One set: its constructor is the class of that name in `torchvision.datasets`.

    train, val: the parts of each split, in order. images: how many the two splits hold. needs: the files and folders
    below PATH that both cannot do without. labels, classes, files: what a part that was opened says of its images, of
    which `files` is None where the images lie in memory. stale: a folder that older versions of torchvision left, and
    that today's would read in place of `needs`. grey: whether its images are, on black.
    """

    train: Parts
    val: Parts
    images: tuple[int, int]
    needs: tuple[str, ...]
    labels: Callable[[Any], Iterable[Any]] = attrgetter("targets")
    classes: Callable[[Any], Iterable[str]] = attrgetter("classes")
    files: Callable[[Any], Iterable[str | Path]] | None = None
    stale: str | None = None
    grey: bool = False

    def parts(self, split: str) -> Parts:
        return {"train": self.train, "val": self.val}[split]


def _mnist(name: str) -> TorchvisionSet:
    files = (f"{split}-{what}-ubyte" for split in ("train", "t10k") for what in ("images-idx3", "labels-idx1"))
    return TorchvisionSet(
        train=({"train": True},),
        val=({"train": False},),
        images=(60_000, 10_000),
        needs=tuple(f"{name}/raw/{file}" for file in files),
        stale=f"{name}/processed",
        grey=True,
    )


def _cifar(folder: str, *files: str) -> TorchvisionSet:
    return TorchvisionSet(
        train=({"train": True},),
        val=({"train": False},),
        images=(50_000, 10_000),
        needs=tuple(f"{folder}/{file}" for file in files),
    )


def _in_order_of_index(places: Any) -> list[str]:
    """Returns the classes of Places365; its attribute of that name is sorted by name."""
    return sorted(places.class_to_idx, key=places.class_to_idx.__getitem__)


def _sorted(naturalist: Any) -> list[tuple[int, str]]:
    """Returns (label, name) of every file of iNaturalist; its attribute is in the order of the file system."""
    return sorted(naturalist.index)


SETS: dict[str, TorchvisionSet] = {
    "CIFAR10": _cifar(
        "cifar-10-batches-py", *(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta"
    ),
    "CIFAR100": _cifar("cifar-100-python", "train", "test", "meta"),
    "FashionMNIST": _mnist("FashionMNIST"),
    "Flowers102": TorchvisionSet(
        train=({"split": "train"}, {"split": "val"}),
        val=({"split": "test"},),
        images=(2_040, 6_149),
        needs=("flowers-102/jpg", "flowers-102/imagelabels.mat", "flowers-102/setid.mat"),
        labels=attrgetter("_labels"),
        files=attrgetter("_image_files"),
    ),
    "Food101": TorchvisionSet(
        train=({"split": "train"},),
        val=({"split": "test"},),
        images=(75_750, 25_250),
        needs=("food-101/images", "food-101/meta/train.json", "food-101/meta/test.json"),
        labels=attrgetter("_labels"),
        files=attrgetter("_image_files"),
    ),
    "INaturalist": TorchvisionSet(
        train=({"version": "2021_train"},),
        val=({"version": "2021_valid"},),
        images=(2_686_843, 100_000),
        needs=("2021_train", "2021_valid"),
        labels=lambda part: [label for label, _ in _sorted(part)],
        classes=attrgetter("all_categories"),
        files=lambda part: [Path(part.root, part.all_categories[label], name) for label, name in _sorted(part)],
    ),
    "MNIST": _mnist("MNIST"),
    "Places365": TorchvisionSet(
        train=({"split": "train-standard", "small": True},),
        val=({"split": "val", "small": True},),
        images=(1_803_460, 36_500),
        needs=(
            "categories_places365.txt",
            "places365_train_standard.txt",
            "places365_val.txt",
            "data_256_standard",
            "val_256",
        ),
        classes=_in_order_of_index,
        files=lambda part: [path for path, _ in part.imgs],
    ),
    "STL10": TorchvisionSet(
        train=({"split": "train"},),
        val=({"split": "test"},),
        images=(5_000, 8_000),
        needs=tuple(
            f"stl10_binary/{file}"
            for file in (
                "train_X.bin",
                "train_y.bin",
                "unlabeled_X.bin",
                "test_X.bin",
                "test_y.bin",
                "class_names.txt",
            )
        ),
        labels=attrgetter("labels"),
    ),
    "SVHN": TorchvisionSet(
        train=({"split": "train"},),
        val=({"split": "test"},),
        images=(73_257, 26_032),
        needs=("train_32x32.mat", "test_32x32.mat"),
        labels=attrgetter("labels"),
        classes=lambda part: [str(digit) for digit in range(10)],
    ),
}


def command(dataset: str, folder: str | Path) -> str:
    """Returns the command that fetches a set."""
    return f"mixmae data fetch {dataset} {quote(str(folder))}"


def missing(dataset: str, folder: Path) -> list[str]:
    """Returns which of the files and folders that the set needs are not below `folder`."""
    return [path for path in SETS[dataset].needs if not (folder / path).exists()]


def stale(dataset: str, folder: Path) -> Path | None:
    """Returns the folder that torchvision would read in place of the set's files, if one is there."""
    left = SETS[dataset].stale
    return folder / left if left and (folder / left).exists() else None


def check_there(dataset: str, folder: Path) -> None:
    """Raises FileNotFoundError where the set is not below `folder`, ValueError where torchvision would not read it."""
    if lacking := missing(dataset, folder):
        raise FileNotFoundError(f"{folder / lacking[0]}: not there; fetch it: {command(dataset, folder)}")
    if left := stale(dataset, folder):
        raise ValueError(f"{left}: of an older torchvision, which would be read in place of raw; remove it")
