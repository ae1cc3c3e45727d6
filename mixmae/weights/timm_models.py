"""Our encoders and classifiers as timm's models: which are the same, the call that makes them, and timm's names.

Names come from the importer's key maps, read the other way.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import timm
import torch
from torch import Tensor, nn

from mixmae.encoders.config import SwinConfig, TwinsConfig, VitConfig
from mixmae.weights.description import Description
from mixmae.weights.official import official_names

INSTEAD = "write --to safetensors, which keeps all of it"

_SWINS = {
    (96, (2, 2, 6, 2)): "swin_tiny_patch4_window7_224",
    (96, (2, 2, 18, 2)): "swin_small_patch4_window7_224",
    (192, (2, 2, 18, 2)): "swin_large_patch4_window7_224",
}
_TWINS = {(64, (2, 2, 10, 4)): "twins_svt_small", (128, (2, 2, 18, 2)): "twins_svt_large"}
_VITS = {(384, 12): "vit_small_patch16_224", (1024, 24): "vit_large_patch16_224"}


class NotInTimm(ValueError):
    """timm has no model that computes the same; the message says why and what to write instead."""


@dataclass(frozen=True)
class TimmModel:
    """entry, arguments: `timm.create_model(entry, **arguments)` is the model. kind: of the key map of its names.

    warnings: where timm computes otherwise for all that.
    """

    entry: str
    arguments: dict[str, Any]
    kind: str
    warnings: list[str]

    @property
    def call(self) -> str:
        """The arguments of `timm.create_model` as Python."""
        return ", ".join([repr(self.entry), *(f"{name}={value!r}" for name, value in self.arguments.items())])

    def empty(self) -> nn.Module:
        """The model without memory for its weights (on the meta device)."""
        with torch.device("meta"):
            return timm.create_model(self.entry, **self.arguments)

    def tensors(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Our state (names `encoder.*`, `head.*`) under timm's names, every tensor of it, in timm's order."""
        wanted = self.empty().state_dict()
        theirs = official_names(self.kind, list(wanted))
        if wrong := sorted(theirs.keys() ^ state.keys()):
            raise NotInTimm(f"timm's {self.entry} and this model differ in {', '.join(wrong[:5])}; {INSTEAD}")
        found = {theirs[ours]: tensor.contiguous() for ours, tensor in state.items()}
        if odd := [name for name, tensor in wanted.items() if tensor.shape != found[name].shape]:
            raise NotInTimm(f"timm's {self.entry} has other shapes of {', '.join(odd[:5])}; {INSTEAD}")
        return {name: found[name] for name in wanted}


def timm_model(description: Description) -> TimmModel:
    """timm's model of an encoder or a classifier. Raises NotInTimm where there is none."""
    if description.method is not None:
        raise NotInTimm("timm has no pretraining methods; write --encoder-only")
    encoder = description.encoder
    if isinstance(encoder, SwinConfig):
        model = _swin(encoder, description.image_size)
    elif isinstance(encoder, TwinsConfig):
        model = _twins(encoder, description.image_size)
    elif isinstance(encoder, VitConfig):
        model = _vit(encoder, description.image_size)
    else:
        raise NotInTimm(f"timm has PVT of version 2 only, this is version 1; {INSTEAD}")
    model.arguments["num_classes"] = description.classes or 0
    return model


# -------------------------------------------------------------------------------------------------------------- Swin


def _swin(encoder: SwinConfig, image_size: tuple[int, int]) -> TimmModel:
    if encoder.positions != "none":
        raise NotInTimm(f"timm's Swin has no absolute positions, this one has {encoder.positions}; {INSTEAD}")
    _want_eps(encoder.norm_eps, 1e-5)
    width, ratio = encoder.widths[0], encoder.mlp_ratios[0]
    if encoder.widths != tuple(width * 2**stage for stage in range(encoder.stages)) or set(encoder.mlp_ratios) != {
        ratio
    }:
        raise NotInTimm(f"timm's Swin doubles its width and has one MLP ratio, this one does not; {INSTEAD}")
    grids = _grids(encoder, image_size)
    arguments = {
        "img_size": image_size,
        "patch_size": encoder.patch_size,
        "window_size": _one_window(encoder, grids),
        "embed_dim": width,
        "depths": encoder.depths,
        "num_heads": encoder.heads,
        "mlp_ratio": ratio,
    }
    warnings = [_padded(stage, grid, w) for stage, grid, w in _not_divided(grids, encoder.windows)]
    entry = _SWINS.get((width, encoder.depths), "swin_base_patch4_window7_224")
    return TimmModel(entry, arguments, "timm_swin_classifier", warnings)


def _one_window(encoder: SwinConfig, grids: list[tuple[int, int]]) -> int:
    """The one window that timm cuts to every stage's window. Raises NotInTimm where there is none."""
    used = [min(window, *grid) for window, grid in zip(encoder.windows, grids, strict=True)]
    one = max(used)
    for window, grid, depth in zip(used, grids, encoder.depths, strict=True):
        if min(one, *grid) != window:
            listed = ", ".join(str(window) for window in used)
            raise NotInTimm(f"timm's stock Swin has one window in all stages, this one has {listed}; {INSTEAD}")
        if one >= min(grid) and grid[0] != grid[1]:
            what = f"a window of {one} is cut to a rectangle in a {grid[0]} × {grid[1]} grid by timm, to a square here"
            raise NotInTimm(f"{what}; {INSTEAD}")
        if not encoder.shift and depth > 1 and one < min(grid):
            raise NotInTimm(f"timm's Swin shifts its windows, this one does not; {INSTEAD}")
    return one


# ----------------------------------------------------------------------------------------------------- Twins and ViT


def _twins(encoder: TwinsConfig, image_size: tuple[int, int]) -> TimmModel:
    _want_eps(encoder.norm_eps, 1e-6)
    if 1 in encoder.windows:
        raise NotInTimm(f"a window of 1 means global attention in timm; {INSTEAD}")
    arguments = {
        "img_size": image_size,
        "patch_size": encoder.patch_size,
        "embed_dims": encoder.widths,
        "depths": encoder.depths,
        "num_heads": encoder.heads,
        "mlp_ratios": encoder.mlp_ratios,
        "wss": encoder.windows,
        "sr_ratios": encoder.sr_ratios,
    }
    grids = _grids(encoder, image_size)
    warnings = [_padded(stage, grid, w) for stage, grid, w in _not_divided(grids, encoder.windows, cut=False)]
    entry = _TWINS.get((encoder.widths[0], encoder.depths), "twins_svt_base")
    return TimmModel(entry, arguments, "timm_twins_svt_classifier", warnings)


def _vit(encoder: VitConfig, image_size: tuple[int, int]) -> TimmModel:
    if encoder.style != "mae":
        raise NotInTimm(f"this ViT is of style {encoder.style}; timm's BEiT has other parameters; {INSTEAD}")
    _want_eps(encoder.norm_eps, 1e-6)
    arguments = {
        "img_size": image_size,
        "patch_size": encoder.patch_size,
        "embed_dim": encoder.width,
        "depth": encoder.depth,
        "num_heads": encoder.heads,
        "mlp_ratio": encoder.mlp_ratio,
        "class_token": True,
        "global_pool": "avg",
    }
    entry = _VITS.get((encoder.width, encoder.depth), "vit_base_patch16_224")
    return TimmModel(entry, arguments, "mae_vit_classifier", [])


# ------------------------------------------------------------------------------------------------------------ shared


def _want_eps(eps: float, wanted: float) -> None:
    if eps != wanted:
        raise NotInTimm(f"the norms of timm's entry points have eps {wanted:g}, these have {eps:g}; {INSTEAD}")


def _grids(encoder: SwinConfig | TwinsConfig, image_size: tuple[int, int]) -> list[tuple[int, int]]:
    sides = [encoder.patch_size * 2**stage for stage in range(encoder.stages)]
    return [(image_size[0] // side, image_size[1] // side) for side in sides]


def _not_divided(
    grids: list[tuple[int, int]], windows: tuple[int, ...], cut: bool = True
) -> Iterator[tuple[int, tuple[int, int], int]]:
    """(stage, grid, window) where a window, cut to the grid before that or not, does not divide the grid."""
    for stage, (grid, window) in enumerate(zip(grids, windows, strict=True)):
        side = min(window, *grid) if cut else window
        if grid[0] % side or grid[1] % side:
            yield stage, grid, side


def _padded(stage: int, grid: tuple[int, int], window: int) -> str:
    where = f"stage {stage + 1}: windows of {window} do not divide the {grid[0]} × {grid[1]} grid"
    return f"{where}; timm pads there, mixmae does not, so the outputs differ"
