"""Images in the ImageNet layout: PATH/train/CLASS/… and PATH/val/CLASS/… (no torch)."""

import os
from pathlib import Path

from PIL import Image

from mixmae.config import ImageFolderConfig
from mixmae.data.reading import read_rgb

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".pgm", ".tif", ".tiff")
SPLITS = ("train", "val")


class ImageFolder:
    """One split, "train" or "val". Classes are the folders' names, sorted; images are read as RGB when asked for.

    Raises FileNotFoundError or ValueError, naming the folder, where the tree is not the ImageNet layout.
    """

    def __init__(self, config: ImageFolderConfig, split: str):
        root = data_root(config)
        self.classes = class_names(root)
        self.bad_files = config.bad_files
        self._folder = root / split
        self._names = []
        self.labels = []
        for label, name in enumerate(self.classes):
            files = image_files(self._folder / name)
            self._names += [f"{name}/{file}" for file in files]
            self.labels += [label] * len(files)

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> Image.Image:
        """RGB, upright. Raises Unreadable."""
        return read_rgb(self._folder / self._names[index])

    def name(self, index: int) -> str:
        return self._names[index]


def data_root(config: ImageFolderConfig) -> Path:
    return Path(config.path).expanduser()


def class_names(root: Path) -> list[str]:
    """The sorted classes, which both splits must have. Raises FileNotFoundError or ValueError where they have not."""
    classes = {split: _folders(root / split) for split in SPLITS}
    for split, other in (SPLITS, SPLITS[::-1]):
        if lacking := sorted(set(classes[other]) - set(classes[split])):
            what = f"{len(lacking)} classes of {root / other} are missing, the first is {lacking[0]!r}"
            raise ValueError(f"{root / split}: {what}; both splits need the same class folders")
    return classes["train"]


def image_files(folder: Path) -> list[str]:
    """Paths of the images below `folder`, relative to it, sorted. Raises ValueError where there is none."""
    files = []
    for path, _, names in os.walk(folder, followlinks=True):
        base = os.path.relpath(path, folder)
        here = [name for name in names if name.lower().endswith(SUFFIXES) and not name.startswith(".")]
        files += here if base == "." else [f"{base}/{name}" for name in here]
    if not files:
        raise ValueError(f"{folder}: no images ({', '.join(SUFFIXES)}); add some or remove the class from both splits")
    return sorted(files)


def _folders(path: Path) -> list[str]:
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such folder; image_folder needs PATH/train/CLASS/… and PATH/val/CLASS/…")
    names = sorted(entry.name for entry in os.scandir(path) if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise ValueError(f"{path}: no class folders; image_folder needs PATH/train/CLASS/… and PATH/val/CLASS/…")
    return names
