"""What is known of a set without opening it: classes, labels, files and fingerprint, kept under the root (no torch).

An index holds as long as the set's files and folders have the times and sizes that they had when it was made. Making
one has torchvision read the whole set, for which reading.py imports torch.
"""

import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from mixmae.data.fingerprint import cache_below, keep, of_files
from mixmae.data.sources import SPLITS
from mixmae.data.torchvision_sets.sets import SETS, check_there
from mixmae.files.records import read_json

log = logging.getLogger(__name__)

CACHED_FROM = 50_000
"""From so many files on, their sizes are not read again while no folder has changed, as in an image folder."""
SETTLED_NS = 2_000_000_000
"""What changed less than this ago may change again at the same recorded time: it is not kept."""

Stamps = dict[str, tuple[int, int, int]]
"""(modified, status changed, size) of files and folders by their path below the set's folder; times in ns."""

_known: dict[tuple[str, Path], "Index"] = {}


@dataclass(frozen=True)
class Index:
    """labels: by split, one an image, in the order of the images. files: by split, each below the set's folder; None
    where the images lie in memory. content: the fingerprint. settled: nothing had changed just before it was made."""

    classes: list[str]
    labels: dict[str, list[int]]
    files: dict[str, list[str]] | None
    content: str
    stamps: Stamps
    settled: bool

    def counts(self, split: str) -> tuple[int, ...]:
        """Counts the images of each class."""
        of_class = Counter(self.labels[split])
        return tuple(of_class[label] for label in range(len(self.classes)))

    def holds(self, folder: Path) -> bool:
        """Whether nothing has changed since it was made."""
        try:
            return self.settled and stamps_of(folder, self.stamps) == self.stamps
        except OSError:
            return False


def fingerprint(dataset: str, folder: Path, root: Path) -> str:
    """Returns 16 hex digits, the same wherever the set lies: of its pixels and labels in order, where they lie in
    memory; of the names, sizes and classes of its files, where it has files.

    Raises FileNotFoundError or ValueError where the set is not what torchvision knows.
    """
    recall(dataset, folder, root)
    cache, known = _cache(dataset, folder, root), _valid(dataset, folder)
    index = known or indexed(dataset, folder)
    if index.settled and (known is None or not cache.exists()):
        _keep(cache, index)
    if known and known.files and sum(map(len, known.files.values())) < CACHED_FROM:
        return fingerprint_of_files(folder, known.classes, known.labels, known.files)
    return index.content


def indexed(dataset: str, folder: Path) -> Index:
    """Returns the index of a set, which is made unless this process has a valid one. Raises as `fingerprint` does."""
    known = _valid(dataset, folder)
    if known is None:
        check_there(dataset, folder)
        from mixmae.data.torchvision_sets.reading import make_index

        known = _known[dataset, folder.resolve()] = make_index(dataset, folder)
    return known


def recall(dataset: str, folder: Path, root: Path) -> None:
    """Loads the index kept under `root`, where it is still valid and this process has none."""
    if _valid(dataset, folder) is None:
        kept = _kept(_cache(dataset, folder, root))
        if kept is not None and kept.holds(folder):
            _known[dataset, folder.resolve()] = kept


def _valid(dataset: str, folder: Path) -> Index | None:
    """Returns the index that this process has of a set, where nothing has changed since."""
    known = _known.get((dataset, folder.resolve()))
    return known if known is not None and known.holds(folder) else None


def fingerprint_of_files(
    folder: Path, classes: list[str], labels: dict[str, list[int]], files: dict[str, list[str]]
) -> str:
    """Returns the fingerprint of a set whose images are files; their sizes are read."""
    return of_files(
        folder,
        (
            (path, f"{split}/{path}", classes[label])
            for split in SPLITS
            for path, label in zip(files[split], labels[split], strict=True)
        ),
    )


def stamps_of(folder: Path, paths: Stamps | list[str]) -> Stamps:
    """Returns the stamps of `paths` as they are now. Raises OSError where one is not there."""
    found = {path: (folder / path).stat() for path in paths}
    return {path: (status.st_mtime_ns, status.st_ctime_ns, status.st_size) for path, status in found.items()}


def stamped(dataset: str, files: dict[str, list[str]] | None) -> list[str]:
    """Returns the files and folders that an index depends on: those the set needs, and the folders of its images."""
    parents = {str(Path(path).parent) for of in (files or {}).values() for path in of}
    return sorted({*SETS[dataset].needs, *parents})


def is_settled(stamps: Stamps, began_ns: int) -> bool:
    return all(began_ns - max(modified, changed) > SETTLED_NS for modified, changed, _ in stamps.values())


# --------------------------------------------------------------------------------------------------------------- cache


def _cache(dataset: str, folder: Path, root: Path) -> Path:
    return cache_below(root, f"{dataset}\0{folder.resolve()}")


def _keep(cache: Path, index: Index) -> None:
    # A million strings take JSON many times as long as one: files are joined by the null character, which none holds.
    keep(
        cache,
        {
            "classes": index.classes,
            "labels": {split: " ".join(map(str, labels)) for split, labels in index.labels.items()},
            "files": index.files and {split: "\0".join(files) for split, files in index.files.items()},
            "content": index.content,
            "stamps": index.stamps,
        },
    )


def _kept(cache: Path) -> Index | None:
    """Returns the index in `cache`; None where the file is missing or damaged."""
    try:
        data = read_json(cache)
        files = data["files"]
        return Index(
            data["classes"],
            {split: [int(label) for label in labels.split()] for split, labels in data["labels"].items()},
            files and {split: joined.split("\0") for split, joined in files.items()},
            data["content"],
            {path: tuple(stamp) for path, stamp in data["stamps"].items()},
            settled=True,
        )
    except OSError:
        return None
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        log.warning("%s is damaged or of another version and is written anew (%s)", cache, error)
        return None
