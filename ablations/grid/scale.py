"""Scales: a declared rule by which every experiment of a grid is shrunk to a size that runs elsewhere (no torch).

A scale is a YAML file under `ablations/scales`; its name is the file's. At a scale, a grid has runs of its own: what is
computed differs, and so do the ids.
"""

from dataclasses import replace
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from mixmae.encoders.families import families
from mixmae.experiment.evaluations import Evaluation, Evaluations
from mixmae.experiment.experiment import Experiment
from mixmae.experiment.reading import load_base, settled
from mixmae.fields.documents import ConfigError, Mark, Value, load, validated
from mixmae.fields.model import Model, Positive

_WITH = {"decoder_width": ("decoder_heads",), "ratio": ("image_size",), "mask_unit": ("image_size",)}
"""What decides, beside a field, whether it is possible."""


class Divisors(Model):
    """What the numbers of a grid are divided by; the quotients are rounded up."""

    epochs: Positive
    """Of pretraining and of evaluations."""
    batch: Positive
    """Images of a step."""
    decoder_depth: Positive
    """Blocks of decoders."""
    decoder_width: Positive
    """Channels of decoders."""
    decoder_heads: Positive
    """Attention heads of decoders."""


class Scale(Model):
    recipe: str
    """Whose image size, data, optimisation and evaluations take the place of the grid's."""
    encoders: dict[str, str]
    """The variant that stands for each family; default: the family's small one."""
    divide: Divisors
    """What the grid's own numbers are divided by."""


def scale_names() -> list[str]:
    return sorted(file.name.removesuffix(".yaml") for file in _files())


def _files() -> list[Traversable]:
    return [file for file in (resources.files("ablations") / "scales").iterdir() if file.name.endswith(".yaml")]


OWN_AT_SCALE = ("epochs", "batch", "warmup_epochs")
"""Fields of a pretraining that a scale makes of the grid's own."""


def recipe_of_scale(name: str) -> tuple[str, Value]:
    """The name and the document of a scale's recipe. Raises ConfigError where there is no such scale."""
    return _document(name)[1:]


@cache
def read_scale(name: str) -> tuple[Scale, Experiment]:
    """The scale and the experiment of its recipe. Raises ConfigError where there is no such scale."""
    scale, _, recipe = _document(name)
    return scale, validated(Experiment, settled(recipe))


@cache
def _document(name: str) -> tuple[Scale, str, Value]:
    if name not in scale_names():
        raise ConfigError([f"no scale {name!r}; write one of {', '.join(scale_names())}"])
    path = Path(str(resources.files("ablations") / "scales" / f"{name}.yaml"))
    document = load(path)
    scale = validated(Scale, document)
    return scale, scale.recipe, load_base(Value(scale.recipe, Mark(str(path), 1, 1)), (path,))


def shrunk(experiment: Experiment, name: str) -> Experiment:
    """The experiment at a scale. Raises pydantic's ValidationError where what comes out is not possible."""
    scale, recipe = read_scale(name)
    by, method, family = dict(scale.divide), dict(experiment.method), experiment.encoder.family
    decoder = {field: _divided(value, by[field]) for field, value in method.items() if field in by}
    return Experiment.model_validate(
        {
            "method": {**method, **decoder},
            "encoder": scale.encoders.get(family, families[family].small),
            "image_size": recipe.image_size,
            "data": recipe.data,
            "pretrain": _pretraining(experiment, recipe, scale.divide),
            "evaluations": Evaluations(tuple(_evaluation(entry, recipe) for entry in experiment.evaluations)),
            "seed": experiment.seed,
            "perturb": experiment.perturb,
        }
    )


def _evaluation(entry: Evaluation, recipe: Experiment) -> Evaluation:
    """The evaluation with the recipe that the scale has for its kind, where there is one."""
    small = next((other.recipe for other in recipe.evaluations if other.kind == entry.kind), entry.recipe)
    return replace(entry, recipe=small)


def made_of(experiment: Experiment, scale_name: str, field: str) -> list[str]:
    """In words what the scale makes of the values that an error about `field` may come from."""
    scale, recipe = read_scale(scale_name)
    by = dict(scale.divide)
    values = dict(experiment.pretrain or ()) | dict(experiment.method)
    words = []
    for name in (field, *_WITH.get(field, ())):
        if name in by and name in values:
            words.append(f"{name} {values[name]} becomes {_divided(values[name], by[name])} (divided by {by[name]})")
        elif name == "image_size" and experiment.image_size != recipe.image_size:
            words.append("image_size {} x {} becomes {} x {}".format(*experiment.image_size, *recipe.image_size))
    return words


def _pretraining(experiment: Experiment, recipe: Experiment, divide: Divisors) -> Any:
    """The recipe's pretraining with the grid's epochs and batch, divided; None where the grid pretrains nothing."""
    own: Any = experiment.pretrain
    small: Any = recipe.pretrain
    if own is None:
        return None
    epochs = _divided(own.epochs, divide.epochs)
    changed = {
        "epochs": epochs,
        "batch": _divided(own.batch, divide.batch),
        "warmup_epochs": small.warmup_epochs / small.epochs * epochs,
        "budget": own.budget,
    }
    return type(small).model_validate({**dict(small), **changed})


def _divided(number: int, by: int) -> int:
    return -(-number // by)
