"""Twins-SVT's official names and constructors, and what it is in timm and OpenMMLab."""

from mixmae.encoders.keys import KeyMap

CLASSIFIER_KEYS = KeyMap(
    renames=(
        (r"((patch_embeds|blocks|pos_block|norm)\..*)", r"encoder.\1"),
        (r"(head\..*)", r"\1"),
    )
)
"""The authors' names, which are timm's too."""
