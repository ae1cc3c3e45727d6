"""MAE's and GreenMIM's names and constructors (no torch)."""

from math import isqrt
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from baselines.mae.spec import MaeConfig
from mixmae.encoders.arguments import Shapes, Whole, both_sides, decoder_of
from mixmae.encoders.keys import KeyMap
from mixmae.encoders.kinds import Licence, OfficialKind
from mixmae.encoders.swin.official import RECOMPUTED, SwinArguments
from mixmae.encoders.vit.official import CLASSIFIER_KEYS, VitArguments
from mixmae.fields.model import Model, NotNegative, Positive, Ratio

_DECODER = ((r"mask_token", "decoder.mask_token"), (r"decoder_((embed|blocks|norm|pred)\..*)", r"decoder.\1"))


OFFICIAL_VIT_KEYS = KeyMap(
    renames=(*_DECODER, (r"((patch_embed|blocks|norm)\..*|cls_token|pos_embed)", r"encoder.\1")),
    recomputed=(r"decoder_pos_embed",),
)
"""models_mae.MaskedAutoencoderViT."""


OFFICIAL_SWIN_KEYS = KeyMap(
    renames=(*_DECODER, (r"(encoder\.(patch_embed|layers|norm)\..*)", r"\1")),
    recomputed=(*RECOMPUTED, r"decoder_pos_embed"),
)
"""GreenMIM's MaskedAutoencoder(SwinTransformer)."""


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

    def description(self) -> dict[str, Any]:
        method = MaeConfig(
            ratio=self.mask_ratio,
            normalised_target=self.norm_pix_loss,
            decoder_depth=self.decoder_depth,
            decoder_width=self.decoder_embed_dim,
            decoder_heads=self.decoder_num_heads,
            decoder_mlp_ratio=self.mlp_ratio,
            decoder_norm_eps=self.layer_norm_eps,
        )
        return {"encoder": self.encoder(), "image_size": both_sides(self.img_size), "method": method}


class MaeVitClassifierArguments(VitArguments):
    """MAE's fine-tuning class; on the class token (`global_pool` off) is not what this suite fine-tunes."""

    global_pool: Literal[True] = True

    undecided: ClassVar[tuple[str, ...]] = ("num_heads",)


class GreenmimDecoder(Model):
    """The decoder's arguments of GreenMIM's MaskedAutoencoder, whose encoder is an argument too."""

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
        arguments = super().from_shapes(shapes)
        stages = len(arguments["depths"])
        if "decoder_pos_embed" in shapes:
            arguments["img_size"] = isqrt(shapes["decoder_pos_embed"][1]) * arguments["patch_size"] * 2 ** (stages - 1)
        return arguments

    def description(self) -> dict[str, Any]:
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
        return {"encoder": self.encoder(), "image_size": both_sides(self.img_size), "method": method}


_LICENCE = Licence("CC-BY-NC 4.0", "cc-by-nc-4.0", "github.com/facebookresearch/mae @efb2a80")

KINDS = (
    OfficialKind("mae_vit_pretrain", OFFICIAL_VIT_KEYS, MaeVitArguments, _LICENCE),
    OfficialKind("mae_vit_classifier", CLASSIFIER_KEYS, MaeVitClassifierArguments, _LICENCE),
    OfficialKind(
        "mae_swin_pretrain",
        OFFICIAL_SWIN_KEYS,
        GreenmimArguments,
        Licence("CC-BY-NC 4.0", "cc-by-nc-4.0", "github.com/LayneH/GreenMIM @b981012"),
    ),
)
