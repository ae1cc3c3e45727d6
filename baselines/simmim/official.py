"""SimMIM's names and constructors (no torch)."""

from math import isqrt
from typing import Any, ClassVar, Literal

from baselines.simmim.spec import SimmimConfig
from mixmae.encoders.arguments import Shapes, both_sides
from mixmae.encoders.keys import KeyMap
from mixmae.encoders.kinds import Licence, OfficialKind
from mixmae.encoders.swin.official import RECOMPUTED, SwinArguments, SwinClassifierArguments
from mixmae.encoders.vit.official import VitArguments
from mixmae.fields.model import NotNegative, Positive, Ratio

_MASK_TOKEN_AND_DECODER = (
    (r"encoder\.mask_token", "mask_token"),
    (r"decoder\.0\.(weight|bias)", r"decoder.\1"),
)


OFFICIAL_SWIN_KEYS = KeyMap(
    renames=(*_MASK_TOKEN_AND_DECODER, (r"(encoder\.(patch_embed|layers|norm)\..*)", r"\1")),
    recomputed=RECOMPUTED,
)
"""models.simmim.SimMIM(SwinTransformerForSimMIM)."""


OFFICIAL_VIT_KEYS = KeyMap(
    renames=(
        *_MASK_TOKEN_AND_DECODER,
        (r"(encoder\.((patch_embed|blocks|norm|rel_pos_bias)\..*|cls_token))", r"\1"),
    ),
    recomputed=(r"encoder\.rel_pos_bias\.relative_position_index",),
)
"""models.simmim.SimMIM(VisionTransformerForSimMIM)."""


OFFICIAL_SWIN_CLASSIFIER_KEYS = KeyMap(
    renames=(
        (r"((patch_embed|layers|norm)\..*)", r"encoder.\1"),
        (r"(head\..*)", r"\1"),
    ),
    recomputed=RECOMPUTED,
    refused=((r"head\.fc\..*", "timm's naming; import it as timm_swin_classifier"),),
)
"""The Swin that SimMIM fine-tunes: stock, under its authors' names."""


OFFICIAL_VIT_CLASSIFIER_KEYS = KeyMap(
    renames=(
        (r"((patch_embed|blocks)\..*|cls_token)", r"encoder.\1"),
        (r"fc_norm\.(weight|bias)", r"encoder.norm.\1"),
        (r"(head\..*)", r"\1"),
    ),
    recomputed=(r"blocks\.\d+\.attn\.relative_position_index",),
    refused=((r"norm\..*", "a classifier on the class token; this suite classifies the mean over patches (fc_norm)"),),
)
"""The ViT that SimMIM fine-tunes, one relative position bias a block."""


class SimmimSwinArguments(SwinArguments):
    """SimMIM's Swin with its mask token, and the one-layer decoder."""

    num_classes: Literal[0] = 0
    mask_ratio: Ratio = 0.6
    mask_patch_size: Positive = 32

    undecided: ClassVar[tuple[str, ...]] = ("img_size",)

    def description(self) -> dict[str, Any]:
        method = SimmimConfig(ratio=self.mask_ratio, mask_unit=self.mask_patch_size)
        return {"encoder": self.encoder(), "image_size": both_sides(self.img_size), "method": method}


class BeitArguments(VitArguments):
    """The ViT of SimMIM: BEiT blocks with LayerScale and relative position biases."""

    init_values: NotNegative = 0.1
    init_scale: float = 0.001
    use_abs_pos_emb: Literal[False] = False

    table: ClassVar[str]
    """Name of a relative position bias table."""

    @classmethod
    def from_shapes(cls, shapes: Shapes) -> dict[str, Any]:
        arguments = super().from_shapes(shapes)
        rows, heads = shapes[cls.table]
        return {**arguments, "num_heads": heads, "img_size": (isqrt(rows - 3) + 1) // 2 * arguments["patch_size"]}


class SimmimVitArguments(BeitArguments):
    num_classes: Literal[0] = 0
    use_rel_pos_bias: Literal[False] = False
    use_shared_rel_pos_bias: Literal[True] = True
    use_mean_pooling: bool = False
    mask_ratio: Ratio = 0.6
    mask_patch_size: Positive = 32

    style: ClassVar[dict[str, Any]] = {"style": "beit", "shared_bias": True}
    table: ClassVar[str] = "encoder.rel_pos_bias.relative_position_bias_table"

    def description(self) -> dict[str, Any]:
        method = SimmimConfig(ratio=self.mask_ratio, mask_unit=self.mask_patch_size)
        return {"encoder": self.encoder(), "image_size": both_sides(self.img_size), "method": method}


class SimmimVitClassifierArguments(BeitArguments):
    use_rel_pos_bias: Literal[True] = True
    use_shared_rel_pos_bias: Literal[False] = False
    use_mean_pooling: Literal[True] = True

    style: ClassVar[dict[str, Any]] = {"style": "beit", "shared_bias": False}
    table: ClassVar[str] = "encoder.blocks.0.attn.relative_position_bias_table"


_LICENCE = Licence("MIT", "mit", "github.com/microsoft/SimMIM @d3e29bc")

KINDS = (
    OfficialKind("simmim_swin_pretrain", OFFICIAL_SWIN_KEYS, SimmimSwinArguments, _LICENCE),
    OfficialKind("simmim_swin_classifier", OFFICIAL_SWIN_CLASSIFIER_KEYS, SwinClassifierArguments, _LICENCE),
    OfficialKind("simmim_vit_pretrain", OFFICIAL_VIT_KEYS, SimmimVitArguments, _LICENCE),
    OfficialKind("simmim_vit_classifier", OFFICIAL_VIT_CLASSIFIER_KEYS, SimmimVitClassifierArguments, _LICENCE),
)
