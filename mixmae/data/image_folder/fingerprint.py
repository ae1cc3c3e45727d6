"""What makes two folders of images the same: a hash over their files' relative paths, sizes and classes (no torch)."""

import logging
from pathlib import Path

from mixmae.data.fingerprint import cache_below, keep, of_files
from mixmae.data.image_folder.index import Index, index, remember
from mixmae.data.image_folder.spec import ImageFolderConfig, data_root
from mixmae.files.records import read_json

log = logging.getLogger(__name__)

CACHED_FROM = 50_000
"""From so many images on, names and sizes are cached under the root and not read again while no folder has changed.
Rewriting a file in place changes no folder: of a smaller data set, where reading all sizes takes a fraction of a
second, this is seen unless the size stays the same, of a larger one not at all.
`mixmae data check` reads everything."""


def fingerprint(data: ImageFolderConfig, root: Path) -> str:
    """Returns 16 hex digits, the same wherever the data lies. Those of large folders are cached under `root`.

    Raises FileNotFoundError or ValueError where the data is missing or not laid out as it should be.
    """
    folder = data_root(data).resolve()
    if known := _recalled(folder, root):
        return known
    walked = index(folder)
    files = _files(walked)
    digits = _of_files(folder, files)
    if len(files) >= CACHED_FROM and walked.settled:
        _keep(_cache(folder, root), folder, walked, digits)
    return digits


def recall(data: ImageFolderConfig, root: Path) -> None:
    """Loads the index cached under `root`, where it is still valid, so that opening a split walks nothing."""
    _recalled(data_root(data).resolve(), root)


def of_index(folder: Path, walked: Index) -> str:
    """Returns the fingerprint of the data set in `folder`, all sizes read again."""
    return _of_files(folder, _files(walked))


def _files(walked: Index) -> list[tuple[str, str]]:
    """Returns (path relative to the data set, class) of every image of both splits, sorted."""
    return sorted(
        (f"{split}/{name}/{file}", name)
        for split, classes in walked.files.items()
        for name, files in classes.items()
        for file in files
    )


def _of_files(folder: Path, files: list[tuple[str, str]]) -> str:
    return of_files(folder, ((path, path, name) for path, name in files))


# --------------------------------------------------------------------------------------------------------------- cache


def _cache(folder: Path, root: Path) -> Path:
    return cache_below(root, str(folder))


def _recalled(folder: Path, root: Path) -> str | None:
    """Returns the fingerprint cached for `folder` and remembers its index; None where no cached one is valid."""
    known = _kept(_cache(folder, root))
    if known is None or not known[0].holds(folder):
        return None
    remember(folder, known[0])
    return known[1]


def _keep(cache: Path, folder: Path, walked: Index, fingerprint: str) -> None:
    """Writes the index and the fingerprint to `cache`."""
    # A million strings take JSON many times as long as one: names are joined by the null character, which none holds.
    files = {
        split: {name: "\0".join(files) for name, files in classes.items()} for split, classes in walked.files.items()
    }
    data = {"path": str(folder), "fingerprint": fingerprint, "times": walked.times, "files": files}
    keep(cache, data)


def _kept(cache: Path) -> tuple[Index, str] | None:
    """Returns the index and the fingerprint in `cache`; None where the file is missing or damaged."""
    try:
        data = read_json(cache)
        files = {
            split: {name: joined.split("\0") for name, joined in classes.items()}
            for split, classes in data["files"].items()
        }
        times = {path: tuple(times) for path, times in data["times"].items()}
        return Index(files, times, settled=True), data["fingerprint"]
    except OSError:
        return None
    except (ValueError, KeyError, AttributeError) as error:
        log.warning("%s is damaged or of another version and is written anew (%s)", cache, error)
        return None
