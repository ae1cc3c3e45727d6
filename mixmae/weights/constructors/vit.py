"""ViT's constructors: MAE's and SimMIM's."""

from math import isqrt
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from mixmae.config import MaeConfig, SimmimConfig
from mixmae.encoders.config import VitConfig
from mixmae.fields.model import NotNegative, Positive, Ratio
from mixmae.weights.constructors.arguments import Arguments, Shapes, Whole, count, decoder_of, square
from mixmae.weights.description import Description


class VitArguments(Arguments):
    patch_size: Positive = 16
    embed_dim: Positive = 768
    depth: Positive = 12
    num_heads: Positive = 12
    mlp_ratio: Whole = 4
    num_classes: Annotated[int, Field(ge=0)] = 1000
    layer_norm_eps: NotNegative = 1e-6

    style: ClassVar[dict[str, Any]] = {"style": "mae"}

    @classmethod
    def from_shapes(cls, shapes: Shapes) -> dict[str, Any]:
        width, _, patch, _ = shapes["encoder.patch_embed.proj.weight"]
        found = {
            "patch_size": patch,
            "embed_dim": width,
            "depth": count(shapes, "encoder.blocks.{}.norm1.weight"),
            "mlp_ratio": shapes["encoder.blocks.0.mlp.fc1.weight"][0] // width,
        }
        if "encoder.pos_embed" in shapes:
            found["img_size"] = isqrt(shapes["encoder.pos_embed"][1] - 1) * patch
        if "head.weight" in shapes:
            found["num_classes"] = shapes["head.weight"][0]
        return found

    def encoder(self) -> VitConfig:
        return VitConfig(
            patch_size=self.patch_size,
            width=self.embed_dim,
            depth=self.depth,
            heads=self.num_heads,
            mlp_ratio=self.mlp_ratio,
            norm_eps=self.layer_norm_eps,
            **self.style,
        )

    def description(self) -> Description:
        return Description(encoder=self.encoder(), image_size=square(self.img_size), classes=self.num_classes or None)


class MaeVitArguments(VitArguments):
    """MAE's MaskedAutoencoderViT. Its decoder shares the encoder's MLP ratio and norms."""

    embed_dim: Positive = 1024
    depth: Positive = 24
    num_heads: Positive = 16
    decoder_embed_dim: Positive = 512
    decoder_depth: Positive = 8
    decoder_num_heads: Positive = 16
    norm_pix_loss: bool = False
    num_classes: Literal[0] = 0
    mask_ratio: Ratio = 0.75

    undecided: ClassVar[tuple[str, ...]] = ("num_heads", "decoder_num_heads", "norm_pix_loss")

    @classmethod
    def from_shapes(cls, shapes: Shapes) -> dict[str, Any]:
        decoder = decoder_of(shapes)
        return {**super().from_shapes(shapes), "decoder_embed_dim": decoder["width"], "decoder_depth": decoder["depth"]}

    def description(self) -> Description:
        method = MaeConfig(
            ratio=self.mask_ratio,
            normalised_target=self.norm_pix_loss,
            decoder_depth=self.decoder_depth,
            decoder_width=self.decoder_embed_dim,
            decoder_heads=self.decoder_num_heads,
            decoder_mlp_ratio=self.mlp_ratio,
            decoder_norm_eps=self.layer_norm_eps,
        )
        return Description(encoder=self.encoder(), image_size=square(self.img_size), method=method)


class MaeVitClassifierArguments(VitArguments):
    """MAE's fine-tuning class; on the class token (`global_pool` off) is not what this suite fine-tunes."""

    global_pool: Literal[True] = True

    undecided: ClassVar[tuple[str, ...]] = ("num_heads",)


class BeitArguments(VitArguments):
    """The ViT of SimMIM: BEiT blocks with LayerScale and relative position biases."""

    init_values: NotNegative = 0.1
    init_scale: float = 0.001
    use_abs_pos_emb: Literal[False] = False

    @classmethod
    def from_shapes(cls, shapes: Shapes) -> dict[str, Any]:
        found = super().from_shapes(shapes)
        rows, heads = shapes[cls.table]
        return {**found, "num_heads": heads, "img_size": (isqrt(rows - 3) + 1) // 2 * found["patch_size"]}


class SimmimVitArguments(BeitArguments):
    num_classes: Literal[0] = 0
    use_rel_pos_bias: Literal[False] = False
    use_shared_rel_pos_bias: Literal[True] = True
    use_mean_pooling: bool = False
    mask_ratio: Ratio = 0.6
    mask_patch_size: Positive = 32

    style: ClassVar[dict[str, Any]] = {"style": "beit", "shared_bias": True}
    table: ClassVar[str] = "encoder.rel_pos_bias.relative_position_bias_table"

    def description(self) -> Description:
        method = SimmimConfig(ratio=self.mask_ratio, mask_unit=self.mask_patch_size)
        return Description(encoder=self.encoder(), image_size=square(self.img_size), method=method)


class SimmimVitClassifierArguments(BeitArguments):
    use_rel_pos_bias: Literal[True] = True
    use_shared_rel_pos_bias: Literal[False] = False
    use_mean_pooling: Literal[True] = True

    style: ClassVar[dict[str, Any]] = {"style": "beit", "shared_bias": False}
    table: ClassVar[str] = "encoder.blocks.0.attn.relative_position_bias_table"
