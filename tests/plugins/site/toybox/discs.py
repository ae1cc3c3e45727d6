import numpy as np
from PIL import Image, ImageDraw

from toybox.discs_spec import SPEC, DiscsConfig


class Split:
    """One split of the discs: an image is drawn when it is asked for."""

    def __init__(self, config: DiscsConfig, split: str):
        counts = SPEC.counts(config, split)
        self.classes = [f"radius {2 * size + 3}" for size in range(config.sizes)]
        self.labels = [size for size, count in enumerate(counts) for _ in range(count)]
        self._split = split

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        return f"discs/{self._split}/{index}"

    def image(self, index: int) -> Image.Image:
        rng = np.random.default_rng([index, self._split == "val"])
        image = Image.fromarray(rng.integers(0, 120, (32, 32, 3), dtype=np.uint8))
        radius, (x, y) = 2 * self.labels[index] + 3, rng.integers(13, 19, 2)
        ImageDraw.Draw(image).ellipse((x - radius, y - radius, x + radius, y + radius), fill="white")
        return image
