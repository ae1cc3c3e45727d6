"""The batches of a training run, of which each process loads its chunks."""

from collections.abc import Iterator

from torch import Tensor

from mixmae.data.batches import Samples, load_batches, training_keys
from mixmae.training.processes import Processes
from mixmae.training.recipe import Optimisation


class Feed:
    """`steps_per_epoch` full batches, each cut, in order, into `parts` chunks; `chunks` are this process's, by number.

    samples, indices: the images trained on. recipe: batch and chunk. Raises ValueError where the images are fewer than
    a batch, or the chunks fewer than the processes.
    """

    def __init__(self, samples: Samples, indices: list[int], recipe: Optimisation, seed: int, processes: Processes):
        self.samples, self._indices, self._seed = samples, indices, seed
        self.batch, self.epochs, self.chunk = recipe.batch, recipe.epochs, recipe.images_at_once
        self._processes = processes
        self.steps_per_epoch = _full_batches(len(indices), recipe.batch)
        self.parts = recipe.batch // self.chunk
        self.chunks = processes.share(range(self.parts))
        if self.parts < processes.count:
            what = f"a batch of {self.batch} images is {self.parts} chunks of {self.chunk}, fewer than the processes"
            most = self.batch // processes.count
            raise ValueError(f"{what} ({processes.count}); start fewer, or write chunk: {most} or a smaller divisor")

    def batches(self, start: int, reshuffles: int, workers: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields this process's part of every batch from step `start` on: (images (b, 3, H, W), labels (b,)), where b
        images are whole chunks. Raises what `load_batches` raises."""
        self.samples.reshuffles = reshuffles
        part = slice(self.chunks.start * self.chunk, self.chunks.stop * self.chunk)
        return load_batches(self.samples, (keys[part] for keys in self._keys(start, reshuffles)), workers)

    def names(self, step: int, reshuffles: int) -> list[str]:
        """Returns the names of the images planned for the whole batch of a step."""
        return [self.samples.split.name(index) for _, index in next(self._keys(step, reshuffles))]

    def exchange(self) -> None:
        """Counts the unreadable images that any rank has met. Raises Unreadable when they are too many."""
        from_all = self._processes.all_gather_objects(self.samples.fresh)
        self.samples.fresh = {}
        for unreadable in from_all:
            self.samples.note(unreadable)
        self.samples.fresh = {}

    def _keys(self, start: int, reshuffles: int) -> Iterator[list]:
        return training_keys(self._indices, self.batch, self._seed, self.epochs, start, reshuffles)


def _full_batches(images: int, batch: int) -> int:
    if images < batch:
        raise ValueError(f"{images} training images are fewer than one batch of {batch}; write batch: {images} or less")
    return images // batch
