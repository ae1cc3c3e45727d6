"""Random draws as functions of what they are for: (seed, purpose, epoch or step, chunk or sample index).

No draw depends on what was drawn before, so workers, processes and interruptions change nothing and there is no
generator state to save.
"""

import hashlib
import random
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import torch

from mixmae.data.sources import DataModel
from mixmae.data.splits import set_aside
from mixmae.data.subset import Subset, kept


def seed_of(seed: int, purpose: str, *place: int) -> int:
    """Returns the 63-bit seed of a draw; numpy integers and Python's count the same."""
    text = "/".join([str(int(seed)), purpose, *(str(int(number)) for number in place)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def generator(seed: int, purpose: str, *place: int) -> np.random.Generator:
    return np.random.default_rng(seed_of(seed, purpose, *place))


def seed_everything(seed: int, purpose: str, *place: int) -> None:
    """Seeds Python's, numpy's and torch's global generators, which timm's augmentations and layers draw from.

    Done for every sample, hence not by torch.manual_seed, which takes 100 µs to ask for every kind of device.
    """
    number = seed_of(seed, purpose, *place)
    random.seed(number)
    np.random.seed(number % 2**32)
    torch.default_generator.manual_seed(number)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(number)


def subset(labels: list[int], part: Subset, seed: int, copies: int = 1) -> list[int]:
    """Returns the sorted indices of `part` of the samples, drawn class by class; smaller parts lie within larger ones.

    seed: by which they are drawn where `part` has none of its own. copies: consecutive samples that are drawn together.
    A fraction keeps at least one image of every class. Raises ValueError where a class has too few images.
    """
    chosen: list[int] = []
    drawn_by = seed if part.seed is None else part.seed
    for label, groups in _groups(labels, copies):
        order = generator(drawn_by, "subset", label).permutation(len(groups))
        for place in order[: kept(part, len(groups), label)]:
            chosen += groups[place]
    return sorted(chosen)


def tuning_part(labels: list[int], data: DataModel, copies: int) -> list[int]:
    """Returns the sorted indices of the training samples that are set aside for tuning, the same for every seed."""
    aside: list[int] = []
    for label, groups in _groups(labels, copies):
        order = generator(0, "tuning", label).permutation(len(groups))
        for place in order[: set_aside(data, len(groups), label)]:
            aside += groups[place]
    return sorted(aside)


def _groups(labels: list[int], copies: int) -> Iterator[tuple[int, list[list[int]]]]:
    """Yields each class with its indices, in order, as groups of `copies`."""
    indices_of = defaultdict(list)
    for index, label in enumerate(labels):
        indices_of[label].append(index)
    for label, indices in sorted(indices_of.items()):
        yield label, [indices[start : start + copies] for start in range(0, len(indices), copies)]
