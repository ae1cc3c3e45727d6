"""Multiply-adds and parameters of stage jobs (no torch).

A training step counts as 3 × the forward pass: forward, and backward for the inputs and for the weights. The forward
pass of one image counts as follows:

* Pretraining: the encoder on the units that the method lets in, with the groups that really attend together (the mean
  over MASKS masks: windows are cut otherwise by each), and what predicts pixels: MixMAE's and MAE's decoder, once for
  each image that is reconstructed, SimMIM's linear layer. MixMAE encodes as many mixed images as there are images.
* Classification: the stored costs of the encoder with plain attention, and a linear layer.

Norms, activations, softmax, the loss, the optimiser and the recomputation of activation checkpointing are left out.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from mixmae.cost.encoders import resolved_encoder, rows
from mixmae.data.sources import DataModel
from mixmae.data.splits import split_counts
from mixmae.data.subset import training_images
from mixmae.encoders.families import EncoderModel, families
from mixmae.experiment.stages import Work
from mixmae.methods.methods import MethodModel, from_scratch, methods

MASKS = 64
"""Masks that the mean is taken over, the same ones for every config."""
LEFT_OUT = (
    "queueing, start-up, data loading, saving, the optimiser's step, the time that processes wait for each other, "
    "the linear classifiers of linear jobs and the neighbour search of knn jobs"
)
"""What estimates leave out, as they say themselves."""


@dataclass(frozen=True)
class Costs:
    """The costs of an encoder at one image size, with or without head. forward: multiply-adds of one image's forward
    pass. params: number of parameters. exact: whether they were counted at this size and with these windows, else they
    were scaled from the nearest counted size by the number of pixels."""

    forward: int
    params: int
    exact: bool


# ------------------------------------------------------------------------------------------------------------ encoders


@cache
def encoder_costs(encoder: EncoderModel, image_size: tuple[int, int]) -> Costs | None:
    """Returns the costs without head; None where no variant of the table has the encoder's shape."""
    row = _rows().get(encoder.name)
    if row is None or encoder.shape != (usual := resolved_encoder(encoder.name, row["image_size"])).shape:
        return None
    counted = [(row, usual)]
    for other in row["other_sizes"]:
        resolved = resolved_encoder(encoder.name, other["image_size"])
        counted.append((other, families[encoder.family].with_windows(resolved, tuple(other["windows"]))))
    for size, config in counted:
        if image_size == (size["image_size"],) * 2 and encoder.attends == config.attends:
            return Costs(size["macs"], size["params"], True)
    pixels = image_size[0] * image_size[1]
    nearest = min((size for size, _ in counted), key=lambda size: abs(size["image_size"] ** 2 - pixels))
    return Costs(round(nearest["macs"] * pixels / nearest["image_size"] ** 2), nearest["params"], False)


@cache
def _rows() -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in rows()}


def classifier_costs(job: Any) -> Costs | None:
    """Returns the costs with a linear head for the classes of the job's data; None without an encoder, or where
    `encoder_costs` knows none."""
    costs = encoder_costs(job.encoder, job.image_size) if job.encoder else None
    if costs is None:
        return None
    width, classes = job.encoder.out_width, len(split_counts(job.data, "train"))
    return Costs(costs.forward + width * classes, costs.params + (width + 1) * classes, costs.exact)


def frozen_work(job: Any) -> Work | None:
    """Returns the work of an evaluation that passes both splits once through a frozen encoder; None where its costs are
    not known."""
    costs, head = encoder_costs(job.encoder, job.image_size) if job.encoder else None, classifier_costs(job)
    if costs is None or head is None:
        return None
    passed = training_images(job.data, job.recipe.subset) + split_images(job.data, job.scored_split)
    return Work(from_scratch().name, 3 * head.forward, costs.forward, 0, passed, 0, costs.exact)


# --------------------------------------------------------------------------------------------------------- pretraining


def pretraining_step(job: Any) -> int | None:
    """Returns the multiply-adds of a pretraining step for one of its images; None where the family counts none."""
    return _step(job.method, job.encoder, job.image_size)


@cache
def _step(method: MethodModel, encoder: EncoderModel, image_size: tuple[int, int]) -> int | None:
    spec, family, rng = methods[method.name], families[encoder.family], np.random.default_rng(0)
    units = (image_size[0] // encoder.unit) * (image_size[1] // encoder.unit)
    total = 0
    for _ in range(MASKS):
        forward = family.multiply_adds(encoder, image_size, spec.sources(method, units, rng))
        if forward is None:
            return None
        total += forward
    return 3 * (round(total / MASKS) + spec.head(method, encoder, units)[0])


# -------------------------------------------------------------------------------------------------------------- images


def trained_images(job: Any) -> int:
    """Returns how many images pass through training steps over all epochs, counting full batches only."""
    batch = job.recipe.batch
    return job.recipe.epochs * (training_images(job.data, job.recipe.subset) // batch * batch)


def split_images(data: DataModel, split: str) -> int:
    return sum(split_counts(data, split))
