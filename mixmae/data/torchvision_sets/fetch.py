"""Brings a set of torchvision's to where it is trained on: downloaded, or made of its authors' files; whole or not at
all.

torchvision downloads, checks the md5 of the files and unpacks them, in a hidden folder within the one that is filled.
What it has made there is read once, and then moved.
"""

import fcntl
import gzip
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torchvision.datasets import inaturalist  # type: ignore[import-untyped]
from torchvision.datasets.utils import calculate_md5  # type: ignore[import-untyped]

from mixmae.data.sources import SPLITS
from mixmae.data.torchvision_sets.indexed import Index
from mixmae.data.torchvision_sets.reading import constructor, make_index
from mixmae.data.torchvision_sets.sets import SETS, check_there, command, missing, stale
from mixmae.fields.nearest import instead
from mixmae.files.retrying import FULL

BLOCK = 1 << 20


@dataclass(frozen=True)
class Original:
    """A file as its authors give it. place: where torchvision looks for it; unpacked: whether it goes thereafter."""

    name: str
    place: str
    md5: str
    unpacked: bool = True


def _mnist(found: Any) -> list[Original]:
    return [Original(name, f"{found.__name__}/raw/{name}", md5) for name, md5 in found.resources]


def _one_archive(found: Any) -> list[Original]:
    return [Original(found.filename, found.filename, found.tgz_md5)]


def _flowers(found: Any) -> list[Original]:
    return [
        Original(name, f"flowers-102/{name}", md5, unpacked=name.endswith(".tgz"))
        for name, md5 in found._file_dict.values()
    ]


def _food(found: Any) -> list[Original]:
    name = found._URL.rsplit("/", 1)[1]
    return [Original(name, name, found._MD5)]


def _naturalist(found: Any) -> list[Original]:
    return [
        Original(
            inaturalist.DATASET_URLS[version].rsplit("/", 1)[1], f"{version}.tgz", inaturalist.DATASET_MD5[version]
        )
        for version in SETS[found.__name__].needs
    ]


def _places(found: Any) -> list[Original]:
    archives = [
        found._DEVKIT_META["standard"],
        *(found._IMAGES_META[split, True] for split in ("train-standard", "val")),
    ]
    return [Original(name, name, md5) for name, md5 in archives]


def _house_numbers(found: Any) -> list[Original]:
    return [Original(name, name, md5, unpacked=False) for _, name, md5 in map(found.split_list.get, ("train", "test"))]


ORIGINALS: dict[str, Callable[[Any], list[Original]]] = {
    "CIFAR10": _one_archive,
    "CIFAR100": _one_archive,
    "FashionMNIST": _mnist,
    "Flowers102": _flowers,
    "Food101": _food,
    "INaturalist": _naturalist,
    "MNIST": _mnist,
    "Places365": _places,
    "STL10": _one_archive,
    "SVHN": _house_numbers,
}
"""The authors' files of each set, by torchvision's class of it, which knows their md5."""

CONTENTS = {
    "FashionMNIST/raw/train-images-idx3-ubyte": (
        47_040_016,
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    ),
    "FashionMNIST/raw/train-labels-idx1-ubyte": (
        60_008,
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    ),
    "FashionMNIST/raw/t10k-images-idx3-ubyte": (
        7_840_016,
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    ),
    "FashionMNIST/raw/t10k-labels-idx1-ubyte": (
        10_008,
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
}
"""Size in bytes and sha256 of what is in files that are also found packed anew, with another md5 (Debian's
dataset-fashion-mnist)."""


def fetch(dataset: str, folder: Path, originals: Path | None, say: Callable[[str], None]) -> None:
    """Fills `folder` with a set: from `originals`, a folder with its authors' files, else from the network.

    Raises ValueError or FileNotFoundError where that cannot be, FileExistsError where another one is doing it.
    """
    if dataset not in SETS:
        raise ValueError(f"DATASET: no set {dataset!r}; {instead(dataset, SETS)}")
    if left := stale(dataset, folder):
        raise ValueError(f"{left}: of an older torchvision; remove it")
    if not missing(dataset, folder):
        _check(dataset, folder)
        say(f"{dataset} is there already: {folder}")
        return
    tops = dict.fromkeys(path.split("/")[0] for path in SETS[dataset].needs)
    if there := [top for top in tops if (folder / top).exists()]:
        raise ValueError(f"{folder / there[0]}: in the way, of a set that is not whole; remove it")
    with _made(folder), _apart(dataset, folder) as apart:
        if originals is not None:
            for original in ORIGINALS[dataset](constructor(dataset)):
                say(f"taking {original.name}")
                _take(original, originals, apart)
        _let_torchvision(dataset, apart, folder, originals)
        for original in ORIGINALS[dataset](constructor(dataset)):
            if original.unpacked:
                (apart / original.place).unlink(missing_ok=True)
        index = _check(dataset, apart)
        for top in tops:
            (apart / top).rename(folder / top)
    for line in _described(dataset, folder, index):
        say(line)


def check_set(dataset: str, folder: Path) -> list[str]:
    """Reads a set that is there; returns a line that says what it is and one that names it in a config.

    Raises ValueError where it is not what is known of it, or torchvision would read another in its place."""
    check_there(dataset, folder)
    return _described(dataset, folder, _check(dataset, folder))


def _described(dataset: str, folder: Path, index: Index) -> list[str]:
    sizes = " and ".join(f"{len(index.labels[split]):,} images for {split}" for split in SPLITS)
    return [
        f"{dataset} is in {folder}: {sizes}, {len(index.classes)} classes",
        f"data: {{name: torchvision, dataset: {dataset}, path: {folder.resolve()}}}",
    ]


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """Makes `folder` and those it lies in; what it has made goes again where nothing has come into it."""
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        for one in made:
            with suppress(OSError):  # it is not empty
                one.rmdir()


@contextmanager
def _apart(dataset: str, folder: Path) -> Iterator[Path]:
    """Gives a folder within `folder`, on the same file system, that is gone afterwards; what one that was killed has
    left in it too. Raises FileExistsError where another process fetches the set to the same place."""
    apart = folder / f".fetching-{dataset}"
    apart.mkdir(exist_ok=True)
    handle = os.open(apart, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise FileExistsError(f"{apart}: another process is fetching {dataset} to there; wait for it") from None
    try:
        for left in apart.iterdir():
            shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
        yield apart
    finally:
        shutil.rmtree(apart, ignore_errors=True)
        os.close(handle)


def _take(original: Original, source: Path, apart: Path) -> None:
    """Lays one of the authors' files where torchvision looks for it, or what is in it where that is known.

    Raises FileNotFoundError where it is not in `source`, ValueError where it is another.
    """
    place = apart / original.place
    place.parent.mkdir(parents=True, exist_ok=True)
    unzipped = original.place.removesuffix(".gz")
    if unzipped in CONTENTS:
        path = _first(source / original.name, source / Path(unzipped).name)
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as packed:
            _copy(packed, apart / unzipped, path)
        _check_content(apart / unzipped, unzipped, path)
        return
    path = _first(source / original.name)
    if (md5 := calculate_md5(path)) != original.md5:
        raise ValueError(f"{path}: its md5 is {md5}, that of the authors' is {original.md5}; get it again")
    if original.unpacked:
        place.symlink_to(path.resolve())
    else:
        shutil.copyfile(path, place)


def _first(*paths: Path) -> Path:
    """Returns the first of `paths` that is a file."""
    for path in paths:
        if path.is_file():
            return path
    raise FileNotFoundError(f"{paths[0]}: no such file; --from takes the folder that holds the authors' files")


def _copy(packed: Any, to: Path, path: Path) -> None:
    try:
        with to.open("wb") as file:
            shutil.copyfileobj(packed, file, BLOCK)
    except (EOFError, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: cannot be unzipped ({error}); get it again") from error


def _check_content(path: Path, known_as: str, source: Path) -> None:
    """Raises ValueError, naming `source`, where the file at `path` is not the one that is known."""
    size, sha256 = CONTENTS[known_as]
    if (found := path.stat().st_size) != size:
        raise ValueError(f"{source}: holds {found:,} bytes, the authors' {size:,}; get it again")
    with path.open("rb") as file:
        digits = hashlib.file_digest(file, "sha256").hexdigest()
    if digits != sha256:
        raise ValueError(f"{source}: the sha256 of what it holds is {digits}, the authors' {sha256}; get it again")


def _let_torchvision(dataset: str, apart: Path, folder: Path, originals: Path | None) -> None:
    """Has torchvision download what is not there, check and unpack it. Raises ValueError where it cannot."""
    names = ", ".join(original.name for original in ORIGINALS[dataset](constructor(dataset)))
    try:
        for split in SPLITS:
            for part in SETS[dataset].parts(split):
                constructor(dataset)(root=str(apart), download=True, **part)
    except (OSError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno in FULL:
            raise
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        if originals is not None:
            raise ValueError(f"{originals}: torchvision cannot unpack {dataset} of it ({reason})") from error
        elsewhere = f"{command(dataset, folder)} --from FOLDER, where FOLDER holds {names}"
        raise ValueError(f"{dataset} cannot be downloaded ({reason}); get its files elsewhere: {elsewhere}") from error


def _check(dataset: str, folder: Path) -> Index:
    """Reads the set. Raises ValueError where it is not what is known of it."""
    for path in CONTENTS:
        if path in SETS[dataset].needs:
            _check_content(folder / path, path, folder / path)
    index = make_index(dataset, folder)
    found = {split: len(index.labels[split]) for split in SPLITS}
    wanted = dict(zip(SPLITS, SETS[dataset].images, strict=True))
    if found != wanted:
        says = ", ".join(f"{found[split]:,} of {wanted[split]:,} images for {split}" for split in SPLITS)
        raise ValueError(f"{folder}: {dataset} has {says}; remove it and fetch it again")
    return index
