"""The names of SimMIM's parameters."""

from mixmae.encoders.keys import KeyMap
from mixmae.encoders.swin.official import RECOMPUTED

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
