"""PVT's and Twins' constructors."""

from math import isqrt
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from mixmae.encoders.config import PvtConfig, TwinsConfig
from mixmae.fields.model import NotNegative, Positive
from mixmae.weights.constructors.arguments import Arguments, PerStage, Shapes, Whole, depths_of, square
from mixmae.weights.description import Description


class PyramidArguments(Arguments):
    """What PVT's and Twins' constructors share."""

    patch_size: Positive = 4
    embed_dims: PerStage = (64, 128, 256, 512)
    depths: PerStage = (3, 4, 6, 3)
    num_heads: PerStage = (1, 2, 4, 8)
    mlp_ratios: Annotated[tuple[Whole, ...], Field(strict=False)] = (4, 4, 4, 4)
    sr_ratios: PerStage = (8, 4, 2, 1)
    num_classes: Annotated[int, Field(ge=0)] = 1000
    layer_norm_eps: NotNegative = 1e-6

    embedding: ClassVar[str]
    block: ClassVar[str]
    first_stage: ClassVar[int]
    reducing: ClassVar[int]
    """The first block that has a spatial reduction."""

    @classmethod
    def from_shapes(cls, shapes: Shapes) -> dict[str, Any]:
        first = cls.first_stage
        depths = depths_of(shapes, f"{cls.block}.norm1.weight", first)
        stages = range(first, first + len(depths))
        widths = [shapes[f"{cls.embedding.format(s)}.proj.weight"][0] for s in stages]
        hidden = [shapes[f"{cls.block.format(s, 0)}.mlp.fc1.weight"][0] for s in stages]
        reductions = [shapes.get(f"{cls.block.format(s, cls.reducing)}.attn.sr.weight", (1,))[-1] for s in stages]
        found = {
            "patch_size": shapes[f"{cls.embedding.format(first)}.proj.weight"][-1],
            "embed_dims": widths,
            "depths": depths,
            "mlp_ratios": [part // width for part, width in zip(hidden, widths, strict=True)],
            "sr_ratios": reductions,
        }
        if "head.weight" in shapes:
            found["num_classes"] = shapes["head.weight"][0]
        return found

    def shape(self) -> dict[str, Any]:
        return {
            "patch_size": self.patch_size,
            "widths": self.embed_dims,
            "depths": self.depths,
            "heads": self.num_heads,
            "mlp_ratios": self.mlp_ratios,
            "sr_ratios": self.sr_ratios,
            "norm_eps": self.layer_norm_eps,
        }


class PvtArguments(PyramidArguments):
    """PVT v1's constructor; its classifier reads a class token of the last stage."""

    num_stages: Literal[4] = 4
    F4: bool = False

    embedding: ClassVar[str] = "encoder.patch_embed{}"
    block: ClassVar[str] = "encoder.block{}.{}"
    first_stage: ClassVar[int] = 1
    reducing: ClassVar[int] = 0
    undecided: ClassVar[tuple[str, ...]] = ("num_heads",)

    @classmethod
    def from_shapes(cls, shapes: Shapes) -> dict[str, Any]:
        found = super().from_shapes(shapes)
        return {**found, "img_size": isqrt(shapes["encoder.pos_embed1"][1]) * found["patch_size"]}

    def description(self) -> Description:
        encoder = PvtConfig(**self.shape(), class_token=True)
        return Description(encoder=encoder, image_size=square(self.img_size), classes=self.num_classes or None)


class TwinsArguments(PyramidArguments):
    """Twins-SVT's constructor (ALTGVT)."""

    depths: PerStage = (4, 4, 4)
    wss: PerStage = (7, 7, 7)

    embedding: ClassVar[str] = "encoder.patch_embeds.{}"
    block: ClassVar[str] = "encoder.blocks.{}.{}"
    first_stage: ClassVar[int] = 0
    reducing: ClassVar[int] = 1
    undecided: ClassVar[tuple[str, ...]] = ("num_heads", "wss", "img_size")

    def description(self) -> Description:
        encoder = TwinsConfig(**self.shape(), windows=self.wss)
        return Description(encoder=encoder, image_size=square(self.img_size), classes=self.num_classes or None)
