"""Evaluations of a frozen encoder, or of the raw pixels in its place (no torch)."""

from typing import Any

from mixmae.encoders.families import EncoderModel
from mixmae.experiment.stages import Placed, StageSpec, Work


class FrozenStage(StageSpec):
    """Its recipe has `features`: "encoder" or "pixels", for which there is no encoder and nothing to start from."""

    def placed(self, recipe: Any, encoder: EncoderModel, image_size: tuple[int, int]) -> Placed:
        found = super().placed(recipe, encoder, image_size)
        return Placed(None, image_size, recipe) if recipe.features == "pixels" else found

    def work(self, job: Any) -> Work | None:
        from mixmae.cost.multiply_adds import frozen_work

        return frozen_work(job)
