"""Which files an image folder holds: walked once, then known by the times of its folders (no torch).

The walk of a large folder is kept by fingerprint.py under the root, and within a process here. It holds as long as no
folder's times have changed, which adding, removing and renaming files does. Rewriting a file in place changes no
folder: see fingerprint.py for what that means.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from mixmae.data.sources import SPLITS

SUFFIXES = (
    ".apng", ".avif", ".bmp", ".bw", ".dds", ".dib", ".gif", ".icns", ".ico", ".j2c", ".j2k", ".jfif", ".jp2", ".jpc",
    ".jpe", ".jpeg", ".jpf", ".jpg", ".jpx", ".mpo", ".pbm", ".pcx", ".pfm", ".pgm", ".png", ".pnm", ".ppm", ".psd",
    ".qoi", ".ras", ".rgb", ".rgba", ".sgi", ".tga", ".tif", ".tiff", ".webp", ".xbm", ".xpm",
)  # fmt: skip
"""The formats Pillow reads by itself. A list of our own: which files count must not depend on the version of Pillow."""
SETTLED_NS = 2_000_000_000
"""A folder changed less than this ago may change again at the same recorded time (times are as coarse as 1 s or so on
some file systems), so it is walked again."""

_walked: dict[Path, "Index"] = {}


@dataclass(frozen=True)
class Index:
    """files: the sorted images by split and class, relative to the class's folder. times: of every folder walked, by
    path relative to the data set, (modified, status changed) in ns. settled: none had changed just before the walk."""

    files: dict[str, dict[str, list[str]]]
    times: dict[str, tuple[int, int]]
    settled: bool

    @property
    def classes(self) -> list[str]:
        return list(self.files["train"])

    def paths(self, split: str) -> list[str]:
        """Returns CLASS/FILE of every image, class by class."""
        return [f"{name}/{file}" for name, files in self.files[split].items() for file in files]

    def labels(self, split: str) -> list[int]:
        return [label for label, files in enumerate(self.files[split].values()) for _ in files]

    def holds(self, folder: Path) -> bool:
        """Whether no folder has changed since the walk."""
        try:
            return self.settled and all(_times(folder / path) == times for path, times in self.times.items())
        except OSError:
            return False


def index(folder: Path) -> Index:
    """Returns the index of the data set in `folder`, which is walked unless this process has a valid index of it.

    Raises FileNotFoundError or ValueError, naming the place, where the tree is not the ImageNet layout: splits with
    different classes, classes without images, links that lead nowhere or back, names that are not UTF-8.
    """
    known = _walked.get(folder.resolve())
    return known if known and known.holds(folder) else remember(folder, walk(folder))


def remember(folder: Path, walked: Index) -> Index:
    """Keeps the index for later calls of `index` in this process."""
    _walked[folder.resolve()] = walked
    return walked


def walk(folder: Path) -> Index:
    """Walks the data set in `folder` and returns its index."""
    began = time.time_ns()
    times: dict[str, tuple[int, int]] = {}
    files = {}
    for split, names in class_names(folder).items():
        times[split] = _times(folder / split)
        files[split] = {name: _image_files(folder, f"{split}/{name}", times) for name in names}
    settled = all(began - max(changed) > SETTLED_NS for changed in times.values())
    return Index(files, times, settled)


def class_names(folder: Path) -> dict[str, list[str]]:
    """Returns the sorted classes by split. Raises FileNotFoundError or ValueError where the splits differ in them."""
    classes = {split: folders(folder / split) for split in SPLITS}
    for split, other in (SPLITS, SPLITS[::-1]):
        if lacking := sorted(set(classes[other]) - set(classes[split])):
            what = f"{len(lacking)} classes of {folder / other} are missing, the first is {lacking[0]!r}"
            raise ValueError(f"{folder / split}: {what}; both splits need the same class folders")
    return classes


def folders(path: Path) -> list[str]:
    """Returns the sorted class folders of a split. Raises FileNotFoundError or ValueError where there is none."""
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such folder; image_folder needs PATH/train/CLASS/… and PATH/val/CLASS/…")
    names = sorted(name for name, entry in _entries(path) if _is_folder(entry))
    if not names:
        raise ValueError(f"{path}: no class folders; image_folder needs PATH/train/CLASS/… and PATH/val/CLASS/…")
    return names


def images_below(
    folder: Path, path: str, times: dict[str, tuple[int, int]], others: list[str], above: tuple = ()
) -> list[str]:
    """Returns the images below folder/path. All paths are relative to `folder`.

    Adds the times of every folder below to `times` and the files of other kinds to `others`. Links to folders are
    followed, hidden files and folders are passed over. above: (device, inode) of the folders around this one.
    """
    here = folder / path
    status = here.stat()
    place = (status.st_dev, status.st_ino)
    if place in above:
        raise ValueError(f"{here}: a link back to a folder it lies in; remove it")
    times[path] = (status.st_mtime_ns, status.st_ctime_ns)
    images = []
    for name, entry in _entries(here):
        if _is_folder(entry):
            images += images_below(folder, f"{path}/{name}", times, others, (*above, place))
        elif name.lower().endswith(SUFFIXES):
            if not _is_file(entry):
                what = "a link that leads nowhere" if entry.is_symlink() else "neither a file nor a folder"
                raise ValueError(f"{here / name}: {what}; remove it")
            images.append(f"{path}/{name}")
        else:
            others.append(f"{path}/{name}")
    return images


def _image_files(folder: Path, path: str, times: dict[str, tuple[int, int]]) -> list[str]:
    files = sorted(file[len(path) + 1 :] for file in images_below(folder, path, times, []))
    if not files:
        what = "no images (such as .jpg, .png, .webp, .tif); add some or remove the class from both splits"
        raise ValueError(f"{folder / path}: {what}")
    return files


def _entries(path: Path) -> list[tuple[str, os.DirEntry]]:
    """Returns the entries of `path` that are not hidden. Raises ValueError for names that are not UTF-8."""
    with os.scandir(path) as entries:
        visible = [(entry.name, entry) for entry in entries if not entry.name.startswith(".")]
    for name, _ in visible:
        if not _is_text(name):
            raise ValueError(f"{path}: the name {os.fsencode(name)!r} is not UTF-8; rename it")
    return visible


def _is_folder(entry: os.DirEntry) -> bool:
    """Whether it is a folder, links followed; False for a link to itself, where `entry.is_dir()` raises OSError."""
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def _is_file(entry: os.DirEntry) -> bool:
    return os.path.isfile(entry.path) if entry.is_symlink() else entry.is_file()


def _is_text(name: str) -> bool:
    return name.isascii() or not any("\ud800" <= character <= "\udfff" for character in name)


def _times(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_ctime_ns
