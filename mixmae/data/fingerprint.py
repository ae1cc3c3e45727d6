"""What makes two data sets the same: a hash over their files' relative paths, sizes and classes (no torch)."""

import errno
import hashlib
import importlib.util
import os
from pathlib import Path

from mixmae.config import DataConfig, DigitsConfig, ImageFolderConfig
from mixmae.data.image_folder import SPLITS, class_names, data_root, image_files
from mixmae.runs import read_json, write_json

DIGITS = 16
CACHED_FROM = 50_000
"""Images from which on the sizes are not read again while no folder has changed. Rewriting a file in place changes no
folder, so smaller data sets, where reading all sizes takes a fraction of a second, are always read in full."""
READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
"""A root that cannot be written to: the fingerprint is then found anew each time."""


def fingerprint(data: DataConfig, root: Path) -> str:
    """16 hex digits, the same wherever the data lies. Those of large image folders are cached under `root`.

    Raises FileNotFoundError or ValueError where the data is missing or not laid out as it should be.
    """
    if isinstance(data, DigitsConfig):
        return _sha256([digits_file().read_bytes()])
    return _of_image_folder(data, root)


def digits_file() -> Path:
    """Where scikit-learn keeps the digits: 64 grey levels and the class, a line an image."""
    spec = importlib.util.find_spec("sklearn")
    if spec is None:
        raise FileNotFoundError("scikit-learn, which holds the digits, is not installed; pip install scikit-learn")
    return Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz"


def _of_image_folder(data: ImageFolderConfig, root: Path) -> str:
    folder = data_root(data).resolve()
    files = _files(folder)
    if len(files) < CACHED_FROM:
        return _of_files(folder, files)
    cache = root / "fingerprints" / f"{_sha256([str(folder).encode()])}.json"
    stamp = _stamp(folder, files)
    try:
        known = read_json(cache)
        if known["stamp"] == stamp:
            return known["fingerprint"]
    except FileNotFoundError:
        pass
    found = _of_files(folder, files)
    try:
        write_json(cache, {"path": str(folder), "stamp": stamp, "fingerprint": found})
    except OSError as error:
        if error.errno not in READ_ONLY:
            raise
    return found


def _files(folder: Path) -> list[tuple[str, str]]:
    """(path relative to `folder`, class) of every image of both splits, sorted."""
    classes = class_names(folder)
    return sorted(
        (f"{split}/{name}/{file}", name)
        for split in SPLITS
        for name in classes
        for file in image_files(folder / split / name)
    )


def _of_files(folder: Path, files: list[tuple[str, str]]) -> str:
    return _sha256(f"{path}\0{(folder / path).stat().st_size}\0{name}\n".encode() for path, name in files)


def _stamp(folder: Path, files: list[tuple[str, str]]) -> str:
    """Changes when a file is added, removed or renamed: the folders' times and the number of files."""
    folders = sorted({os.path.dirname(path) for path, _ in files})
    times = (f"{path}\0{(folder / path).stat().st_mtime_ns}\n".encode() for path in folders)
    return _sha256([str(len(files)).encode(), *times])


def _sha256(parts) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:DIGITS]
