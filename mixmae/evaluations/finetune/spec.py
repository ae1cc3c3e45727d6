"""Fine-tuning a pretrained encoder with a linear head, or training both from scratch (no torch)."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from mixmae.data.splits import Measure
from mixmae.data.subset import Subset
from mixmae.encoders.families import EncoderModel, families
from mixmae.experiment.metric import LOSS, TOP1, TOP5
from mixmae.experiment.stages import Placed, StageSpec, Work, size_problems
from mixmae.fields.identity import Neutral
from mixmae.fields.model import Fraction, Ints, NotNegative, Positive, Range, Ratio, Size, impossible
from mixmae.methods.methods import Problem, from_scratch
from mixmae.training.recipe import Optimisation


class FinetuneRecipe(Optimisation):
    """How a classifier is trained."""

    chunk: Annotated[Positive | None, Neutral(None)] = None
    """Consecutive images of a batch that go through the model at once, and within which mixup and cutmix pair images;
    default: the batch."""
    image_size: Size | None = None
    """Default: that of pretraining."""
    windows: Ints | None = None
    """Default: the encoder's; relative position tables are interpolated when they change."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Learning rate factor from one block to the one below."""
    head_as_last_block: bool = False
    """Train final norm and head at the last block's learning rate, lr * layer_decay, as the released MixMAE does."""
    merging_as_next_block: Annotated[bool, Neutral(False)] = False
    """Train patch merging (what leads from one stage to the next) at the learning rate of the block after it, as the
    released MixMAE does; else of the block before."""
    table_resize: Annotated[Literal["geometric", "bicubic"], Neutral("geometric")] = "geometric"
    """How relative position bias tables are resized when the window changes: as SimMIM's and BEiT's fine-tuning code,
    or as MixMAE's."""
    head_init_std: Annotated[float, Field(gt=0)] = 2e-5
    """Standard deviation of the classifier's first weights."""
    ema_decay: Annotated[Ratio | None, Neutral(None)] = None
    """Decay a step of an exponential moving average of the weights (timm's ModelEmaV3); with it the averaged weights
    are what is measured and kept."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of a target that is spread over all classes."""
    mixup: NotNegative = 0.8
    """Alpha of mixup; 0: off."""
    cutmix: NotNegative = 1.0
    """Alpha of CutMix; 0: off."""
    rand_augment: str | None = "rand-m9-mstd0.5-inc1"
    """timm's RandAugment string."""
    color_jitter: NotNegative | None = None
    """timm's colour jitter, where rand_augment is null."""
    erase: Annotated[float, Field(ge=0, le=1)] = 0.25
    """Probability of random erasing."""
    crop_scale: Range = (0.08, 1.0)
    """Least and largest share of the image that a random crop takes."""
    crop_ratio: Range = (3 / 4, 4 / 3)
    """Least and largest width over height of a crop."""
    flip: bool = True
    """Whether half of the images are flipped horizontally."""
    eval_crop: Fraction = 0.875
    """Side of the central crop of the resized validation image."""
    measure: Measure = "val"
    """The split that is scored; tuning: what data.tuning sets aside, to choose settings by."""
    evaluate_every: Annotated[Positive, Neutral(1)] = 1
    """val is measured after every so many epochs, and after the last one, whose figures are the result: they and the
    weights are the same bits whatever is written here, and only metrics.jsonl has fewer figures."""
    subset: Subset = Subset()
    """The part of the training images that is used."""

    @property
    def evaluated(self) -> int:
        """How many epochs val is measured after."""
        return -(-self.epochs // self.evaluate_every)

    def evaluates_after(self, epoch: int) -> bool:
        """Whether val is measured after the `epoch`-th epoch, counted from 1."""
        return epoch % self.evaluate_every == 0 or epoch == self.epochs

    @property
    def average_decay(self) -> float | None:
        return self.ema_decay

    @model_validator(mode="after")
    def _mixup_pairs_images(self) -> Self:
        field = "chunk" if self.chunk else "batch"
        size = self.images_at_once
        if size % 2 and (self.mixup or self.cutmix):
            raise impossible(
                (field,), f"mixup and cutmix pair images, {size} is odd; write an even number such as {size + 1}"
            )
        return self


class Finetune(StageSpec):
    name, label, order = "finetune", "fine-tuning", 2
    recipe = FinetuneRecipe
    run = "mixmae.evaluations.finetune.run:run"
    metrics = (TOP1, TOP5, LOSS)
    leaves_encoder = True
    scratch_label = "from scratch"

    def placed(self, recipe: FinetuneRecipe, encoder: EncoderModel, image_size: tuple[int, int]) -> Placed:
        size, family = recipe.image_size or image_size, families[encoder.family]
        if recipe.windows:
            encoder = family.with_windows(encoder, recipe.windows)
        moved = {name: None for name in ("image_size", "windows") if getattr(recipe, name) is not None}
        return Placed(family.resolved(family.finetuned(encoder), size), size, recipe.model_copy(update=moved))

    def problems(self, recipe: FinetuneRecipe, encoder: EncoderModel) -> Iterator[Problem]:
        if recipe.image_size:
            yield from size_problems(recipe.image_size, encoder.unit, ("image_size",))
        if recipe.windows:
            try:
                families[encoder.family].with_windows(encoder, recipe.windows)
            except ValueError as error:
                yield ("windows",), str(error)

    def scored_split(self, recipe: FinetuneRecipe) -> str:
        return recipe.measure

    def least_images(self, recipe: FinetuneRecipe) -> tuple[str, int]:
        return "batch", recipe.batch

    def chunks(self, recipe: FinetuneRecipe) -> tuple[int, int]:
        return recipe.chunks, recipe.batch

    def work(self, job: Any) -> Work | None:
        from mixmae.cost.multiply_adds import classifier_costs, split_images, trained_images

        costs = classifier_costs(job)
        if costs is None:
            return None
        passed = job.recipe.evaluated * split_images(job.data, job.scored_split)
        step, method = 3 * costs.forward, from_scratch().name
        return Work(method, step, costs.forward, trained_images(job), passed, costs.params, costs.exact)


SPEC = Finetune()
