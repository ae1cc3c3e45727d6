"""One experiment as a user writes it, and the combinations of its fields that cannot run (no torch here).

`mixmae.experiment.jobs` cuts an experiment into stage jobs, whose configs are fully resolved (windows at their image
size, mask unit, chunk) and are what run folders hold and ids are made of.
"""

from collections.abc import Iterator
from math import ceil
from typing import Annotated

from pydantic import Field, model_validator

from mixmae.config import (
    DataConfig,
    DigitsConfig,
    Evaluations,
    MaeConfig,
    MethodConfig,
    MixmaeConfig,
    PretrainRecipe,
    SimmimConfig,
)
from mixmae.encoders.config import EncoderConfig, VitConfig
from mixmae.fields.model import Model, Size, impossible


class Experiment(Model):
    """method + encoder + data + pretrain recipe + evaluations + seed."""

    method: MethodConfig
    encoder: EncoderConfig
    image_size: Size = (224, 224)
    data: DataConfig = DigitsConfig()
    pretrain: PretrainRecipe | None = None
    """Not used by `supervised`, which has no pretraining."""
    evaluations: Evaluations = Evaluations()
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _possible(self):
        for path, what in impossibilities(self):
            raise impossible(path, what)
        return self


# -------------------------------------------------------------------------------------------- impossible combinations


def hidden_units(method: MixmaeConfig | SimmimConfig | MaeConfig, cells: int) -> int:
    """How many of `cells` mask cells are hidden: rounded down (MixMAE), up (SimMIM), by the kept ones (MAE)."""
    if isinstance(method, SimmimConfig):
        return ceil(cells * method.ratio)
    if isinstance(method, MaeConfig):
        return cells - int(cells * (1 - method.ratio))
    return int(cells * method.ratio)


def mask_unit(method: MethodConfig, encoder: EncoderConfig) -> int:
    """Side in pixels of one cell of the method's mask."""
    if isinstance(method, SimmimConfig):
        return method.mask_unit or encoder.unit * (2 if isinstance(encoder, VitConfig) else 1)
    return encoder.unit


def impossibilities(experiment: Experiment) -> Iterator[tuple[tuple, str]]:
    """Yields (path, what is wrong and what to write instead) for every combination of fields that cannot run."""
    method, encoder = experiment.method, experiment.encoder
    yield from _sizes(experiment.image_size, encoder.unit, ("image_size",))
    if finetune := experiment.evaluations.finetune:
        path = ("evaluations", "finetune")
        if finetune.image_size:
            yield from _sizes(finetune.image_size, encoder.unit, (*path, "image_size"))
        if finetune.windows and "windows" not in vars(encoder):
            yield (*path, "windows"), f"{encoder.family} has no windows; leave it out"
        elif finetune.windows and len(finetune.windows) != encoder.stages:
            yield (*path, "windows"), f"{len(finetune.windows)} windows for {encoder.stages} stages; write one a stage"
    if not method.pretrains:
        return
    if experiment.pretrain is None:
        yield (
            ("pretrain",),
            f"{method.name} needs a pretrain recipe; write pretrain: {{epochs: …, batch: …, base_lr: …}}",
        )
        return
    yield from _masks(experiment)
    if isinstance(method, MixmaeConfig):
        if isinstance(encoder, VitConfig):
            yield ("encoder",), "mixmae needs a hierarchical encoder; write one of swin_*, twins_svt_*, pvt_*"
        field = "chunk" if experiment.pretrain.chunk else "batch"
        size = experiment.pretrain.chunk or experiment.pretrain.batch
        if method.fill == "image" and size % method.images:
            what = (
                f"{size} images cannot be mixed {method.images} by {method.images}; write a multiple of {method.images}"
            )
            yield ("pretrain", field), what


def _sizes(size: tuple[int, int], unit: int, path: tuple) -> Iterator[tuple[tuple, str]]:
    for side in size:
        if side % unit or side <= 0:
            near = max(1, round(side / unit)) * unit
            yield path, f"{side} px is not a multiple of the encoder's unit of {unit} px; write {near}"
            return


def _masks(experiment: Experiment) -> Iterator[tuple[tuple, str]]:
    method, encoder = experiment.method, experiment.encoder
    unit = mask_unit(method, encoder)
    height, width = experiment.image_size
    if height % unit or width % unit or unit % encoder.patch_size:
        what = (
            f"{unit} px is not a multiple of the patch ({encoder.patch_size} px) that divides the image "
            f"({height} x {width} px); write {encoder.unit}"
        )
        yield ("method", "mask_unit"), what
        return
    cells = (height // unit) * (width // unit)
    hidden = hidden_units(method, cells)
    least = method.images - 1 if isinstance(method, MixmaeConfig) else 1
    if not least <= hidden < cells:
        hides = f"{method.ratio:g} hides {hidden} of {cells} units"
        what = f"{hides}; write a ratio that hides at least {least} and leaves one"
        yield ("method", "ratio"), what
