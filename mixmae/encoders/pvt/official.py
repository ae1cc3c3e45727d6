"""PVT's official names and constructor, and what it is in OpenMMLab."""

from mixmae.encoders.keys import KeyMap

CLASSIFIER_KEYS = KeyMap(
    renames=(
        (r"((patch_embed|block)[1-4]\..*|pos_embed[1-4]|cls_token|norm\..*)", r"encoder.\1"),
        (r"(head\..*)", r"\1"),
    )
)
