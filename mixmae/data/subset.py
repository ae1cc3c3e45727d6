"""Deterministic parts of a train split."""

from collections import defaultdict

from mixmae.config import Subset
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
        chosen += [indices[place] for place in order[: _count(part, len(indices), label)]]
    return sorted(chosen)


def _count(part: Subset, available: int, label: int) -> int:
    if part.fraction is not None:
        return max(1, round(part.fraction * available))
    if part.labels_per_class is None:
        return available
    if part.labels_per_class > available:
        what = f"class {label} has {available} training images; write {available} or fewer"
        raise ValueError(f"labels_per_class: {part.labels_per_class}: {what}")
    return part.labels_per_class
