"""The official classes' constructor arguments, as their code names them, and what they mean in our configs (no torch).

One model a class: its fields and defaults are those of the official constructor; values that would make a model we do
not have are refused. Three settings that official code keeps elsewhere may stand beside them: `layer_norm_eps`,
`mask_ratio` and `mask_patch_size`. `from_shapes` reads from the tensors' shapes what they decide.
"""

from math import isqrt
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from mixmae.config import MaeConfig, MixmaeConfig, SimmimConfig
from mixmae.encoders.config import PvtConfig, SwinConfig, TwinsConfig, VitConfig
from mixmae.fields import Model, NotNegative, Positive, Ratio
from mixmae.weights.description import Description

Shapes = dict[str, tuple[int, ...]]
"""Shapes by our names, and of recomputed tensors by their official ones."""

_Whole = Annotated[
    int, Field(gt=0), BeforeValidator(lambda v: int(v) if isinstance(v, float) and v.is_integer() else v)
]
_PerStage = Annotated[tuple[Positive, ...], Field(strict=False, min_length=2, max_length=4)]


class Arguments(Model):
    """What the classes share. Rates of dropout and stochastic depth do not touch weights."""

    img_size: Positive = 224
    in_chans: Literal[3] = 3
    qkv_bias: Literal[True] = True
    qk_scale: None = None
    drop_rate: float = 0.0
    attn_drop_rate: float = 0.0
    drop_path_rate: float = 0.0
    layer_norm_eps: NotNegative

    undecided: ClassVar[tuple[str, ...]] = ()
    """Arguments that shapes alone do not tell."""

    @classmethod
    def from_shapes(cls, shapes: Shapes) -> dict[str, Any]:
        raise NotImplementedError

    def description(self) -> Description:
        raise NotImplementedError


# -------------------------------------------------------------------------------------------------------------- Swin


class SwinArguments(Arguments):
    """Swin's constructor. `window_size`: one for all stages, or one each (MixMIM's)."""

    patch_size: Positive = 4
    embed_dim: Positive = 96
    depths: _PerStage = (2, 2, 6, 2)
    num_heads: _PerStage = (3, 6, 12, 24)
    window_size: Positive | _PerStage = 7
    mlp_ratio: _Whole = 4
    ape: Literal[False] = False
    patch_norm: Literal[True] = True
    use_checkpoint: bool = False
    num_classes: Annotated[int, Field(ge=0)] = 1000
    layer_norm_eps: NotNegative = 1e-5

    kind_of_swin: ClassVar[dict[str, Any]] = {"shift": True, "positions": "none"}

    @classmethod
    def from_shapes(cls, shapes: Shapes) -> dict[str, Any]:
        depths = _depths(shapes, "encoder.layers.{}.blocks.{}.norm1.weight")
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
        return Description(encoder=self.encoder(), image_size=_square(self.img_size), classes=self.num_classes or None)


class MixmimClassifierArguments(SwinArguments):
    """MixMIM's fine-tuning class; its `ape` is accepted and ignored there too: positions are always sin-cos."""

    ape: bool = True
    depths: _PerStage = (2, 2, 18, 2)
    window_size: _PerStage = (7, 7, 14, 7)

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
        decoder = _decoder(shapes)
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
        return Description(encoder=self.encoder(), image_size=_square(self.img_size), method=method)


class SimmimSwinArguments(SwinArguments):
    """SimMIM's Swin with its mask token, and the one-layer decoder."""

    num_classes: Literal[0] = 0
    mask_ratio: Ratio = 0.6
    mask_patch_size: Positive = 32

    undecided: ClassVar[tuple[str, ...]] = ("img_size",)

    def description(self) -> Description:
        method = SimmimConfig(ratio=self.mask_ratio, mask_unit=self.mask_patch_size)
        return Description(encoder=self.encoder(), image_size=_square(self.img_size), method=method)


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
    mlp_ratio: _Whole = 4


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
        return Description(encoder=self.encoder(), image_size=_square(self.img_size), method=method)


# --------------------------------------------------------------------------------------------------------------- ViT


class VitArguments(Arguments):
    patch_size: Positive = 16
    embed_dim: Positive = 768
    depth: Positive = 12
    num_heads: Positive = 12
    mlp_ratio: _Whole = 4
    num_classes: Annotated[int, Field(ge=0)] = 1000
    layer_norm_eps: NotNegative = 1e-6

    style: ClassVar[dict[str, Any]] = {"style": "mae"}

    @classmethod
    def from_shapes(cls, shapes: Shapes) -> dict[str, Any]:
        width, _, patch, _ = shapes["encoder.patch_embed.proj.weight"]
        found = {
            "patch_size": patch,
            "embed_dim": width,
            "depth": _count(shapes, "encoder.blocks.{}.norm1.weight"),
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
        return Description(encoder=self.encoder(), image_size=_square(self.img_size), classes=self.num_classes or None)


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
        decoder = _decoder(shapes)
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
        return Description(encoder=self.encoder(), image_size=_square(self.img_size), method=method)


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
        return Description(encoder=self.encoder(), image_size=_square(self.img_size), method=method)


class SimmimVitClassifierArguments(BeitArguments):
    use_rel_pos_bias: Literal[True] = True
    use_shared_rel_pos_bias: Literal[False] = False
    use_mean_pooling: Literal[True] = True

    style: ClassVar[dict[str, Any]] = {"style": "beit", "shared_bias": False}
    table: ClassVar[str] = "encoder.blocks.0.attn.relative_position_bias_table"


# ----------------------------------------------------------------------------------------------------- PVT and Twins


class PyramidArguments(Arguments):
    """What PVT's and Twins' constructors share."""

    patch_size: Positive = 4
    embed_dims: _PerStage = (64, 128, 256, 512)
    depths: _PerStage = (3, 4, 6, 3)
    num_heads: _PerStage = (1, 2, 4, 8)
    mlp_ratios: Annotated[tuple[_Whole, ...], Field(strict=False)] = (4, 4, 4, 4)
    sr_ratios: _PerStage = (8, 4, 2, 1)
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
        depths = _depths(shapes, f"{cls.block}.norm1.weight", first)
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
        return Description(encoder=encoder, image_size=_square(self.img_size), classes=self.num_classes or None)


class TwinsArguments(PyramidArguments):
    """Twins-SVT's constructor (ALTGVT)."""

    depths: _PerStage = (4, 4, 4)
    wss: _PerStage = (7, 7, 7)

    embedding: ClassVar[str] = "encoder.patch_embeds.{}"
    block: ClassVar[str] = "encoder.blocks.{}.{}"
    first_stage: ClassVar[int] = 0
    reducing: ClassVar[int] = 1
    undecided: ClassVar[tuple[str, ...]] = ("num_heads", "wss", "img_size")

    def description(self) -> Description:
        encoder = TwinsConfig(**self.shape(), windows=self.wss)
        return Description(encoder=encoder, image_size=_square(self.img_size), classes=self.num_classes or None)


# ------------------------------------------------------------------------------------------------------------ shapes


def _square(side: int) -> tuple[int, int]:
    return side, side


def _count(shapes: Shapes, name: str, *before: int) -> int:
    count = 0
    while name.format(*before, count) in shapes:
        count += 1
    return count


def _depths(shapes: Shapes, name: str, first: int = 0) -> list[int]:
    depths = []
    while depth := _count(shapes, name, first + len(depths)):
        depths.append(depth)
    return depths


def _decoder(shapes: Shapes) -> dict[str, int]:
    width = shapes.get("decoder.embed.weight", (512,))[0]
    return {"width": width, "depth": _count(shapes, "decoder.blocks.{}.norm1.weight")}


def _side_of_the_first_grid(shapes: Shapes) -> int | None:
    """From absolute positions, or from a shifted block's attention mask (windows, tokens, tokens)."""
    if "encoder.absolute_pos_embed" in shapes:
        return isqrt(shapes["encoder.absolute_pos_embed"][1])
    for name, shape in shapes.items():
        if name.endswith(".attn_mask"):
            stage = int(name.split("layers.")[1].split(".")[0])
            return isqrt(shape[0]) * isqrt(shape[1]) * 2**stage
    return None
