"""What torchvision reads of a set, checked."""

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torchvision.datasets  # type: ignore[import-untyped]
from PIL import Image

from mixmae.data.fingerprint import digest
from mixmae.data.sources import SPLITS
from mixmae.data.torchvision_sets.indexed import (
    Index,
    fingerprint_of_files,
    is_settled,
    stamped,
    stamps_of,
)
from mixmae.data.torchvision_sets.sets import SETS, check_there, command
from mixmae.files.retrying import OF_THE_MACHINE


def constructor(dataset: str) -> Any:
    """Returns torchvision's class of that name."""
    return getattr(torchvision.datasets, dataset)


def open_parts(dataset: str, folder: Path, split: str) -> list[Any]:
    """Opens the parts of a split. Nothing is downloaded, and no pickle is read whose md5 is not torchvision's.

    Raises FileNotFoundError where the set is not there, ValueError where it is not what torchvision knows.
    """
    check_there(dataset, folder)
    try:
        return [constructor(dataset)(root=str(folder), **part) for part in SETS[dataset].parts(split)]
    except Exception as error:  # whatever a damaged file makes its reader raise
        if isinstance(error, OSError) and error.errno in OF_THE_MACHINE:
            raise
        raise ValueError(f"{folder}: {_unfit(dataset, split, error)}; {_remedy(dataset, folder)}") from error


def make_index(dataset: str, folder: Path) -> Index:
    """Reads a set. Raises as `open_parts` does, and ValueError where a split lacks images of a class or its labels."""
    began = time.time_ns()
    declared = SETS[dataset]
    parts = {split: open_parts(dataset, folder, split) for split in SPLITS}
    classes = _classes(dataset, folder, parts)
    labels = {split: [int(label) for part in of for label in declared.labels(part)] for split, of in parts.items()}
    for split in SPLITS:
        images, found = sum(map(len, parts[split])), len(labels[split])
        if images != found:
            what = f"the {split} split of {dataset} has {images} images and {found} labels"
            raise ValueError(f"{folder}: {what}; {_remedy(dataset, folder)}")
    _check_classes(dataset, folder, classes, labels)
    files = None
    if declared.files is not None:
        files = {
            split: [str(Path(path).relative_to(folder)) for part in of for path in declared.files(part)]
            for split, of in parts.items()
        }
    stamps = stamps_of(folder, stamped(dataset, files))
    content = fingerprint_of_files(folder, classes, labels, files) if files else digest(_content(parts, labels))
    return Index(classes, labels, files, content, stamps, is_settled(stamps, began))


def decoded(parts: list[Any]) -> Iterator[Image.Image]:
    """Yields every image of a split's parts, as torchvision gives it."""
    for part in parts:
        for index in range(len(part)):
            yield part[index][0]


def _content(parts: dict[str, list[Any]], labels: dict[str, list[int]]) -> Iterator[bytes]:
    """Yields split, labels, and mode, size and pixels of every image."""
    for split, of in parts.items():
        yield f"{split}\0{len(labels[split])}\n".encode()
        yield np.asarray(labels[split], "<i8").tobytes()
        for image in decoded(of):
            yield f"{image.mode}\0{image.width}\0{image.height}\n".encode()
            yield image.tobytes()


def _classes(dataset: str, folder: Path, parts: dict[str, list[Any]]) -> list[str]:
    """Returns the classes in the order of labels, which some sets number in each part by what they find there. Raises
    ValueError where the parts differ in them."""
    of_part = [(split, list(map(str, SETS[dataset].classes(part)))) for split in SPLITS for part in parts[split]]
    first, classes = of_part[0]
    for split, others in of_part[1:]:
        if others != classes:
            for has, names, lacks, without in ((split, others, first, classes), (first, classes, split, others)):
                if strange := [name for name in names if name not in without]:
                    what = f"the {has} split of {dataset} has the class {strange[0]!r}, which {lacks} lacks"
                    raise ValueError(f"{folder}: {what}; {_remedy(dataset, folder)}")
            raise ValueError(f"{folder}: the splits of {dataset} number its classes differently")
    return classes


def _check_classes(dataset: str, folder: Path, classes: list[str], labels: dict[str, list[int]]) -> None:
    """Raises ValueError where a label has no class, or a split has no image of a class."""
    counts = {split: Counter(labels[split]) for split in SPLITS}
    for split, other in (SPLITS, SPLITS[::-1]):
        if strange := sorted(label for label in counts[split] if not 0 <= label < len(classes)):
            what = f"the {split} split of {dataset} has the label {strange[0]}, which is none of {len(classes)} classes"
            raise ValueError(f"{folder}: {what}; {_remedy(dataset, folder)}")
        if lacking := [name for label, name in enumerate(classes) if not counts[split][label]]:
            there = f", which {other} has" if counts[other][classes.index(lacking[0])] else ""
            what = f"the {split} split of {dataset} has no image of the class {lacking[0]!r}{there}"
            raise ValueError(f"{folder}: {what}; {_remedy(dataset, folder)}")


def _unfit(dataset: str, split: str, error: Exception) -> str:
    """Says what torchvision objects to; that one can download it in Python is left out."""
    reason = str(error).split(" You can ")[0].strip().rstrip(".") or type(error).__name__
    return f"torchvision cannot read the {split} split of {dataset} ({reason})"


def _remedy(dataset: str, folder: Path) -> str:
    whole = ", ".join(dict.fromkeys(path.split("/")[0] for path in SETS[dataset].needs))
    return f"remove {whole} there and fetch it anew: {command(dataset, folder)}"
