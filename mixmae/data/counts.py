"""How many training images there are, class by class, before anything is loaded (no torch)."""

import gzip
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache

from mixmae.config import DataConfig, DigitsConfig, Subset
from mixmae.data.fingerprint import digits_file
from mixmae.data.image_folder.index import data_root, index
from mixmae.experiment.experiment import Experiment


@lru_cache
def training_counts(data: DataConfig) -> tuple[int, ...]:
    """Images of each class of the train split. Raises FileNotFoundError or ValueError where the data is not there."""
    if isinstance(data, DigitsConfig):
        with gzip.open(digits_file(), "rt") as file:
            classes = Counter(line.rsplit(",", 1)[1].strip() for line in file)
        return tuple(count - count // 5 for _, count in sorted(classes.items()))
    return tuple(len(files) for files in index(data_root(data)).files["train"].values())


def kept(part: Subset, available: int, label: int) -> int:
    """How many of the `available` images of class `label` a subset keeps, at least one. Raises ValueError."""
    if part.fraction is not None:
        return max(1, round(part.fraction * available))
    if part.labels_per_class is None:
        return available
    if part.labels_per_class > available:
        what = f"class {label} has {available} training images; write {available} or fewer"
        raise ValueError(f"labels_per_class: {part.labels_per_class}: {what}")
    return part.labels_per_class


@lru_cache
def training_images(data: DataConfig, part: Subset) -> int:
    """How many training images a subset holds. Raises ValueError where a class has too few."""
    return sum(kept(part, count, label) for label, count in enumerate(training_counts(data)))


def too_few_images(experiment: Experiment) -> Iterator[tuple[tuple, str]]:
    """Yields (path, what is wrong and what to write instead) where a stage needs more images than its subset has."""
    evaluations = experiment.evaluations
    stages = [
        (("evaluations", "finetune"), "batch", evaluations.finetune),
        (("evaluations", "knn"), "k", evaluations.knn),
    ]
    if experiment.method.pretrains:
        stages.insert(0, (("pretrain",), "batch", experiment.pretrain))
    for path, field, recipe in stages:
        if recipe is None:
            continue
        try:
            images = training_images(experiment.data, recipe.subset)
        except ValueError as error:
            yield (*path, "subset", "labels_per_class"), str(error).split(": ", 1)[1]
            continue
        wanted = getattr(recipe, field)
        if wanted > images:
            yield (*path, field), f"{wanted} is more than the {images} training images; write {images} or less"
