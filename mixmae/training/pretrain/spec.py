"""Masked image modelling on the train split (no torch)."""

from typing import Annotated, Any, Literal

from mixmae.data.subset import Subset
from mixmae.experiment.metric import LOSS
from mixmae.experiment.stages import StageSpec, Work
from mixmae.fields.identity import Neutral
from mixmae.fields.model import Betas, Positive, Range
from mixmae.training.recipe import Optimisation


class PretrainRecipe(Optimisation):
    """How an encoder is pretrained."""

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


class Pretrain(StageSpec):
    name, label, order = "pretrain", "pretraining", 1
    recipe = PretrainRecipe
    run = "mixmae.training.pretrain.run:run"
    metrics = (LOSS,)
    measures = False
    leaves_encoder = True

    def resolved_recipe(self, recipe: PretrainRecipe) -> PretrainRecipe:
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
