"""A linear classifier on frozen features (no torch)."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from mixmae.data.splits import Measure
from mixmae.data.subset import Subset
from mixmae.evaluations.frozen import FrozenStage
from mixmae.experiment.metric import LOSS, TOP1, TOP5
from mixmae.fields.identity import Neutral
from mixmae.fields.model import Fraction, Model, NotNegative, Positive, impossible

_OF_STEPS = {
    "epochs": "passes over the features",
    "batch": "features of a step",
    "base_lr": "a learning rate",
    "base_batch": "a batch that base_lr is meant for",
}
"""Fields of an optimiser that takes steps, and what each says."""


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

    @model_validator(mode="before")
    @classmethod
    def _an_optimum_has_no_steps(cls, written: Any) -> Any:
        if not isinstance(written, dict) or written.get("optimizer") != "lbfgs":
            return written
        for name in _OF_STEPS:
            if written.get(name) is not None:
                what = f"optimizer: lbfgs finds the optimum, without {_OF_STEPS[name]}; leave it out, or write null"
                raise impossible((name,), what)
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
            raise impossible(("full_batches",), "optimizer: lbfgs has no batches; write false")
        if self.warmup_epochs:
            raise impossible(("warmup_epochs",), "optimizer: lbfgs has no epochs; write 0")
        if self.standardise == "batch_norm":
            raise impossible(("standardise",), "optimizer: lbfgs has no batches; write train")
        if not self.weight_decay:
            what = "optimizer: lbfgs needs a penalty, without which separable features have no optimum"
            raise impossible(("weight_decay",), f"{what}; write a number above 0, such as 1.0e-3")
        return self

    @model_validator(mode="after")
    def _warmup_ends_before_training_does(self) -> Self:
        if self.epochs is not None and self.warmup_epochs >= self.epochs:
            what = f"{self.epochs} epochs are no more than the {self.warmup_epochs:g} of warmup_epochs"
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
