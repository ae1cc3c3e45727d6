"""The other parts of an experiment as frozen pydantic models: methods, data, recipes (no torch here)."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, StrictInt, model_validator

from mixmae.fields.identity import Neutral, Recorded
from mixmae.fields.model import (
    Betas,
    Fraction,
    Ints,
    Model,
    NotNegative,
    Positive,
    Range,
    Ratio,
    Size,
    impossible,
    named,
)

# ---------------------------------------------------------------------------------------------------------- methods


class MixmaeConfig(Model):
    """MixMAE (Liu et al., CVPR 2023). The defaults reproduce the released code; the paper adds `mix_embedding`."""

    name: Literal["mixmae"] = "mixmae"
    images: Annotated[int, Field(ge=2, le=4)] = 2
    """Images mixed into one."""
    ratio: Ratio
    """Share of units that do not show the mixed image's own image; default (images - 1) / images."""
    fill: Literal["image", "zero", "token", "noise"] = "image"
    """What fills the hidden units: other images, or zeros, one learnable token, or noise N(0, 1)."""
    dual: bool = True
    """Reconstruct every image of the mix, not only the mixed image's own."""
    masked_attention: bool = True
    """Tokens attend only to tokens of the same source image."""
    mix_embedding: bool = False
    """One learnable vector a slot and stage, added at the start of each stage."""
    normalised_target: bool = True
    decoder_depth: Positive = 8
    decoder_width: Positive = 512
    decoder_heads: Positive = 16
    decoder_mlp_ratio: Annotated[Positive, Neutral(4)] = 4
    decoder_norm_eps: Annotated[NotNegative, Neutral(1e-5)] = 1e-5

    pretrains: ClassVar[bool] = True

    @model_validator(mode="before")
    @classmethod
    def _ratio_follows_images(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and raw.get("ratio") is None:
            images = raw.get("images", 2)
            if isinstance(images, int) and images >= 2:
                raw = {**raw, "ratio": (images - 1) / images}
            filled = raw.get("fill", "image") != "image"
            if filled:
                raw = {"dual": False, "masked_attention": False, **raw}
        return raw

    @model_validator(mode="after")
    def _fills_stand_alone(self):
        if self.fill != "image":
            for field, wanted in (
                ("dual", False),
                ("masked_attention", False),
                ("mix_embedding", False),
                ("images", 2),
            ):
                if getattr(self, field) != wanted:
                    what = f"means nothing with fill: {self.fill}, which mixes no images; write {str(wanted).lower()}"
                    raise impossible((field,), what)
        _check_decoder(self)
        return self


class SimmimConfig(Model):
    """SimMIM (Xie et al., CVPR 2022)."""

    name: Literal["simmim"] = "simmim"
    ratio: Ratio = 0.6
    mask_unit: Positive | None = None
    """Side in pixels of what is masked as one, from one patch to 64 px; default: the unit (32 px for four
    stages at patch 4), and two patches for ViT (32 px at patch 16)."""

    pretrains: ClassVar[bool] = True


class MaeConfig(Model):
    """MAE (He et al., CVPR 2022); on hierarchical encoders as GreenMIM (Huang et al. 2022)."""

    name: Literal["mae"] = "mae"
    ratio: Ratio = 0.75
    normalised_target: bool = True
    decoder_depth: Positive = 8
    decoder_width: Positive = 512
    decoder_heads: Positive = 16
    decoder_mlp_ratio: Annotated[Positive, Neutral(4)] = 4
    decoder_norm_eps: Annotated[NotNegative, Neutral(1e-6)] = 1e-6

    pretrains: ClassVar[bool] = True

    @model_validator(mode="after")
    def _decoder_fits(self):
        _check_decoder(self)
        return self


class SupervisedConfig(Model):
    """No pretraining: evaluations start from random weights."""

    name: Literal["supervised"] = "supervised"

    pretrains: ClassVar[bool] = False


class ImportedConfig(Model):
    """No pretraining here: evaluations start from a weights file that `mixmae weights import` or `export` wrote."""

    name: Literal["imported"] = "imported"
    path: Annotated[str, Recorded]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    """Of the file; found when the experiment is planned."""

    pretrains: ClassVar[bool] = False


def _check_decoder(method) -> None:
    if method.decoder_width % method.decoder_heads or method.decoder_width % 4:
        what = (
            f"{method.decoder_width} is not divisible by 4 and by {method.decoder_heads} heads; "
            f"write a multiple of both"
        )
        raise impossible(("decoder_width",), what)


# ------------------------------------------------------------------------------------------------------------- data


class DigitsConfig(Model):
    """scikit-learn's 1,797 real 8 x 8 digits, upsampled; the last 20 % of each class in file order is val."""

    name: Literal["digits"] = "digits"


class ImageFolderConfig(Model):
    """The ImageNet layout: PATH/train/CLASS/*.jpg and PATH/val/CLASS/*.jpg."""

    name: Literal["image_folder"] = "image_folder"
    path: Annotated[str, Recorded]
    bad_files: Annotated[int, Field(ge=0), Recorded] = 0
    """How many unreadable images a split may hold before its runs fail. What a run computes that gets by does not
    depend on this."""


class Subset(Model):
    """A deterministic part of the train split; at most one of the two."""

    fraction: Fraction | None = None
    """This share of every class."""
    labels_per_class: Positive | None = None

    @model_validator(mode="after")
    def _one_of_two(self):
        if self.fraction is not None and self.labels_per_class is not None:
            raise impossible(("labels_per_class",), "fraction is given too; write only one of them")
        return self


# ---------------------------------------------------------------------------------------------------------- recipes


class Optimisation(Model):
    """AdamW with warm-up and decay a step; the absolute learning rate is base_lr * batch / base_batch."""

    epochs: Positive
    batch: Positive
    """Images an optimiser step, over all processes."""
    base_lr: Annotated[float, Field(gt=0)]
    base_batch: Positive = 256
    min_lr: NotNegative = 0.0
    """Absolute, not scaled by the batch."""
    warmup_lr: NotNegative = 0.0
    warmup_epochs: NotNegative = 0.0
    warmup_steps: Annotated[Positive | None, Neutral(None)] = None
    """Optimiser steps of warm-up, in place of warmup_epochs; fewer than the run has."""
    schedule: Literal["cosine", "multistep"] = "cosine"
    decay_epochs: Annotated[tuple[StrictInt, ...], Field(strict=False)] = ()
    """multistep: the epochs after which the learning rate is multiplied by decay_rate."""
    decay_rate: Ratio = 0.1
    betas: Betas = (0.9, 0.999)
    weight_decay: NotNegative = 0.05
    """Not applied to biases, norms and what `no_decay` says."""
    no_decay: Annotated[tuple[str, ...] | None, Field(strict=False), Neutral(None)] = None
    """Patterns (fnmatch, on the model's parameter names) of parameters without weight decay besides biases and norms;
    default: what the model names, that is position embeddings, tokens and relative position tables."""
    clip_grad: Annotated[float, Field(gt=0)] | None = None
    """Largest L2 norm of the gradient."""
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Stochastic depth at the last block; it grows linearly from zero."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """auto: bfloat16 on GPUs that have it, float32 elsewhere; float16 only on request: with a loss scale."""

    @property
    def lr(self) -> float:
        """The absolute learning rate."""
        return self.base_lr * self.batch / self.base_batch

    @model_validator(mode="after")
    def _warmup_ends_before_training_does(self):
        if self.warmup_epochs >= self.epochs:
            what = f"{self.epochs} epochs are no more than the {self.warmup_epochs:g} of warmup_epochs"
            raise impossible(("epochs",), f"{what}; write more, or fewer there")
        if self.warmup_steps is not None and self.warmup_epochs:
            what = f"{self.warmup_epochs:g} warmup_epochs are given too; write warmup_epochs: 0 or leave these out"
            raise impossible(("warmup_steps",), what)
        if (self.schedule == "multistep") != bool(self.decay_epochs):
            raise impossible(
                ("decay_epochs",), "goes with schedule: multistep, and only with it; write both or neither"
            )
        return self

    @model_validator(mode="after")
    def _chunks_fill_the_batch(self):
        chunk = vars(self).get("chunk")
        if chunk and self.batch % chunk:
            raise impossible(("chunk",), f"does not divide the batch of {self.batch}; write a divisor of {self.batch}")
        return self


class PretrainRecipe(Optimisation):
    betas: Betas = (0.9, 0.95)
    chunk: Positive | None = None
    """Consecutive images of a batch that share mask and mixing partners; default: the batch."""
    crop_scale: Range = (0.2, 1.0)
    crop_ratio: Range = (3 / 4, 4 / 3)
    interpolation: Annotated[Literal["bicubic", "bilinear"], Neutral("bicubic")] = "bicubic"
    """How crops are resized; SimMIM's pretraining does it bilinearly."""
    flip: bool = True
    subset: Subset = Subset()


class FinetuneRecipe(Optimisation):
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
    ema_decay: Annotated[Ratio | None, Neutral(None)] = None
    """Decay a step of an exponential moving average of the weights (timm's ModelEmaV3); with it the averaged weights
    are what is measured and kept."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    mixup: NotNegative = 0.8
    cutmix: NotNegative = 1.0
    rand_augment: str | None = "rand-m9-mstd0.5-inc1"
    """timm's RandAugment string."""
    color_jitter: NotNegative | None = None
    erase: Annotated[float, Field(ge=0, le=1)] = 0.25
    """Probability of random erasing."""
    crop_scale: Range = (0.08, 1.0)
    crop_ratio: Range = (3 / 4, 4 / 3)
    flip: bool = True
    eval_crop: Fraction = 0.875
    """Side of the central crop of the resized validation image."""
    subset: Subset = Subset()

    @model_validator(mode="after")
    def _mixup_pairs_images(self):
        field = "chunk" if self.chunk else "batch"
        size = self.chunk or self.batch
        if size % 2 and (self.mixup or self.cutmix):
            raise impossible(
                (field,), f"mixup and cutmix pair images, {size} is odd; write an even number such as {size + 1}"
            )
        return self


class LinearRecipe(Model):
    """A linear classifier on frozen features, extracted once from the central crop and standardised."""

    epochs: Positive = 100
    batch: Positive = 256
    full_batches: Annotated[bool, Neutral(False)] = False
    """Leave out what does not fill the last batch of an epoch; else that batch is smaller."""
    optimizer: Annotated[Literal["adamw", "lars"], Neutral("adamw")] = "adamw"
    """lars: as for MAE's linear probe, with momentum 0.9 and a trust ratio of 0.001 |w| / |gradient| for the weights;
    the bias has neither trust ratio nor weight decay."""
    base_lr: Annotated[float, Field(gt=0)] = 1e-3
    base_batch: Positive = 256
    warmup_epochs: Annotated[NotNegative, Neutral(0.0)] = 0.0
    """Linear from zero, before the cosine."""
    weight_decay: NotNegative = 0.0
    standardise: Annotated[Literal["train", "batch_norm"], Neutral("train")] = "train"
    """Features less the mean and over the deviation of the train split, or (MAE) of the batch: a BatchNorm without
    scale and shift before the classifier, whose running figures serve val."""
    eval_crop: Fraction = 0.875
    subset: Subset = Subset()

    @model_validator(mode="after")
    def _warmup_ends_before_training_does(self):
        if self.warmup_epochs >= self.epochs:
            what = f"{self.epochs} epochs are no more than the {self.warmup_epochs:g} of warmup_epochs"
            raise impossible(("epochs",), f"{what}; write more, or fewer there")
        return self

    @model_validator(mode="after")
    def _a_batch_has_a_deviation(self):
        if self.standardise == "batch_norm" and self.batch < 2:
            raise impossible(("batch",), "standardise: batch_norm needs two images a batch; write 2 or more")
        return self


class KnnRecipe(Model):
    """Weighted k nearest neighbours (Wu et al. 2018): votes weighted by exp(cosine / temperature)."""

    k: Positive = 20
    temperature: Annotated[float, Field(gt=0)] = 0.07
    features: Literal["encoder", "pixels"] = "encoder"
    """"pixels": the raw normalised image, to read the encoder's figure against."""
    eval_crop: Fraction = 0.875
    subset: Subset = Subset()


class Evaluations(Model):
    finetune: FinetuneRecipe | None = None
    linear: LinearRecipe | None = None
    knn: KnnRecipe | None = None


# ----------------------------------------------------------------------------------------------------------- choices

MethodConfig = Annotated[
    MixmaeConfig | SimmimConfig | MaeConfig | SupervisedConfig | ImportedConfig,
    Field(discriminator="name"),
    BeforeValidator(named),
]
DataConfig = Annotated[DigitsConfig | ImageFolderConfig, Field(discriminator="name"), BeforeValidator(named)]
