"""Weighted k nearest neighbours, on frozen features or on raw pixels (no torch)."""

from typing import Annotated, Literal

from pydantic import Field

from mixmae.data.splits import Measure
from mixmae.data.subset import Subset
from mixmae.evaluations.frozen import FrozenStage
from mixmae.experiment.metric import TOP1, TOP5
from mixmae.fields.model import Fraction, Model, Positive


class KnnRecipe(Model):
    """Weighted k nearest neighbours (Wu et al. 2018): votes weighted by exp(cosine / temperature)."""

    k: Positive = 20
    """How many of the nearest training images vote."""
    temperature: Annotated[float, Field(gt=0)] = 0.07
    """Of the votes: lower ones count near images more."""
    features: Literal["encoder", "pixels"] = "encoder"
    """"pixels": the raw normalised image, to read the encoder's figure against."""
    eval_crop: Fraction = 0.875
    """Side of the central crop over that of the resized image."""
    measure: Measure = "val"
    """The split that is scored; tuning: what data.tuning sets aside, to choose settings by."""
    subset: Subset = Subset()
    """The training images that vote."""


class Knn(FrozenStage):
    name, label, order = "knn", "kNN", 4
    recipe = KnnRecipe
    run = "mixmae.evaluations.knn.run:run"
    metrics = (TOP1, TOP5)

    def scored_split(self, recipe: KnnRecipe) -> str:
        return recipe.measure

    def least_images(self, recipe: KnnRecipe) -> tuple[str, int]:
        return "k", recipe.k


SPEC = Knn()
