"""Batches of a split: every sample is a function of (seed, epoch, index), whichever process loads it.

Images that cannot be read are found where they are loaded and reported with the batch they belong to, so that what
happens does not depend on the number of workers. In training such an image is replaced by the next readable one of
the epoch's order (the first after the last), under an augmentation of the replaced one's seed: batches keep their size.
In evaluation it is left out. Either way it is counted, and a split with more than `bad_files` of them fails the run.
"""

import logging
import multiprocessing
import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, default_collate, get_worker_info

from mixmae.data.draws import generator, seed_everything, subset, tuning_part
from mixmae.data.reading import Unreadable
from mixmae.data.sources import DataModel, sources
from mixmae.data.splits import source_split, split_copies
from mixmae.data.subset import Subset
from mixmae.data.transforms import Transform
from mixmae.fields.specs import resolve

log = logging.getLogger(__name__)

SampleKey = tuple[int | None, int]
"""(epoch, index of the image in its split); None for the epoch: an evaluation"""
Loaded = tuple[list[torch.Tensor] | None, dict[int, str]]
"""(images and labels, or None where none could be read; what is wrong with the unreadable ones, by index)"""
FILES_NAMED = 10
"""Unreadable files in an error message; the log names all."""


def open_split(data: DataModel, split: str) -> Any:
    """Opens "train", "tuning" or "val": `labels`, `classes`, `image(index)`, `name(index)`; where `image` can raise
    Unreadable, `bad_files` too."""
    opened = resolve(sources[data.name].source)(data, source_split(split))
    if split == "val" or (split == "train" and not data.tuning):
        return opened
    aside = tuning_part(opened.labels, data, split_copies(data, split))
    if split == "train":
        aside = sorted(set(range(len(opened.labels))) - set(aside))
    return Part(opened, aside)


def subset_of(data: DataModel, split: Any, part: Subset, seed: int) -> list[int]:
    """Returns the sorted indices of a subset of the opened "train" split. Raises ValueError as `subset` does."""
    return subset(split.labels, part, seed, split_copies(data, "train"))


class Part:
    """The images of a split at `indices`."""

    def __init__(self, split: Any, indices: list[int]):
        self._split, self._indices = split, indices
        self.classes = split.classes
        self.labels = [split.labels[index] for index in indices]

    def __len__(self) -> int:
        return len(self._indices)

    @property
    def bad_files(self) -> int:
        return self._split.bad_files

    def image(self, index: int) -> Any:
        return self._split.image(self._indices[index])

    def name(self, index: int) -> str:
        return self._split.name(self._indices[index])


class Samples(Dataset):
    """Transformed images of a split by key, each seeded by (seed, "augment", epoch, index).

    indices: the images trained on, from which an unreadable one is replaced; without them an unreadable image in
    training is an error. `reshuffles`: as for `epoch_order`. `unreadable` holds, by index, what is wrong with the
    images that `load_batches` could not read so far; `fresh`, those of them added since `fresh` was last emptied.
    """

    def __init__(self, split, transform: Transform, seed: int, indices: list[int] | None = None):
        self.split = split
        self.transform = transform
        self.seed = seed
        self.indices = indices
        self.reshuffles = 0
        self.unreadable: dict[int, str] = {}
        self.fresh: dict[int, str] = {}
        self._at: torch.Tensor | None = None

    def __getitem__(self, key: SampleKey) -> tuple[torch.Tensor, int]:
        """Loads the sample itself, without replacement. Raises Unreadable."""
        return self._sample(key, key[1])

    def __getitems__(self, keys: list[SampleKey]) -> Loaded:
        """Loads the batch of these keys; returns it and the unreadable images among them. Raises Unreadable in training
        where nothing takes an image's place."""
        batch: list[tuple[torch.Tensor, int]] = []
        unreadable: dict[int, str] = {}
        for key in keys:
            sample = self._readable(key, unreadable)
            if sample is not None:
                batch.append(sample)
            elif len(unreadable) > self.split.bad_files:
                return None, unreadable
        return (default_collate(batch) if batch else None), unreadable

    def note(self, unreadable: dict[int, str]) -> None:
        """Counts unreadable images. Raises Unreadable, naming them, when they are more than the split may hold."""
        for index in unreadable.keys() - self.unreadable.keys():
            log.warning("%s", unreadable[index])
            self.fresh[index] = unreadable[index]
        self.unreadable |= unreadable
        limit = self.split.bad_files if self.unreadable else 0
        if len(self.unreadable) > limit:
            reasons = list(self.unreadable.values())
            more = f"; and {len(reasons) - FILES_NAMED} more" if len(reasons) > FILES_NAMED else ""
            what = f"more than data.bad_files: {limit} allows; repair or remove them, or write a larger number there"
            raise Unreadable(f"{'; '.join(reasons[:FILES_NAMED])}{more}: {what}")

    def follow(self, workers: int) -> None:
        """Makes each loading process record (its pid, the index it loads) from now on."""
        self._at = torch.full((workers, 2), -1, dtype=torch.int64).share_memory_()

    def lost(self) -> list[str]:
        """Returns the names of the images that loading processes were reading when they died."""
        assert self._at is not None, "`follow` was called"
        alive = {process.pid for process in multiprocessing.active_children()}
        return [self.split.name(index) for pid, index in self._at.tolist() if pid >= 0 and pid not in alive]

    def _readable(self, key: SampleKey, unreadable: dict[int, str]) -> tuple[torch.Tensor, int] | None:
        """Loads the image of `key` or its replacement, and adds those that cannot be read to `unreadable`.

        Returns None where an evaluation leaves the image out, and where more are unreadable than may be.
        """
        epoch, index = key
        for candidate in self._from(epoch, index):
            try:
                return self._sample(key, candidate)
            except Unreadable as error:
                unreadable[candidate] = str(error)
                if epoch is None or len(unreadable) > self.split.bad_files:
                    return None
        raise Unreadable(f"{unreadable[index]}: there is no readable image to take its place")

    def _from(self, epoch: int | None, index: int) -> Iterator[int]:
        """Yields the image itself, then those after it in the epoch's order, round to the one before it."""
        yield index
        if self.indices is not None and epoch is not None:
            order = epoch_order(self.indices, self.seed, epoch, self.reshuffles)
            place = int(np.flatnonzero(order == index)[0])
            yield from (int(other) for other in np.roll(order, -place)[1:])

    def _sample(self, key: SampleKey, index: int) -> tuple[torch.Tensor, int]:
        """Loads the image at `index` under the seed of `key`. Errors name the file."""
        if self._at is not None and (worker := get_worker_info()):
            self._at[worker.id] = torch.tensor([os.getpid(), index])
        try:
            image = self.split.image(index)
            seed_everything(self.seed, "augment", key[0] or 0, key[1])
            return self.transform(image), self.split.labels[index]
        except (Unreadable, OSError):
            raise
        except Exception as error:
            raise RuntimeError(f"{self.split.name(index)}: {type(error).__name__}: {error}") from error


def load_batches(
    samples: Samples, keys: Iterable[list[SampleKey]], workers: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yields (images (B, 3, H, W), labels (B,)) for each list of keys; `workers` 0 loads in this process.

    Raises Unreadable when more images cannot be read than the split may hold, and RuntimeError naming the image where
    loading one fails otherwise or the process that loads it dies.
    """
    for batch, unreadable in _loaded_batches(samples, keys, workers):
        samples.note(unreadable)
        if batch is not None:
            images, labels = batch
            yield images, labels


def _loaded_batches(samples: Samples, keys: Iterable[list[SampleKey]], workers: int) -> Iterator[Loaded]:
    if workers == 0:
        yield from (samples.__getitems__(batch) for batch in keys)
        return
    samples.follow(workers)
    try:
        yield from DataLoader(
            samples,
            batch_sampler=keys,
            num_workers=workers,
            collate_fn=_as_it_is,
            pin_memory=torch.cuda.is_available(),
        )
    except (RuntimeError, GeneratorExit) as error:
        # The signal that a loading process died is also raised outside of this function: then there is only the log.
        if not (lost := samples.lost()):
            raise
        what = f"a data loading process died at {', '.join(lost)}"
        log.error("%s", what)
        if isinstance(error, GeneratorExit):
            raise
        raise RuntimeError(f"{what}: {error}") from error


def _as_it_is(batch: Any) -> Loaded:
    """Takes the place of collating, which `Samples.__getitems__` has done."""
    return batch


def epoch_order(indices: list[int], seed: int, epoch: int, reshuffles: int = 0) -> np.ndarray:
    """Returns the training images in an epoch's order, drawn by (seed, "order", epoch) and anew for each reshuffle."""
    again = (reshuffles,) if reshuffles else ()
    return np.asarray(indices)[generator(seed, "order", epoch, *again).permutation(len(indices))]


def training_keys(
    indices: list[int], batch: int, seed: int, epochs: int, start: int, reshuffles: int = 0
) -> Iterator[list[SampleKey]]:
    """Yields the batches from step `start` on: full ones only, each epoch in its own order."""
    steps = len(indices) // batch
    for epoch in range(start // steps, epochs):
        order = epoch_order(indices, seed, epoch, reshuffles)
        first = start - epoch * steps if epoch == start // steps else 0
        for step in range(first, steps):
            yield [(epoch, int(index)) for index in order[step * batch : (step + 1) * batch]]


def evaluation_keys(indices: list[int], batch: int) -> Iterator[list[SampleKey]]:
    """Yields every image once, in order; the last batch may be smaller."""
    for start in range(0, len(indices), batch):
        yield [(None, index) for index in indices[start : start + batch]]
