"""The names of the released MixMIM's parameters."""

from mixmae.encoders.keys import KeyMap
from mixmae.encoders.swin.official import RECOMPUTED

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
