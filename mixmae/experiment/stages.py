"""What a stage of an experiment is to the rest of the program, and the stages there are (no torch).

One stage pretrains; all others measure: they are the evaluations.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from mixmae.encoders.families import EncoderModel, families
from mixmae.experiment.metric import Metric
from mixmae.fields.model import FieldPath, Model
from mixmae.fields.specs import Specs
from mixmae.methods.methods import Problem


@dataclass(frozen=True)
class Work:
    """What one job computes. trained, passed: images through a training step, and through the encoder alone."""

    method: str
    """As `mixmae bench step` names what is trained."""
    step: int
    """Multiply-adds of an image's part of a training step."""
    forward: int
    """Multiply-adds of a forward pass of one image."""
    trained: int
    passed: int
    params: int
    """Parameters that are trained; 0 where only something small is."""
    exact: bool
    """Whether the encoder's were counted at this size and with these windows, else scaled by the number of pixels."""

    @property
    def macs(self) -> int:
        return self.trained * self.step + self.passed * self.forward


@dataclass(frozen=True)
class Placed:
    """A stage's recipe around an encoder: the encoder (None where only pixels are looked at) and the image size, as the
    job states them, and the recipe without what they now say."""

    encoder: EncoderModel | None
    image_size: tuple[int, int]
    recipe: Model


class StageSpec(Protocol):
    """A kind of stage job. What it does not say has the answer given here."""

    name: str
    label: str
    activity: str = ""
    """What is done for so many epochs, where that is not the label."""
    order: int = 1000
    version: int = 1
    """Raised by its author where the same config computes something else; part of the id where it is not 1."""
    recipe: type[Model]
    run: str
    """Dotted name of the function that runs a job: called with the session and the job, returns an Outcome."""
    metrics: tuple[Metric, ...]
    """The figures of its result; the first is the main one."""
    measures: bool = True
    """Whether it is an evaluation; the others train an encoder by a method."""
    leaves_encoder: bool = False
    """Whether its final weights hold an encoder that another job can start from."""
    scratch_label: str = "random init"
    """What stands in a method's place where it starts from random weights."""

    @property
    def main(self) -> Metric:
        return self.metrics[0]

    def metric(self, name: str) -> Metric | None:
        return next((metric for metric in self.metrics if metric.name == name), None)

    def placed(self, recipe: Any, encoder: EncoderModel, image_size: tuple[int, int]) -> Placed:
        """encoder, image_size: those of the experiment, or of the run that the job starts from."""
        return Placed(families[encoder.family].resolved(encoder, image_size), image_size, self.resolved_recipe(recipe))

    def resolved_recipe(self, recipe: Any) -> Any:
        """The recipe with everything as numbers that follows from the rest of it."""
        return recipe

    def problems(self, recipe: Any, encoder: EncoderModel) -> Iterator[Problem]:
        """Yields what of recipe and encoder cannot go together, by path in the recipe."""
        yield from ()

    def scored_split(self, recipe: Any) -> str:
        """The split whose images are scored."""
        return "val"

    def least_images(self, recipe: Any) -> tuple[str, int] | None:
        """The field that asks for most training images, and how many; None: any number will do."""
        return None

    def chunks(self, recipe: Any) -> tuple[int, int] | None:
        """(chunks of a batch, images of a batch) of a training whose processes take whole chunks; None: no matter."""
        return None

    def work(self, job: Any) -> Work | None:
        """What a job comes to; None where its encoder is not one of the variants, or there is none."""
        return None


stages: Specs[StageSpec] = Specs("evaluation", StageSpec, "mixmae.evaluations", "mixmae.training", "mixmae.evaluations")


def pretraining() -> StageSpec:
    """The stage that pretrains."""
    return next(spec for spec in stages if not spec.measures)


def evaluation_names() -> list[str]:
    """Names of the kinds of evaluations, installed plug-ins included."""
    return [name for name in stages.names() if (spec := stages.get(name)) is None or spec.measures]


def size_problems(size: tuple[int, int], unit: int, path: FieldPath) -> Iterator[Problem]:
    """Yields that an image size is not a multiple of the encoder's unit."""
    for side in size:
        if side % unit or side <= 0:
            near = max(1, round(side / unit)) * unit
            yield path, f"{side} px is not a multiple of the encoder's unit of {unit} px; write {near}"
            return
