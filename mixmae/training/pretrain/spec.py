"""Masked image modelling on the train split (no torch)."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from mixmae.data.subset import Subset
from mixmae.experiment.metric import LOSS
from mixmae.experiment.stages import StageSpec, Work
from mixmae.fields.identity import Neutral, Recorded
from mixmae.fields.model import Betas, Model, Positive, Range, impossible
from mixmae.training.recipe import Optimisation


class Budget(Model):
    """What pretrainings may cost, alike for several methods. One of multiply_adds, epochs_of and hours."""

    multiply_adds: Annotated[float, Field(gt=0)] | None = None
    """Of all steps, forward and backward."""
    epochs_of: str | None = None
    """A method: the multiply-adds of its pretraining of the same encoder on the same data, for the `epochs` that are
    written."""
    hours: Annotated[float, Field(gt=0)] | None = None
    """Of steps at the measured speed."""
    measured_on: str | None = None
    """The path, from this file's folder, of a record of these steps, which `mixmae bench grid` writes. Hours need it;
    of other budgets it tells what memory a step takes."""

    @property
    def is_absolute(self) -> bool:
        """Whether `epochs` are no part of it."""
        return self.epochs_of is None

    @model_validator(mode="after")
    def _one_of_three(self) -> Self:
        said = [name for name in ("multiply_adds", "epochs_of", "hours") if dict(self)[name] is not None]
        if len(said) != 1:
            found = f"found {' and '.join(said)}" if said else "found none"
            raise impossible((), f"expected one of multiply_adds, epochs_of and hours, {found}; write one")
        if self.hours is not None and self.measured_on is None:
            raise impossible(("measured_on",), "hours need it; write the path of a record, or another budget")
        return self


class PretrainRecipe(Optimisation):
    """How an encoder is pretrained."""

    epochs: Positive
    """Passes over the training images. With a budget, the length that warm-up and decay_epochs are shares of, and which
    `epochs_of` means."""
    budget: Annotated[Budget | None, Recorded] = None
    """What the pretraining may cost, in place of epochs: when planned, it becomes whole epochs, rounded down. A run is
    known by these."""

    betas: Betas = (0.9, 0.95)
    """AdamW's two decay rates."""
    chunk: Positive | None = None
    """Consecutive images of a batch that share mask and mixing partners; default: the batch."""
    crop_scale: Range = (0.2, 1.0)
    """Least and largest share of the image that a random crop takes."""
    crop_ratio: Range = (3 / 4, 4 / 3)
    """Least and largest width over height of a crop."""
    interpolation: Annotated[Literal["bicubic", "bilinear"], Neutral("bicubic")] = "bicubic"
    """How crops are resized; SimMIM's pretraining does it bilinearly."""
    flip: bool = True
    """Whether half of the images are flipped horizontally."""
    subset: Subset = Subset()
    """The part of the training images that is used."""

    def lasting(self, epochs: int) -> Self:
        """Returns the recipe for so many epochs, warm-up and decays keeping their share, without a budget."""
        if epochs == self.epochs:
            return self.model_copy(update={"budget": None})

        def share(length: float) -> float:
            return length * epochs / self.epochs

        changed = {
            "budget": None,
            "epochs": epochs,
            "warmup_epochs": share(self.warmup_epochs),
            "warmup_steps": self.warmup_steps and max(1, round(share(self.warmup_steps))),
            "decay_epochs": tuple(dict.fromkeys(max(1, round(share(after))) for after in self.decay_epochs)),
        }
        return type(self).model_validate({**dict(self), **changed})


class Pretrain(StageSpec):
    name, label, order = "pretrain", "pretraining", 1
    recipe = PretrainRecipe
    run = "mixmae.training.pretrain.run:run"
    metrics = (LOSS,)
    measures = False
    leaves_encoder = True

    def resolved_recipe(self, recipe: PretrainRecipe) -> PretrainRecipe:
        """Raises ValueError for a budget: a plan makes epochs of it."""
        if recipe.budget is not None:
            raise ValueError("a budget becomes epochs where a plan is made; write epochs, or plan it")
        return recipe.model_copy(update={"chunk": recipe.images_at_once})

    def least_images(self, recipe: PretrainRecipe) -> tuple[str, int]:
        return "batch", recipe.batch

    def chunks(self, recipe: PretrainRecipe) -> tuple[int, int]:
        return recipe.chunks, recipe.batch

    def work(self, job: Any) -> Work | None:
        from mixmae.cost.multiply_adds import encoder_costs, pretraining_step, trained_images
        from mixmae.methods.methods import methods

        encoder, step = encoder_costs(job.encoder, job.image_size), pretraining_step(job)
        if encoder is None or step is None:
            return None
        units = (job.image_size[0] // job.encoder.unit) * (job.image_size[1] // job.encoder.unit)
        params = encoder.params + methods[job.method.name].head(job.method, job.encoder, units)[1]
        return Work(job.method.name, step, 0, trained_images(job), 0, params, exact=True)


SPEC = Pretrain()
