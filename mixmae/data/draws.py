"""Random draws as functions of what they are for: (seed, purpose, epoch or step, chunk or sample index).

No draw depends on what was drawn before, so workers, processes and interruptions change nothing and there is no
generator state to save.
"""

import hashlib
import random
from collections import defaultdict

import numpy as np
import torch

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


def subset(labels: list[int], part: Subset, seed: int) -> list[int]:
    """Returns the sorted indices of `part` of the samples, drawn class by class; smaller parts lie within larger ones.

    seed: by which they are drawn where `part` has none of its own. A fraction keeps at least one image of every class.
    Raises ValueError where a class has too few images.
    """
    indices_of = defaultdict(list)
    for index, label in enumerate(labels):
        indices_of[label].append(index)
    chosen = []
    drawn_by = seed if part.seed is None else part.seed
    for label, indices in sorted(indices_of.items()):
        order = generator(drawn_by, "subset", label).permutation(len(indices))
        chosen += [indices[place] for place in order[: kept(part, len(indices), label)]]
    return sorted(chosen)
