"""Swin's official names and constructors, and what it is in timm and OpenMMLab (no torch)."""

import re
from math import isqrt
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from mixmae.encoders.arguments import Arguments, PerStage, Shapes, Whole, both_sides, depths_of
from mixmae.encoders.exports import (
    INSTEAD,
    Backbone,
    NotInOpenMMLab,
    NotInTimm,
    Rename,
    TimmModel,
    grids,
    not_divided,
    padded,
    python_config,
    renamed,
    strides,
    want_eps,
)
from mixmae.encoders.keys import KeyMap
from mixmae.encoders.kinds import Licence, OfficialKind
from mixmae.encoders.swin.spec import SwinConfig
from mixmae.fields.model import NotNegative, Positive

RECOMPUTED = (r"(.*\.)?layers\.\d+\.blocks\.\d+\.(attn\.relative_position_index|attn_mask)",)
"""Buffers of the official classes that a layout here stands for."""


def _merging_before(match: re.Match) -> str:
    """Renames a patch merging, which timm puts at the start of the stage after it."""
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


# --------------------------------------------------------------------------------------------------------- constructors


class SwinArguments(Arguments):
    """Swin's constructor. `window_size`: one for all stages, or one each (MixMIM's)."""

    patch_size: Positive = 4
    embed_dim: Positive = 96
    depths: PerStage = (2, 2, 6, 2)
    num_heads: PerStage = (3, 6, 12, 24)
    window_size: Positive | PerStage = 7
    mlp_ratio: Whole = 4
    ape: Literal[False] = False
    patch_norm: Literal[True] = True
    use_checkpoint: bool = False
    num_classes: Annotated[int, Field(ge=0)] = 1000
    layer_norm_eps: NotNegative = 1e-5

    kind_of_swin: ClassVar[dict[str, Any]] = {"shift": True, "positions": "none"}

    @classmethod
    def from_shapes(cls, shapes: Shapes) -> dict[str, Any]:
        depths = depths_of(shapes, "encoder.layers.{}.blocks.{}.norm1.weight")
        tables = [shapes[f"encoder.layers.{s}.blocks.0.attn.relative_position_bias_table"] for s in range(len(depths))]
        width, _, patch, _ = shapes["encoder.patch_embed.proj.weight"]
        arguments = {
            "patch_size": patch,
            "embed_dim": width,
            "depths": depths,
            "num_heads": [heads for _, heads in tables],
            "window_size": [(isqrt(rows) + 1) // 2 for rows, _ in tables],
            "mlp_ratio": shapes["encoder.layers.0.blocks.0.mlp.fc1.weight"][0] // width,
        }
        if side := _side_of_the_first_grid(shapes):
            arguments["img_size"] = side * patch
        if "head.weight" in shapes:
            arguments["num_classes"] = shapes["head.weight"][0]
        return arguments

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

    def description(self) -> dict[str, Any]:
        return {"encoder": self.encoder(), "image_size": both_sides(self.img_size), "classes": self.num_classes or None}


class SwinClassifierArguments(SwinArguments):
    """Stock Swin, as its authors, SimMIM and timm construct it."""

    global_pool: Literal["avg"] = "avg"

    undecided: ClassVar[tuple[str, ...]] = ("img_size",)


def _side_of_the_first_grid(shapes: Shapes) -> int | None:
    """Reads the side in tokens from absolute positions, or from a shifted block's mask (windows, tokens, tokens)."""
    if "encoder.absolute_pos_embed" in shapes:
        return isqrt(shapes["encoder.absolute_pos_embed"][1])
    for name, shape in shapes.items():
        if name.endswith(".attn_mask"):
            stage = int(name.split("layers.")[1].split(".")[0])
            return isqrt(shape[0]) * isqrt(shape[1]) * 2**stage
    return None


KINDS = (
    OfficialKind(
        "timm_swin_classifier",
        TIMM_CLASSIFIER_KEYS,
        SwinClassifierArguments,
        Licence("MIT", "mit", "github.com/huggingface/pytorch-image-models @aa4b585 (swin_transformer.py)"),
    ),
)

# ---------------------------------------------------------------------------------------------------------------- timm


_SWINS: dict[tuple[int, tuple[int, ...]], str] = {
    (96, (2, 2, 6, 2)): "swin_tiny_patch4_window7_224",
    (96, (2, 2, 18, 2)): "swin_small_patch4_window7_224",
    (192, (2, 2, 18, 2)): "swin_large_patch4_window7_224",
}


def timm_model(encoder: SwinConfig, image_size: tuple[int, int]) -> TimmModel:
    if encoder.positions != "none":
        raise NotInTimm(f"timm's Swin has no absolute positions, this one has {encoder.positions}; {INSTEAD}")
    want_eps(encoder.norm_eps, 1e-5)
    width, ratio = encoder.widths[0], encoder.mlp_ratios[0]
    if encoder.widths != tuple(width * 2**stage for stage in range(encoder.stages)) or set(encoder.mlp_ratios) != {
        ratio
    }:
        raise NotInTimm(f"timm's Swin doubles its width and has one MLP ratio, this one does not; {INSTEAD}")
    assert isinstance(encoder.windows, tuple), "resolved"
    stage_grids = grids(encoder, image_size)
    arguments = {
        "img_size": image_size,
        "patch_size": encoder.patch_size,
        "window_size": _one_window(encoder, encoder.windows, stage_grids),
        "embed_dim": width,
        "depths": encoder.depths,
        "num_heads": encoder.heads,
        "mlp_ratio": ratio,
    }
    warnings = [padded(stage, grid, w) for stage, grid, w in not_divided(stage_grids, encoder.windows)]
    entry = _SWINS.get((width, encoder.depths), "swin_base_patch4_window7_224")
    return TimmModel(entry, arguments, TIMM_CLASSIFIER_KEYS, warnings)


def _one_window(encoder: SwinConfig, windows: tuple[int, ...], stage_grids: list[tuple[int, int]]) -> int:
    """Returns the one window that timm cuts to every stage's window. Raises NotInTimm where there is none."""
    used = [min(window, *grid) for window, grid in zip(windows, stage_grids, strict=True)]
    side = max(used)
    for window, grid, depth in zip(used, stage_grids, encoder.depths, strict=True):
        if min(side, *grid) != window:
            listed = ", ".join(str(window) for window in used)
            raise NotInTimm(f"timm's stock Swin has one window in all stages, this one has {listed}; {INSTEAD}")
        if side >= min(grid) and grid[0] != grid[1]:
            what = f"a window of {side} is cut to a rectangle in a {grid[0]} × {grid[1]} grid by timm, to a square here"
            raise NotInTimm(f"{what}; {INSTEAD}")
        if not encoder.shift and depth > 1 and side < min(grid):
            raise NotInTimm(f"timm's Swin shifts its windows, this one does not; {INSTEAD}")
    return side


# ----------------------------------------------------------------------------------------------------------- OpenMMLab


_SWIN: tuple[Rename, ...] = (
    (r"patch_embed\.proj\.(.*)", r"patch_embed.projection.\1"),
    (r"(patch_embed\.norm\..*)", r"\1"),
    (r"layers\.(\d+\.blocks\.\d+\.)attn\.(.*)", r"stages.\1attn.w_msa.\2"),
    (r"layers\.(\d+\.blocks\.\d+\.)mlp\.fc1\.(.*)", r"stages.\1ffn.layers.0.0.\2"),
    (r"layers\.(\d+\.blocks\.\d+\.)mlp\.fc2\.(.*)", r"stages.\1ffn.layers.1.\2"),
    (r"layers\.(\d+\.(blocks\.\d+\.norm[12]|downsample\.(norm|reduction))\..*)", r"stages.\1"),
)


def openmmlab_backbone(encoder: SwinConfig, image_size: tuple[int, int], state: dict[str, Any]) -> Backbone:
    width, ratio, last = encoder.widths[0], encoder.mlp_ratios[0], encoder.stages - 1
    if encoder.widths != tuple(width * 2**stage for stage in range(last + 1)) or set(encoder.mlp_ratios) != {ratio}:
        raise NotInOpenMMLab("mmdet's SwinTransformer doubles its width and has one MLP ratio, this one does not")
    tensors = {}
    for name, tensor in state.items():
        if name == "absolute_pos_embed":
            continue
        if ".downsample." in name:
            tensor = unfold_order(tensor)
        theirs = f"norm{last}.{name[5:]}" if name.startswith("norm.") else renamed(name, _SWIN)
        tensors[f"backbone.{theirs}"] = tensor.contiguous()
    window = max(_windows(encoder, image_size))
    fields = {
        "type": "SwinTransformer",
        "pretrain_img_size": image_size,
        "patch_size": encoder.patch_size,
        "embed_dims": width,
        "depths": encoder.depths,
        "num_heads": encoder.heads,
        "strides": strides(encoder),
        "out_indices": tuple(range(last + 1)),
        "mlp_ratio": ratio,
        "window_size": window,
        "norm_cfg": {"type": "LN", "eps": encoder.norm_eps},
    }
    return Backbone(tensors, python_config(fields), _swin_notes(encoder, image_size, window))


def _windows(encoder: SwinConfig, image_size: tuple[int, int]) -> list[int]:
    """Returns the windows as trained: cut to the grid."""
    assert isinstance(encoder.windows, tuple), "resolved"
    units = [min(image_size) // (encoder.patch_size * 2**stage) for stage in range(encoder.stages)]
    return [min(window, unit) for window, unit in zip(encoder.windows, units, strict=True)]


def _swin_notes(encoder: SwinConfig, image_size: tuple[int, int], window: int) -> list[str]:
    notes = [
        "mmdet reads the names under `backbone.`; mmpretrain and mmseg want `prefix='backbone'` in `init_cfg`.",
        f"The norms of the outputs before the last (norm0 to norm{encoder.stages - 2}) do not exist in mixmae: they "
        "start fresh.",
    ]
    used = _windows(encoder, image_size)
    if set(used) != {window}:
        listed = ", ".join(str(side) for side in used)
        notes.append(
            f"mmdet's Swin has one window in all stages; these weights were trained with {listed}. Its loader resizes "
            f"the bias tables to {window} bicubically, and outputs differ."
        )
    if not encoder.shift:
        notes.append("mmdet's Swin shifts every second block's windows; these weights were trained without shifts.")
    if encoder.positions != "none":
        notes.append("The fixed sin-cos positions are left out: mmdet's Swin cannot load absolute positions.")
    notes.append("Where windows do not divide the grid mmdet pads, mixmae does not, and outputs differ.")
    return notes


def unfold_order(tensor: Any) -> Any:
    """Brings a patch merging's norm (4C,) or reduction (out, 4C) from our order of channels to that of nn.Unfold.

    Ours: four blocks of C for the offsets (row, column) (0,0), (1,0), (0,1), (1,1). nn.Unfold: for each channel its
    four offsets row by row.
    """
    merged = tensor.unflatten(-1, (2, 2, -1))  # column, row, channel
    return merged.movedim(-1, -3).transpose(-1, -2).flatten(-3)
