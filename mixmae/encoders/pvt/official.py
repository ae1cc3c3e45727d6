"""PVT's official names and constructor, and what it is in OpenMMLab (no torch)."""

from math import isqrt
from typing import Any, ClassVar, Literal

from mixmae.encoders.arguments import Shapes, both_sides
from mixmae.encoders.exports import (
    ATTENTION,
    Backbone,
    NotInOpenMMLab,
    Rename,
    embedding,
    packed,
    python_config,
    renamed,
    strides,
)
from mixmae.encoders.keys import KeyMap
from mixmae.encoders.kinds import Licence, OfficialKind
from mixmae.encoders.pvt.spec import PvtConfig
from mixmae.encoders.pyramid import PyramidArguments

CLASSIFIER_KEYS = KeyMap(
    renames=(
        (r"((patch_embed|block)[1-4]\..*|pos_embed[1-4]|cls_token|norm\..*)", r"encoder.\1"),
        (r"(head\..*)", r"\1"),
    )
)


class PvtArguments(PyramidArguments):
    """PVT v1's constructor; its classifier reads a class token of the last stage."""

    num_stages: Literal[4] = 4
    F4: bool = False

    embedding: ClassVar[str] = "encoder.patch_embed{}"
    block: ClassVar[str] = "encoder.block{}.{}"
    first_stage: ClassVar[int] = 1
    reducing: ClassVar[int] = 0
    undecided: ClassVar[tuple[str, ...]] = ("num_heads",)

    @classmethod
    def from_shapes(cls, shapes: Shapes) -> dict[str, Any]:
        arguments = super().from_shapes(shapes)
        return {**arguments, "img_size": isqrt(shapes["encoder.pos_embed1"][1]) * arguments["patch_size"]}

    def description(self) -> dict[str, Any]:
        encoder = PvtConfig(**self.shape(), class_token=True)
        return {"encoder": encoder, "image_size": both_sides(self.img_size), "classes": self.num_classes or None}


KINDS = (
    OfficialKind(
        "pvt_classifier",
        CLASSIFIER_KEYS,
        PvtArguments,
        Licence("Apache 2.0", "apache-2.0", "github.com/whai362/PVT @57e2dfa"),
    ),
)

# ----------------------------------------------------------------------------------------------------------- OpenMMLab


_PVT_BLOCK: tuple[Rename, ...] = (
    *ATTENTION,
    (r"mlp\.fc1\.(.*)", r"ffn.layers.0.\1"),
    (r"mlp\.fc2\.(.*)", r"ffn.layers.3.\1"),
)


def openmmlab_backbone(encoder: PvtConfig, image_size: tuple[int, int], state: dict[str, Any]) -> Backbone:
    base = encoder.widths[0] // encoder.heads[0]
    if encoder.widths != tuple(base * heads for heads in encoder.heads):
        raise NotInOpenMMLab("mmdet's PyramidVisionTransformer has widths in proportion to its heads, this one has not")
    tensors = {}
    for name, tensor in packed(state).items():
        kind, _, rest = name.partition(".")
        stage = int(kind[-1]) - 1 if kind[-1].isdigit() else 0
        if name.startswith("patch_embed"):
            tensors[f"layers.{stage}.0.{embedding(rest)}"] = tensor
        elif name.startswith("pos_embed"):
            side = encoder.patch_size * 2**stage
            tokens = (image_size[0] // side) * (image_size[1] // side)
            tensors[f"layers.{stage}.1.0.pos_embed"] = tensor[:, -tokens:].contiguous()
        elif name.startswith("block"):
            number, _, inner = rest.partition(".")
            theirs = renamed(inner, _PVT_BLOCK)
            as_convolution = inner.startswith("mlp.") and inner.endswith("weight")
            tensors[f"layers.{stage}.1.{int(number) + 1}.{theirs}"] = (
                tensor[:, :, None, None] if as_convolution else tensor
            )
    fields = {
        "type": "PyramidVisionTransformer",
        "pretrain_img_size": image_size,
        "embed_dims": base,
        "num_stages": encoder.stages,
        "num_layers": encoder.depths,
        "num_heads": encoder.heads,
        "patch_sizes": strides(encoder),
        "strides": strides(encoder),
        "paddings": (0,) * encoder.stages,
        "sr_ratios": encoder.sr_ratios,
        "out_indices": tuple(range(encoder.stages)),
        "mlp_ratios": encoder.mlp_ratios,
        "norm_cfg": {"type": "LN", "eps": encoder.norm_eps},
        "convert_weights": False,
    }
    notes = [
        "mmdet's PVT has no norm after the last stage: `norm` is left out, and the last output is not normed.",
        f"mmdet gives all norms one eps; those of patch embeddings and reduced keys have 1e-05 here, not "
        f"{encoder.norm_eps:g}.",
    ]
    if encoder.class_token:
        notes.append("The class token and its position do not exist there and are left out; outputs differ.")
    return Backbone(tensors, python_config(fields), notes)
