"""Multiply-adds and parameters of stage jobs, from the stored costs of the encoders (no torch).

Of a training step 3 × the forward pass: once forward, and backward for the inputs and for the weights. Of the forward
pass of an image:

* MixMAE: the encoder on every mixed image, of which there are as many as images, with plain attention's multiply-adds
  (masked attention has fewer); the decoder on all units once for each image that is reconstructed from it.
* MAE: the encoder's multiply-adds × the share of units that stay (attention has fewer still); the decoder once.
* SimMIM: the encoder on the whole image, and a linear layer.
* Classifying: the encoder and a linear layer.

Left out: norms, activations, softmax, the loss, the optimiser, and what activation checkpointing computes again.
"""

from dataclasses import dataclass
from functools import cache

from mixmae.config import ImageFolderConfig, MaeConfig, MixmaeConfig, SimmimConfig
from mixmae.cost.encoders import resolved_encoder, rows
from mixmae.data.counts import training_counts, training_images
from mixmae.data.image_folder.index import data_root, index
from mixmae.experiment.experiment import hidden_units
from mixmae.experiment.jobs import FinetuneJob, PretrainJob

LEFT_OUT = (
    "queueing, start-up, data loading, saving, the optimiser's step, the time that processes wait for each other, "
    "the linear classifiers of linear jobs and the neighbour search of knn jobs"
)
"""What no estimate holds."""
DIGITS = 1797
"""Of scikit-learn, both splits together."""


@dataclass(frozen=True)
class Encoder:
    """Of an encoder at one image size, without head: multiply-adds of an image's forward pass, and parameters.
    exact: counted at this size and with these windows, else scaled from the counted size by the number of pixels."""

    forward: int
    params: int
    exact: bool


@dataclass(frozen=True)
class Work:
    """What one job computes. trained, passed: images through a training step, and through the encoder alone."""

    method: str
    """As `mixmae bench step` names what is trained: a method, or supervised for classifying."""
    step: int
    """Multiply-adds of an image's part of a training step."""
    forward: int
    """Of an image that is not trained on."""
    trained: int
    passed: int
    params: int
    """That are trained: 0 where nothing that is large is."""
    exact: bool

    @property
    def macs(self) -> int:
        return self.trained * self.step + self.passed * self.forward


def work(job) -> Work | None:
    """What a stage job comes to; None where its encoder is not one of the table of variants, or there is none."""
    encoder = encoder_costs(job.encoder, job.image_size) if job.encoder else None
    if encoder is None:
        return None
    if isinstance(job, PretrainJob):
        params = encoder.params + _pretraining_head(job)[1]
        return Work(job.method.name, pretraining_step(job), 0, _trained(job), 0, params, encoder.exact)
    width, classes = _width(job.encoder), len(training_counts(job.data))
    forward = encoder.forward + width * classes
    if isinstance(job, FinetuneJob):
        passed = job.recipe.epochs * validation_images(job.data)
        params = encoder.params + (width + 1) * classes
        return Work("supervised", 3 * forward, forward, _trained(job), passed, params, encoder.exact)
    passed = training_images(job.data, job.recipe.subset) + validation_images(job.data)
    return Work("supervised", 3 * forward, encoder.forward, 0, passed, 0, encoder.exact)


def pretraining_step(job: PretrainJob) -> int | None:
    """Multiply-adds of an image's part of a step, whatever the data; None as of `work`."""
    encoder = encoder_costs(job.encoder, job.image_size)
    return encoder and 3 * (_seen(job, encoder.forward) + _pretraining_head(job)[0])


def _trained(job) -> int:
    batch = job.recipe.batch
    return job.recipe.epochs * (training_images(job.data, job.recipe.subset) // batch * batch)


@cache
def validation_images(data) -> int:
    if isinstance(data, ImageFolderConfig):
        return sum(map(len, index(data_root(data)).files["val"].values()))
    return DIGITS - sum(training_counts(data))


# ------------------------------------------------------------------------------------------------------------- encoders


@cache
def encoder_costs(encoder, image_size: tuple[int, int]) -> Encoder | None:
    """None where no variant of the table has the encoder's shape."""
    row = _rows().get(encoder.name)
    if row is None or not _same(encoder, resolved_encoder(encoder.name, row["image_size"]), _SHAPE):
        return None
    counted = [(row, resolved_encoder(encoder.name, row["image_size"]))]
    for other in row["other_sizes"]:
        windows = {"windows": tuple(other["windows"])}
        counted.append((other, resolved_encoder(encoder.name, other["image_size"]).model_copy(update=windows)))
    for found, config in counted:
        if image_size == (found["image_size"],) * 2 and _same(encoder, config, ("windows", "sr_ratios", "shift")):
            return Encoder(found["macs"], found["params"], True)
    pixels = image_size[0] * image_size[1]
    found = min((found for found, _ in counted), key=lambda found: abs(found["image_size"] ** 2 - pixels))
    return Encoder(round(found["macs"] * pixels / found["image_size"] ** 2), found["params"], False)


_SHAPE = ("family", "patch_size", "widths", "width", "depths", "depth", "heads", "mlp_ratios", "mlp_ratio")


def _same(one, other, fields: tuple[str, ...]) -> bool:
    return all(vars(one).get(field) == vars(other).get(field) for field in fields)


@cache
def _rows() -> dict[str, dict]:
    return {row["name"]: row for row in rows()}


def _width(encoder) -> int:
    return encoder.width if encoder.family == "vit" else encoder.widths[-1]


# ---------------------------------------------------------------------------------------------------------- pretraining


def _units(job: PretrainJob) -> int:
    return (job.image_size[0] // job.encoder.unit) * (job.image_size[1] // job.encoder.unit)


def _kept(job: PretrainJob) -> int:
    """Units that enter the encoder."""
    return _units(job) - (hidden_units(job.method, _units(job)) if isinstance(job.method, MaeConfig) else 0)


def _seen(job: PretrainJob, forward: int) -> int:
    return round(forward * _kept(job) / _units(job))


def _pretraining_head(job: PretrainJob) -> tuple[int, int]:
    """(multiply-adds of an image, parameters) of what predicts pixels."""
    units, width, outputs = _units(job), _width(job.encoder), job.encoder.unit**2 * 3
    if isinstance(job.method, SimmimConfig):
        return units * width * outputs, width * outputs + outputs
    method, class_token = job.method, int(job.encoder.family == "vit")
    tokens, inner = units + class_token, method.decoder_width
    decodings = method.images if isinstance(method, MixmaeConfig) and method.dual else 1
    hidden = method.decoder_mlp_ratio * inner
    block = tokens * (4 * inner * inner + 2 * inner * hidden) + 2 * tokens * tokens * inner
    embedded = (_kept(job) + class_token) * width * inner
    macs = embedded + decodings * (method.decoder_depth * block + tokens * inner * outputs)
    block_params = 4 * inner * inner + 4 * inner + 2 * inner * hidden + hidden + inner + 4 * inner
    params = (width + 1) * inner + inner + method.decoder_depth * block_params + 2 * inner + (inner + 1) * outputs
    return macs, params
