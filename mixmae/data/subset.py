"""Deterministic parts of a train split."""

from collections import defaultdict

from mixmae.config import Subset
from mixmae.data.counts import kept
from mixmae.data.draws import generator


def subset(labels: list[int], part: Subset, seed: int) -> list[int]:
    """Sorted indices of `part` of the samples, drawn class by class; smaller parts lie within larger ones.

    A fraction keeps at least one image of every class. Raises ValueError where a class has too few images.
    """
    indices_of = defaultdict(list)
    for index, label in enumerate(labels):
        indices_of[label].append(index)
    chosen = []
    for label, indices in sorted(indices_of.items()):
        order = generator(seed, "subset", label).permutation(len(indices))
        chosen += [indices[place] for place in order[: kept(part, len(indices), label)]]
    return sorted(chosen)
