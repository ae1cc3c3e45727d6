"""Images of torchvision's sets."""

from pathlib import Path

from PIL import Image, ImageOps
from torch.utils.data import ConcatDataset

from mixmae.data.placing import SIDE, Placement, drawn, placed, within
from mixmae.data.reading import read_rgb
from mixmae.data.torchvision_sets.indexed import indexed
from mixmae.data.torchvision_sets.reading import open_parts
from mixmae.data.torchvision_sets.spec import TorchvisionConfig, data_root

SIZES = 18, 28
"""Of placed images, px."""


class TorchvisionSplit:
    """One split, "train" or "val", in torchvision's order. Images are RGB, in the set's own size and the padding, or
    placed on a canvas of 32 px.

    Raises FileNotFoundError where the set is not there, ValueError where it is not what torchvision knows.
    """

    def __init__(self, config: TorchvisionConfig, split: str):
        folder = data_root(config)
        index = indexed(config.dataset, folder)
        self.classes = index.classes
        self.labels = index.labels[split]
        self.bad_files = config.bad_files
        self._pad, self._placed, self._split = config.pad, config.placed, split
        self._images: _Files | _InMemory
        if index.files is None:
            self._images = _InMemory(config.dataset, folder, split)
        else:
            self._images = _Files(folder, index.files[split])

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> Image.Image:
        """Returns image `index` as RGB. Raises Unreadable where it is a file that is no image."""
        image = self._images.image(index)
        if self._placed:
            return placed(image.convert("L"), placement(self._split, index)).convert("RGB")
        return ImageOps.expand(image, self._pad) if self._pad else image

    def name(self, index: int) -> str:
        return self._images.name(index)


def placement(split: str, index: int) -> Placement:
    """Returns where image `index` of a split lies. Raise the spec's version where this changes."""
    size, left, top, *_ = drawn(f"placed items/{split}", index)
    side = within(*SIZES, size)
    return Placement(size=side, left=within(0, SIDE - side, left), top=within(0, SIDE - side, top))


class _Files:
    """Images that lie in files, `paths` below `folder`."""

    def __init__(self, folder: Path, paths: list[str]):
        self._folder, self._paths = folder, paths

    def image(self, index: int) -> Image.Image:
        return read_rgb(self._folder / self._paths[index])

    def name(self, index: int) -> str:
        return self._paths[index]


class _InMemory:
    """Images that torchvision holds in memory."""

    def __init__(self, dataset: str, folder: Path, split: str):
        self._images: ConcatDataset = ConcatDataset(open_parts(dataset, folder, split))
        self._place = f"{dataset}/{split}"

    def image(self, index: int) -> Image.Image:
        return self._images[index][0].convert("RGB")

    def name(self, index: int) -> str:
        return f"{self._place}/{index}"
