"""From a split to batches: every sample is a function of (seed, epoch, index), whoever loads it."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from mixmae.config import DataConfig
from mixmae.data.draws import generator, seed_everything
from mixmae.data.transforms import Transform
from mixmae.names import DATASETS, resolve

Key = tuple[int, int]
"""(epoch, index of the image in its split)"""


def open_split(data: DataConfig, split: str):
    """The "train" or "val" split: `labels`, `classes`, `image(index)`, `name(index)`."""
    return resolve(DATASETS[data.name])(data, split)


class Samples(Dataset):
    """Transformed images of a split by key, each seeded by (seed, "augment", epoch, index)."""

    def __init__(self, split, transform: Transform, seed: int):
        self.split = split
        self.transform = transform
        self.seed = seed

    def __getitem__(self, key: Key) -> tuple[torch.Tensor, int]:
        epoch, index = key
        seed_everything(self.seed, "augment", epoch, index)
        return self.transform(self.split.image(index)), self.split.labels[index]


def load(samples: Samples, keys: Iterable[list[Key]], workers: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yields (images (B, 3, H, W), labels (B,)) for each list of keys; `workers` 0 loads in this process."""
    if workers == 0:
        return (default_collate([samples[key] for key in batch]) for batch in keys)
    return iter(DataLoader(samples, batch_sampler=keys, num_workers=workers, pin_memory=torch.cuda.is_available()))


def training_keys(indices: list[int], batch: int, seed: int, epochs: int, start: int) -> Iterator[list[Key]]:
    """The batches from step `start` on: full ones only, each epoch in an order of its own (seed, "order", epoch)."""
    steps = len(indices) // batch
    for epoch in range(start // steps, epochs):
        order = np.asarray(indices)[generator(seed, "order", epoch).permutation(len(indices))]
        first = start - epoch * steps if epoch == start // steps else 0
        for step in range(first, steps):
            yield [(epoch, int(index)) for index in order[step * batch : (step + 1) * batch]]


def evaluation_keys(indices: list[int], batch: int) -> Iterator[list[Key]]:
    """Every image once, in order; the last batch may be smaller."""
    for start in range(0, len(indices), batch):
        yield [(0, index) for index in indices[start : start + batch]]
