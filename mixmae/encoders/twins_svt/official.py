"""Twins-SVT's official names and constructor, and what it is in timm and OpenMMLab (no torch)."""

from typing import Any, ClassVar

from mixmae.encoders.arguments import PerStage, both_sides
from mixmae.encoders.exports import (
    ATTENTION,
    INSTEAD,
    Backbone,
    NotInTimm,
    Rename,
    TimmModel,
    embedding,
    grids,
    not_divided,
    packed,
    padded,
    python_config,
    renamed,
    strides,
    want_eps,
)
from mixmae.encoders.keys import KeyMap
from mixmae.encoders.kinds import Licence, OfficialKind
from mixmae.encoders.pyramid import PyramidArguments
from mixmae.encoders.twins_svt.spec import TwinsConfig

CLASSIFIER_KEYS = KeyMap(
    renames=(
        (r"((patch_embeds|blocks|pos_block|norm)\..*)", r"encoder.\1"),
        (r"(head\..*)", r"\1"),
    )
)
"""The authors' names, which are timm's too."""


class TwinsArguments(PyramidArguments):
    """Twins-SVT's constructor (ALTGVT)."""

    depths: PerStage = (4, 4, 4)
    wss: PerStage = (7, 7, 7)

    embedding: ClassVar[str] = "encoder.patch_embeds.{}"
    block: ClassVar[str] = "encoder.blocks.{}.{}"
    first_stage: ClassVar[int] = 0
    reducing: ClassVar[int] = 1
    undecided: ClassVar[tuple[str, ...]] = ("num_heads", "wss", "img_size")

    def description(self) -> dict[str, Any]:
        encoder = TwinsConfig(**self.shape(), windows=self.wss)
        return {"encoder": encoder, "image_size": both_sides(self.img_size), "classes": self.num_classes or None}


KINDS = (
    OfficialKind(
        "twins_svt_classifier",
        CLASSIFIER_KEYS,
        TwinsArguments,
        Licence("Apache 2.0", "apache-2.0", "github.com/Meituan-AutoML/Twins @c1ff671"),
    ),
    OfficialKind(
        "timm_twins_svt_classifier",
        CLASSIFIER_KEYS,
        TwinsArguments,
        Licence("Apache 2.0", "apache-2.0", "github.com/huggingface/pytorch-image-models @aa4b585 (twins.py)"),
    ),
)

# ---------------------------------------------------------------------------------------------------------------- timm


_TWINS: dict[tuple[int, tuple[int, ...]], str] = {
    (64, (2, 2, 10, 4)): "twins_svt_small",
    (128, (2, 2, 18, 2)): "twins_svt_large",
}


def timm_model(encoder: TwinsConfig, image_size: tuple[int, int]) -> TimmModel:
    want_eps(encoder.norm_eps, 1e-6)
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
    stage_grids = grids(encoder, image_size)
    warnings = [padded(stage, grid, w) for stage, grid, w in not_divided(stage_grids, encoder.windows, cut=False)]
    entry = _TWINS.get((encoder.widths[0], encoder.depths), "twins_svt_base")
    return TimmModel(entry, arguments, CLASSIFIER_KEYS, warnings)


# ----------------------------------------------------------------------------------------------------------- OpenMMLab


_TWINS_MLP: tuple[Rename, ...] = (
    (r"mlp\.fc1\.(.*)", r"ffn.layers.0.0.\1"),
    (r"mlp\.fc2\.(.*)", r"ffn.layers.1.\1"),
)
_TWINS_LOCAL: tuple[Rename, ...] = (*_TWINS_MLP, (r"(attn\.(qkv|proj)\..*|norm[12]\..*)", r"\1"))


def openmmlab_backbone(encoder: TwinsConfig, image_size: tuple[int, int], state: dict[str, Any]) -> Backbone:
    last = encoder.stages - 1
    tensors = {}
    for name, tensor in packed(state).items():
        parts = name.split(".", 3)
        if parts[0] == "patch_embeds":
            stage, rest = name.split(".", 2)[1:]
            tensors[f"patch_embeds.{stage}.{embedding(rest)}"] = tensor
        elif parts[0] == "pos_block":
            tensors[f"position_encodings.{parts[1]}.proj.{name.rpartition('.')[2]}"] = tensor
        elif parts[0] == "norm":
            tensors[f"norm_list.{last}.{parts[1]}"] = tensor
        else:
            stage, number, inner = parts[1:]
            renames = (*_TWINS_MLP, *ATTENTION) if int(number) % 2 else _TWINS_LOCAL
            tensors[f"layers.{stage}.{number}.{renamed(inner, renames)}"] = tensor
    fields = {
        "type": "SVT",
        "embed_dims": encoder.widths,
        "patch_sizes": strides(encoder),
        "strides": strides(encoder),
        "num_heads": encoder.heads,
        "mlp_ratios": encoder.mlp_ratios,
        "out_indices": tuple(range(encoder.stages)),
        "qkv_bias": True,
        "depths": encoder.depths,
        "sr_ratios": encoder.sr_ratios,
        "windiow_sizes": encoder.windows,
        "norm_after_stage": True,
    }
    notes = [
        "`windiow_sizes` is how mmseg spells it.",
        f"mixmae has no norms after the other stages (norm_list.0 to norm_list.{last - 1}): they start fresh.",
        f"mmseg's blocks have norms of eps 1e-05 whatever the config says; here {encoder.norm_eps:g}.",
    ]
    return Backbone(tensors, python_config(fields), notes)
