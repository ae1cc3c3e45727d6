"""One experiment as a user writes it, and the combinations of its fields that cannot run (no torch).

`mixmae.experiment.jobs` cuts an experiment into stage jobs, whose configs are fully resolved (windows at their image
size, mask unit, chunk) and are what run folders hold and ids are made of.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from mixmae.data.sources import DataConfig, sources
from mixmae.data.splits import TUNING, split_counts
from mixmae.data.subset import training_images
from mixmae.encoders.families import EncoderConfig
from mixmae.experiment.evaluations import Evaluations
from mixmae.experiment.stages import StageSpec, pretraining, size_problems
from mixmae.fields.choice import Deferred
from mixmae.fields.identity import Neutral
from mixmae.fields.model import FieldPath, Model, Size, impossible
from mixmae.methods.methods import MethodConfig, MethodSpec, Problem, methods

PretrainRecipe = Annotated[Model, Deferred(lambda: pretraining().recipe)]


class Experiment(Model):
    """method + encoder + data + pretrain recipe + evaluations + seed."""

    method: MethodConfig
    """How the encoder is pretrained, or what stands in the place of that."""
    encoder: EncoderConfig
    """A variant, a variant and what differs from it, or a family with all its fields."""
    image_size: Size = (224, 224)
    """Height and width in pixels; one number is a square."""
    data: DataConfig = Field(default_factory=lambda: next(iter(sources)).config.model_validate({}))
    """What is trained on and evaluated with."""
    pretrain: PretrainRecipe | None = None
    """How it is pretrained. Not used where nothing is."""
    evaluations: Evaluations = Evaluations()
    """How the encoder is judged, by name."""
    seed: Annotated[int, Field(ge=0)] = 0
    """The seed of every random draw."""
    perturb: Annotated[int, Field(ge=0), Neutral(0)] = 0
    """Above 0: every weight that a run starts training or probing from, and does not load, is moved to the next float32
    number, up or down at random, by other signs for each number and the same for every seed. Runs of 0 to 5 are twins:
    how far their figures lie apart is what rounding alone does to them."""

    @property
    def spec(self) -> MethodSpec:
        return methods[self.method.name]

    @model_validator(mode="after")
    def _possible(self) -> Self:
        for path, what in problems(self):
            raise impossible(path, what)
        return self


def problems(experiment: Experiment) -> Iterator[Problem]:
    """Yields what of an experiment cannot run, by path, and what to write instead."""
    method, encoder, spec = experiment.method, experiment.encoder, experiment.spec
    yield from size_problems(experiment.image_size, encoder.unit, ("image_size",))
    for entry in experiment.evaluations:
        for path, what in entry.spec.problems(entry.recipe, encoder):
            yield ("evaluations", entry.name, *path), what
        if entry.spec.scored_split(entry.recipe) == TUNING and not experiment.data.tuning:
            what = "nothing is set aside for tuning; write data.tuning: 0.1, or measure: val"
            yield ("evaluations", entry.name, "measure"), what
    if not spec.pretrains:
        return
    if experiment.pretrain is None:
        yield (
            ("pretrain",),
            f"{spec.name} needs a pretrain recipe; write pretrain: {{epochs: …, batch: …, base_lr: …}}",
        )
        return
    yield from spec.problems(method, encoder, experiment.image_size)
    recipe: Any = experiment.pretrain
    field, size, together = "chunk" if recipe.chunk else "batch", recipe.images_at_once, spec.images_together(method)
    if size % together:
        what = f"{size} images cannot be mixed {together} by {together}; write a multiple of {together}"
        yield ("pretrain", field), what


def too_few_images(experiment: Experiment) -> Iterator[Problem]:
    """Yields where a stage needs more training images than its subset of the data has."""
    if experiment.data.tuning:
        try:
            split_counts(experiment.data, TUNING)
        except ValueError as error:
            yield ("data", "tuning"), str(error)
            return
    stages: list[tuple[FieldPath, StageSpec, Any]] = []
    if experiment.spec.pretrains:
        stages.append((("pretrain",), pretraining(), experiment.pretrain))
    stages += [(("evaluations", entry.name), entry.spec, entry.recipe) for entry in experiment.evaluations]
    for path, spec, recipe in stages:
        if (least := spec.least_images(recipe)) is None:
            continue
        try:
            images = training_images(experiment.data, recipe.subset)
        except ValueError as error:
            yield (*path, "subset", "labels_per_class"), str(error).split(": ", 1)[1]
            continue
        field, wanted = least
        if wanted > images:
            yield (*path, field), f"{wanted} is more than the {images} training images; write {images} or less"
