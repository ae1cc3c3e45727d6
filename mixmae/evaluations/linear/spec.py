"""A linear classifier on frozen features (no torch)."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from mixmae.data.splits import Measure
from mixmae.data.subset import Subset
from mixmae.evaluations.frozen import FrozenStage
from mixmae.experiment.metric import LOSS, TOP1, TOP5
from mixmae.fields.identity import Neutral, Recorded
from mixmae.fields.model import Fraction, Model, NotNegative, Positive, impossible

_OF_STEPS = {
    "epochs": "passes over the features",
    "batch": "features of a step",
    "base_lr": "a learning rate",
    "base_batch": "a batch that base_lr is meant for",
}
"""Fields of an optimiser that takes steps, and what each says."""


def _no_optimum(what: str) -> PydanticCustomError:
    """The error of a field that goes with steps alone, at the optimizer: the field itself may be a base's."""
    return impossible(("optimizer",), f"lbfgs {what}")


class LinearRecipe(Model):
    """A linear classifier on frozen features, extracted once from the central crop and standardised."""

    epochs: Positive | None = 100
    """Passes over the training features; none with lbfgs."""
    batch: Positive | None = 256
    """Features of a step; none with lbfgs."""
    full_batches: Annotated[bool, Neutral(False)] = False
    """Leave out what does not fill the last batch of an epoch; else that batch is smaller."""
    optimizer: Annotated[Literal["adamw", "lars", "lbfgs"], Neutral("adamw")] = "adamw"
    """lbfgs: the optimum itself of the mean cross entropy plus weight_decay / 2 times the sum of the squared weights
    without the bias; it takes neither epochs, batch, base_lr nor base_batch (null where a base has them). lars: as for
    MAE's linear probe, with momentum 0.9 and a trust ratio of 0.001 |w| / |gradient| for the weights; the bias has
    neither trust ratio nor weight decay."""
    base_lr: Annotated[float, Field(gt=0)] | None = 1e-3
    """The learning rate at a batch of base_batch; none with lbfgs."""
    base_batch: Positive | None = 256
    """The batch that base_lr is meant for; none with lbfgs."""
    warmup_epochs: Annotated[NotNegative, Neutral(0.0)] = 0.0
    """Linear from zero, before the cosine."""
    weight_decay: NotNegative = 0.0
    """Of the classifier's weights; above 0 with lbfgs."""
    standardise: Annotated[Literal["train", "batch_norm"], Neutral("train")] = "train"
    """Features less the mean and over the deviation of the train split, or (MAE) of the batch: a BatchNorm without
    scale and shift before the classifier, whose running figures serve val."""
    features: Annotated[Literal["encoder", "pixels"], Neutral("encoder")] = "encoder"
    """"pixels": the raw normalised image, to read the encoder's figure against."""
    eval_crop: Fraction = 0.875
    """Side of the central crop over that of the resized image."""
    measure: Measure = "val"
    """The split that is scored; tuning: what data.tuning sets aside, to choose settings by."""
    subset: Subset = Subset()
    """The part of the training images that is used."""
    predictions: Annotated[bool, Recorded, Neutral(True)] = True
    """Keep what was predicted of each image, by which settings are compared where there is one seed; it changes no
    figure."""

    @model_validator(mode="before")
    @classmethod
    def _an_optimum_has_no_steps(cls, written: Any) -> Any:
        if not isinstance(written, dict) or written.get("optimizer") != "lbfgs":
            return written
        if given := [name for name in _OF_STEPS if written.get(name) is not None]:
            nulls = ", ".join(f"{name}: null" for name in given)
            raise _no_optimum(f"finds the optimum, without steps; write {nulls}")
        return {**written, **dict.fromkeys(_OF_STEPS)}

    @model_validator(mode="after")
    def _steps_or_an_optimum(self) -> Self:
        if self.optimizer != "lbfgs":
            for name in _OF_STEPS:
                if getattr(self, name) is None:
                    raise impossible(
                        (name,), f"is null, which goes with optimizer: lbfgs alone; write {_OF_STEPS[name]}"
                    )
            return self
        if self.full_batches:
            raise _no_optimum("has no batches; write full_batches: false")
        if self.warmup_epochs:
            raise _no_optimum("has no epochs; write warmup_epochs: 0")
        if self.standardise == "batch_norm":
            raise _no_optimum("has no batches; write standardise: train")
        if not self.weight_decay:
            what = "needs a penalty, without which separable features have no optimum"
            raise _no_optimum(f"{what}; write weight_decay: 1.0e-3, or another number above 0")
        return self

    @model_validator(mode="after")
    def _warmup_ends_before_training_does(self) -> Self:
        if self.epochs is not None and self.warmup_epochs >= self.epochs:
            own = "1 epoch is" if self.epochs == 1 else f"{self.epochs} epochs are"
            what = f"{own} no more than the {self.warmup_epochs:g} of warmup_epochs"
            raise impossible(("epochs",), f"{what}; write more, or fewer there")
        return self

    @model_validator(mode="after")
    def _a_batch_has_a_deviation(self) -> Self:
        if self.standardise == "batch_norm" and self.batch == 1:
            raise impossible(("batch",), "standardise: batch_norm needs two images a batch; write 2 or more")
        return self


class Linear(FrozenStage):
    name, label, activity, order = "linear", "linear", "linear probing", 3
    recipe = LinearRecipe
    run = "mixmae.evaluations.linear.run:run"
    metrics = (TOP1, TOP5, LOSS)

    def scored_split(self, recipe: LinearRecipe) -> str:
        return recipe.measure


SPEC = Linear()
