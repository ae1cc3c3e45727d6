"""Swin's official names and constructors, and what it is in timm and OpenMMLab."""

import re

from mixmae.encoders.keys import KeyMap

RECOMPUTED = (r"(.*\.)?layers\.\d+\.blocks\.\d+\.(attn\.relative_position_index|attn_mask)",)
"""Buffers of the official classes that a layout here stands for."""


def _merging_before(match: re.Match) -> str:
    """timm puts a patch merging at the start of the stage after it."""
    return f"encoder.layers.{int(match[1]) - 1}.downsample.{match[2]}"


TIMM_CLASSIFIER_KEYS = KeyMap(
    renames=(
        (r"layers\.(\d+)\.downsample\.(.*)", _merging_before),
        (r"((patch_embed|layers|norm)\..*)", r"encoder.\1"),
        (r"head\.fc\.(weight|bias)", r"head.\1"),
    ),
    recomputed=RECOMPUTED,
    refused=(
        (r"layers\.0\.downsample\..*", "timm's first stage has no patch merging; import it as simmim_swin_classifier"),
        (r"absolute_pos_embed", "stock Swin without absolute positions only"),
    ),
)
