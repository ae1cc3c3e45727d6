"""A linear classifier on frozen features (no torch)."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from mixmae.data.splits import Measure
from mixmae.data.subset import Subset
from mixmae.experiment.metric import LOSS, TOP1, TOP5
from mixmae.experiment.stages import StageSpec, Work
from mixmae.fields.identity import Neutral
from mixmae.fields.model import Fraction, Model, NotNegative, Positive, impossible


class LinearRecipe(Model):
    """A linear classifier on frozen features, extracted once from the central crop and standardised."""

    epochs: Positive = 100
    """Passes over the training features."""
    batch: Positive = 256
    """Features of a step."""
    full_batches: Annotated[bool, Neutral(False)] = False
    """Leave out what does not fill the last batch of an epoch; else that batch is smaller."""
    optimizer: Annotated[Literal["adamw", "lars"], Neutral("adamw")] = "adamw"
    """lars: as for MAE's linear probe, with momentum 0.9 and a trust ratio of 0.001 |w| / |gradient| for the weights;
    the bias has neither trust ratio nor weight decay."""
    base_lr: Annotated[float, Field(gt=0)] = 1e-3
    """The learning rate at a batch of base_batch."""
    base_batch: Positive = 256
    """The batch that base_lr is meant for."""
    warmup_epochs: Annotated[NotNegative, Neutral(0.0)] = 0.0
    """Linear from zero, before the cosine."""
    weight_decay: NotNegative = 0.0
    """Of the classifier's weights."""
    standardise: Annotated[Literal["train", "batch_norm"], Neutral("train")] = "train"
    """Features less the mean and over the deviation of the train split, or (MAE) of the batch: a BatchNorm without
    scale and shift before the classifier, whose running figures serve val."""
    eval_crop: Fraction = 0.875
    """Side of the central crop over that of the resized image."""
    measure: Measure = "val"
    """The split that is scored; tuning: what data.tuning sets aside, to choose settings by."""
    subset: Subset = Subset()
    """The part of the training images that is used."""

    @model_validator(mode="after")
    def _warmup_ends_before_training_does(self) -> Self:
        if self.warmup_epochs >= self.epochs:
            what = f"{self.epochs} epochs are no more than the {self.warmup_epochs:g} of warmup_epochs"
            raise impossible(("epochs",), f"{what}; write more, or fewer there")
        return self

    @model_validator(mode="after")
    def _a_batch_has_a_deviation(self) -> Self:
        if self.standardise == "batch_norm" and self.batch < 2:
            raise impossible(("batch",), "standardise: batch_norm needs two images a batch; write 2 or more")
        return self


class Linear(StageSpec):
    name, label, activity, order = "linear", "linear", "linear probing", 3
    recipe = LinearRecipe
    run = "mixmae.evaluations.linear.run:run"
    metrics = (TOP1, TOP5, LOSS)

    def scored_split(self, recipe: LinearRecipe) -> str:
        return recipe.measure

    def work(self, job: Any) -> Work | None:
        from mixmae.cost.multiply_adds import frozen_work

        return frozen_work(job)


SPEC = Linear()
