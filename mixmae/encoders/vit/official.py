"""ViT's official constructors, and what it is in timm (no torch).

The names under which weights were published are those of the methods that trained them; timm's are MAE's.
"""

from math import isqrt
from typing import Annotated, Any, ClassVar

from pydantic import Field

from mixmae.encoders.arguments import Arguments, Shapes, Whole, both_sides, count
from mixmae.encoders.exports import INSTEAD, NotInTimm, TimmModel, want_eps
from mixmae.encoders.keys import KeyMap
from mixmae.encoders.vit.spec import VitConfig
from mixmae.fields.model import NotNegative, Positive

CLASSIFIER_KEYS = KeyMap(
    renames=(
        (r"((patch_embed|blocks)\..*|cls_token|pos_embed)", r"encoder.\1"),
        (r"fc_norm\.(weight|bias)", r"encoder.norm.\1"),
        (r"(head\..*)", r"\1"),
    ),
    refused=((r"norm\..*", "a classifier on the class token; this suite classifies the mean over patches (fc_norm)"),),
)
"""models_vit.VisionTransformer with global_pool."""


class VitArguments(Arguments):
    patch_size: Positive = 16
    embed_dim: Positive = 768
    depth: Positive = 12
    num_heads: Positive = 12
    mlp_ratio: Whole = 4
    num_classes: Annotated[int, Field(ge=0)] = 1000
    layer_norm_eps: NotNegative = 1e-6

    style: ClassVar[dict[str, Any]] = {"style": "mae"}

    @classmethod
    def from_shapes(cls, shapes: Shapes) -> dict[str, Any]:
        width, _, patch, _ = shapes["encoder.patch_embed.proj.weight"]
        arguments = {
            "patch_size": patch,
            "embed_dim": width,
            "depth": count(shapes, "encoder.blocks.{}.norm1.weight"),
            "mlp_ratio": shapes["encoder.blocks.0.mlp.fc1.weight"][0] // width,
        }
        if "encoder.pos_embed" in shapes:
            arguments["img_size"] = isqrt(shapes["encoder.pos_embed"][1] - 1) * patch
        if "head.weight" in shapes:
            arguments["num_classes"] = shapes["head.weight"][0]
        return arguments

    def encoder(self) -> VitConfig:
        return VitConfig(
            patch_size=self.patch_size,
            width=self.embed_dim,
            depth=self.depth,
            heads=self.num_heads,
            mlp_ratio=self.mlp_ratio,
            norm_eps=self.layer_norm_eps,
            **self.style,
        )

    def description(self) -> dict[str, Any]:
        return {"encoder": self.encoder(), "image_size": both_sides(self.img_size), "classes": self.num_classes or None}


# ---------------------------------------------------------------------------------------------------------------- timm


_VITS = {(384, 12): "vit_small_patch16_224", (1024, 24): "vit_large_patch16_224"}


def timm_model(encoder: VitConfig, image_size: tuple[int, int]) -> TimmModel:
    if encoder.style != "mae":
        raise NotInTimm(f"this ViT is of style {encoder.style}; timm's BEiT has other parameters; {INSTEAD}")
    want_eps(encoder.norm_eps, 1e-6)
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
    return TimmModel(entry, arguments, CLASSIFIER_KEYS, [])
