"""Swin's constructors: stock, MixMIM's, SimMIM's and GreenMIM's."""

from math import isqrt
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from mixmae.config import MaeConfig, MixmaeConfig, SimmimConfig
from mixmae.encoders.config import SwinConfig
from mixmae.fields.model import Model, NotNegative, Positive, Ratio
from mixmae.weights.constructors.arguments import Arguments, PerStage, Shapes, Whole, decoder_of, depths_of, square
from mixmae.weights.description import Description


class SwinArguments(Arguments):
    """Swin's constructor. `window_size`: one for all stages, or one each (MixMIM's)."""

    patch_size: Positive = 4
    embed_dim: Positive = 96
    depths: PerStage = (2, 2, 6, 2)
    num_heads: PerStage = (3, 6, 12, 24)
    window_size: Positive | PerStage = 7
    mlp_ratio: Whole = 4
    ape: Literal[False] = False
    patch_norm: Literal[True] = True
    use_checkpoint: bool = False
    num_classes: Annotated[int, Field(ge=0)] = 1000
    layer_norm_eps: NotNegative = 1e-5

    kind_of_swin: ClassVar[dict[str, Any]] = {"shift": True, "positions": "none"}

    @classmethod
    def from_shapes(cls, shapes: Shapes) -> dict[str, Any]:
        depths = depths_of(shapes, "encoder.layers.{}.blocks.{}.norm1.weight")
        tables = [shapes[f"encoder.layers.{s}.blocks.0.attn.relative_position_bias_table"] for s in range(len(depths))]
        width, _, patch, _ = shapes["encoder.patch_embed.proj.weight"]
        found = {
            "patch_size": patch,
            "embed_dim": width,
            "depths": depths,
            "num_heads": [heads for _, heads in tables],
            "window_size": [(isqrt(rows) + 1) // 2 for rows, _ in tables],
            "mlp_ratio": shapes["encoder.layers.0.blocks.0.mlp.fc1.weight"][0] // width,
        }
        if side := _side_of_the_first_grid(shapes):
            found["img_size"] = side * patch
        if "head.weight" in shapes:
            found["num_classes"] = shapes["head.weight"][0]
        return found

    def encoder(self) -> SwinConfig:
        stages = len(self.depths)
        windows = self.window_size if isinstance(self.window_size, tuple) else (self.window_size,) * stages
        return SwinConfig(
            patch_size=self.patch_size,
            widths=tuple(self.embed_dim * 2**stage for stage in range(stages)),
            depths=self.depths,
            heads=self.num_heads,
            mlp_ratios=(self.mlp_ratio,) * stages,
            windows=windows,
            norm_eps=self.layer_norm_eps,
            **self.kind_of_swin,
        )

    def description(self) -> Description:
        return Description(encoder=self.encoder(), image_size=square(self.img_size), classes=self.num_classes or None)


class MixmimClassifierArguments(SwinArguments):
    """MixMIM's fine-tuning class; its `ape` is accepted and ignored there too: positions are always sin-cos."""

    ape: bool = True
    depths: PerStage = (2, 2, 18, 2)
    window_size: PerStage = (7, 7, 14, 7)

    kind_of_swin: ClassVar[dict[str, Any]] = {"shift": False, "positions": "sincos"}


class MixmimArguments(MixmimClassifierArguments):
    """MixMIM's pretraining class. Its decoder shares the encoder's MLP ratio and norms."""

    decoder_dim: Positive = 512
    decoder_depth: Positive = 8
    decoder_num_heads: Positive = 16
    norm_pix_loss: bool = True
    num_classes: Literal[0] = 0
    range_mask_ratio: Literal[0] | Annotated[float, Field(ge=0, le=0)] = 0
    mask_ratio: Ratio = 0.5

    undecided: ClassVar[tuple[str, ...]] = ("decoder_num_heads", "norm_pix_loss")

    @classmethod
    def from_shapes(cls, shapes: Shapes) -> dict[str, Any]:
        decoder = decoder_of(shapes)
        return {**super().from_shapes(shapes), "decoder_dim": decoder["width"], "decoder_depth": decoder["depth"]}

    def description(self) -> Description:
        method = MixmaeConfig(
            ratio=self.mask_ratio,
            normalised_target=self.norm_pix_loss,
            decoder_depth=self.decoder_depth,
            decoder_width=self.decoder_dim,
            decoder_heads=self.decoder_num_heads,
            decoder_mlp_ratio=self.mlp_ratio,
            decoder_norm_eps=self.layer_norm_eps,
        )
        return Description(encoder=self.encoder(), image_size=square(self.img_size), method=method)


class SimmimSwinArguments(SwinArguments):
    """SimMIM's Swin with its mask token, and the one-layer decoder."""

    num_classes: Literal[0] = 0
    mask_ratio: Ratio = 0.6
    mask_patch_size: Positive = 32

    undecided: ClassVar[tuple[str, ...]] = ("img_size",)

    def description(self) -> Description:
        method = SimmimConfig(ratio=self.mask_ratio, mask_unit=self.mask_patch_size)
        return Description(encoder=self.encoder(), image_size=square(self.img_size), method=method)


class SwinClassifierArguments(SwinArguments):
    """Stock Swin, as its authors, SimMIM and timm construct it."""

    global_pool: Literal["avg"] = "avg"

    undecided: ClassVar[tuple[str, ...]] = ("img_size",)


class GreenmimDecoder(Model):
    """Of GreenMIM's MaskedAutoencoder, which is given its encoder."""

    decoder_num_patches: Positive = 196
    decoder_embed_dim: Positive = 512
    decoder_depth: Positive = 8
    decoder_num_heads: Positive = 16
    mlp_ratio: Whole = 4


class GreenmimArguments(SwinArguments):
    """GreenMIM's Swin, and under `decoder` what its MaskedAutoencoder took."""

    num_classes: Annotated[int, Field(ge=0)] = 0
    norm_pix_loss: bool = True
    layer_norm_eps: NotNegative = 1e-6
    mask_ratio: Ratio = 0.75
    decoder: GreenmimDecoder = GreenmimDecoder()

    undecided: ClassVar[tuple[str, ...]] = ("decoder", "norm_pix_loss")

    @classmethod
    def from_shapes(cls, shapes: Shapes) -> dict[str, Any]:
        found = super().from_shapes(shapes)
        stages = len(found["depths"])
        if "decoder_pos_embed" in shapes:
            found["img_size"] = isqrt(shapes["decoder_pos_embed"][1]) * found["patch_size"] * 2 ** (stages - 1)
        return found

    def description(self) -> Description:
        decoder = self.decoder
        method = MaeConfig(
            ratio=self.mask_ratio,
            normalised_target=self.norm_pix_loss,
            decoder_depth=decoder.decoder_depth,
            decoder_width=decoder.decoder_embed_dim,
            decoder_heads=decoder.decoder_num_heads,
            decoder_mlp_ratio=decoder.mlp_ratio,
            decoder_norm_eps=self.layer_norm_eps,
        )
        return Description(encoder=self.encoder(), image_size=square(self.img_size), method=method)


def _side_of_the_first_grid(shapes: Shapes) -> int | None:
    """From absolute positions, or from a shifted block's attention mask (windows, tokens, tokens)."""
    if "encoder.absolute_pos_embed" in shapes:
        return isqrt(shapes["encoder.absolute_pos_embed"][1])
    for name, shape in shapes.items():
        if name.endswith(".attn_mask"):
            stage = int(name.split("layers.")[1].split(".")[0])
            return isqrt(shape[0]) * isqrt(shape[1]) * 2**stage
    return None
