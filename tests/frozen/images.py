"""Image folders of which every byte is a function of the names: their fingerprints never change."""

from pathlib import Path

import numpy as np


def write_images(folder: Path, classes: int, train: int, val: int, side: int = 40, bad: tuple[str, ...] = ()) -> Path:
    """PPM files in the ImageNet layout, so many of each class; `bad` ones (SPLIT/CLASS/FILE) are no images."""
    for split, count in (("train", train), ("val", val)):
        for label in range(classes):
            place = folder / split / f"class{label}"
            place.mkdir(parents=True)
            for number in range(count):
                draws = np.random.Generator(np.random.PCG64([len(split), label, number]))
                pixels = draws.integers(0, 256, (side, side, 3), dtype=np.uint8)
                pixels[:, :, label % 3] //= 1 + label
                content = f"P6 {side} {side} 255\n".encode() + pixels.tobytes()
                name = f"{split}/class{label}/{number:04d}.ppm"
                (folder / name).write_bytes(b"\0" * len(content) if name in bad else content)
    return folder


def write_empty(folder: Path, classes: int, train: int, val: int) -> Path:
    """As many files of one byte: enough to plan with, in no time."""
    for split, count in (("train", train), ("val", val)):
        for label in range(classes):
            place = folder / split / f"class{label}"
            place.mkdir(parents=True)
            for number in range(count):
                (place / f"{number:04d}.ppm").write_bytes(b"P")
    return folder
