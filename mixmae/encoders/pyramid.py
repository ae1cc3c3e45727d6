"""What PVT's and Twins' official constructors share (no torch)."""

from typing import Annotated, Any, ClassVar

from pydantic import Field

from mixmae.encoders.arguments import Arguments, PerStage, Shapes, Whole, depths_of
from mixmae.fields.model import NotNegative, Positive


class PyramidArguments(Arguments):
    """The constructor arguments that PVT and Twins share."""

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
        arguments = {
            "patch_size": shapes[f"{cls.embedding.format(first)}.proj.weight"][-1],
            "embed_dims": widths,
            "depths": depths,
            "mlp_ratios": [part // width for part, width in zip(hidden, widths, strict=True)],
            "sr_ratios": reductions,
        }
        if "head.weight" in shapes:
            arguments["num_classes"] = shapes["head.weight"][0]
        return arguments

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
