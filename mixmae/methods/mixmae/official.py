"""The released MixMIM's names and constructors (no torch)."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from mixmae.encoders.arguments import PerStage, Shapes, both_sides, decoder_of
from mixmae.encoders.keys import KeyMap
from mixmae.encoders.kinds import Licence, OfficialKind
from mixmae.encoders.swin.official import RECOMPUTED, SwinArguments
from mixmae.fields.model import Positive, Ratio
from mixmae.methods.mixmae.spec import MixmaeConfig

OFFICIAL_KEYS = KeyMap(
    renames=(
        (r"((patch_embed|layers|norm)\..*|absolute_pos_embed)", r"encoder.\1"),
        (r"mask_token", "decoder.mask_token"),
        (r"decoder_((embed|blocks|norm|pred)\..*)", r"decoder.\1"),
    ),
    recomputed=(*RECOMPUTED, r"decoder_pos_embed"),
)
"""models_mixmim.MixMIM."""


OFFICIAL_CLASSIFIER_KEYS = KeyMap(
    renames=(
        (r"((patch_embed|layers|norm)\..*|absolute_pos_embed)", r"encoder.\1"),
        (r"(head\..*)", r"\1"),
    ),
    recomputed=RECOMPUTED,
)
"""models_mixmim_ft.MixMIM."""


class MixmimClassifierArguments(SwinArguments):
    """MixMIM's fine-tuning class; its `ape` is accepted and ignored there too: positions are always sin-cos."""

    ape: bool = True  # type: ignore[assignment]  # wider than Swin's, on purpose
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

    def description(self) -> dict[str, Any]:
        method = MixmaeConfig(
            ratio=self.mask_ratio,
            normalised_target=self.norm_pix_loss,
            decoder_depth=self.decoder_depth,
            decoder_width=self.decoder_dim,
            decoder_heads=self.decoder_num_heads,
            decoder_mlp_ratio=self.mlp_ratio,
            decoder_norm_eps=self.layer_norm_eps,
        )
        return {"encoder": self.encoder(), "image_size": both_sides(self.img_size), "method": method}


_LICENCE = Licence("no licence stated", "unknown", "github.com/Sense-X/MixMIM @2b2f5a9")

KINDS = (
    OfficialKind("mixmae_pretrain", OFFICIAL_KEYS, MixmimArguments, _LICENCE),
    OfficialKind("mixmae_classifier", OFFICIAL_CLASSIFIER_KEYS, MixmimClassifierArguments, _LICENCE),
)
