"""Our encoders under the names of OpenMMLab's backbones, for detection and segmentation with its frameworks.

Names and layouts: mmdetection's SwinTransformer and PyramidVisionTransformer (mmdet/models/backbones/swin.py @09269cf
and pvt.py @0c51592), mmsegmentation's SVT (mmseg/models/backbones/twins.py @0c87f7a). Their loaders keep what they
know and pass over the rest, so what a file leaves out is said in `notes`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mixmae.encoders.config import PvtConfig, SwinConfig, TwinsConfig
from mixmae.weights.description import Description

Rename = tuple[str, str]

_SWIN: tuple[Rename, ...] = (
    (r"patch_embed\.proj\.(.*)", r"patch_embed.projection.\1"),
    (r"(patch_embed\.norm\..*)", r"\1"),
    (r"layers\.(\d+\.blocks\.\d+\.)attn\.(.*)", r"stages.\1attn.w_msa.\2"),
    (r"layers\.(\d+\.blocks\.\d+\.)mlp\.fc1\.(.*)", r"stages.\1ffn.layers.0.0.\2"),
    (r"layers\.(\d+\.blocks\.\d+\.)mlp\.fc2\.(.*)", r"stages.\1ffn.layers.1.\2"),
    (r"layers\.(\d+\.(blocks\.\d+\.norm[12]|downsample\.(norm|reduction))\..*)", r"stages.\1"),
)
_ATTENTION: tuple[Rename, ...] = (
    (r"attn\.proj\.(.*)", r"attn.attn.out_proj.\1"),
    (r"(attn\.(sr|norm)\..*)", r"\1"),
    (r"(norm[12]\..*)", r"\1"),
)
"""Of a block whose attention is PyTorch's over reduced keys; queries, keys and values are packed apart."""
_PVT_BLOCK: tuple[Rename, ...] = (
    *_ATTENTION,
    (r"mlp\.fc1\.(.*)", r"ffn.layers.0.\1"),
    (r"mlp\.fc2\.(.*)", r"ffn.layers.3.\1"),
)
_TWINS_MLP: tuple[Rename, ...] = (
    (r"mlp\.fc1\.(.*)", r"ffn.layers.0.0.\1"),
    (r"mlp\.fc2\.(.*)", r"ffn.layers.1.\1"),
)
_TWINS_LOCAL: tuple[Rename, ...] = (*_TWINS_MLP, (r"(attn\.(qkv|proj)\..*|norm[12]\..*)", r"\1"))


@dataclass(frozen=True)
class Backbone:
    """tensors: by OpenMMLab's names. config: the backbone's entry in an OpenMMLab config, as Python, without its
    weights. notes: what does not exist there, and what is not in the file."""

    tensors: dict[str, Tensor]
    config: str
    notes: list[str]


class NotInOpenMMLab(ValueError):
    """There is no backbone that could take the weights; the message says why."""


def backbone(description: Description, state: dict[str, Tensor]) -> Backbone:
    """state: of the encoder alone, by its own names. Raises NotInOpenMMLab."""
    convert = _FAMILIES.get(description.encoder.family)
    if convert is None:
        known = ", ".join(_FAMILIES)
        what = f"OpenMMLab's names of a {description.encoder.family} were not verified"
        raise NotInOpenMMLab(f"{what}; --to mmdet-keys knows {known}; write --to safetensors")
    return convert(description.encoder, description.image_size, state)


# -------------------------------------------------------------------------------------------------------------- Swin


def _swin(encoder: SwinConfig, image_size: tuple[int, int], state: dict[str, Tensor]) -> Backbone:
    width, ratio, last = encoder.widths[0], encoder.mlp_ratios[0], encoder.stages - 1
    if encoder.widths != tuple(width * 2**stage for stage in range(last + 1)) or set(encoder.mlp_ratios) != {ratio}:
        raise NotInOpenMMLab("mmdet's SwinTransformer doubles its width and has one MLP ratio, this one does not")
    tensors = {}
    for name, tensor in state.items():
        if name == "absolute_pos_embed":
            continue
        if ".downsample." in name:
            tensor = unfold_order(tensor)
        theirs = f"norm{last}.{name[5:]}" if name.startswith("norm.") else _renamed(name, _SWIN)
        tensors[f"backbone.{theirs}"] = tensor.contiguous()
    window = max(_windows(encoder, image_size))
    fields = {
        "type": "SwinTransformer",
        "pretrain_img_size": image_size,
        "patch_size": encoder.patch_size,
        "embed_dims": width,
        "depths": encoder.depths,
        "num_heads": encoder.heads,
        "strides": _strides(encoder),
        "out_indices": tuple(range(last + 1)),
        "mlp_ratio": ratio,
        "window_size": window,
        "norm_cfg": {"type": "LN", "eps": encoder.norm_eps},
    }
    return Backbone(tensors, _config(fields), _swin_notes(encoder, image_size, window))


def _windows(encoder: SwinConfig, image_size: tuple[int, int]) -> list[int]:
    """Windows as trained: cut to the grid."""
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


def unfold_order(tensor: Tensor) -> Tensor:
    """A patch merging's norm (4C,) or reduction (out, 4C) from our order of channels to that of nn.Unfold.

    Ours: four blocks of C for the offsets (row, column) (0,0), (1,0), (0,1), (1,1). nn.Unfold: for each channel its
    four offsets row by row.
    """
    merged = tensor.unflatten(-1, (2, 2, -1))  # column, row, channel
    return merged.movedim(-1, -3).transpose(-1, -2).flatten(-3)


# --------------------------------------------------------------------------------------------------- PVT and Twins


def _pvt(encoder: PvtConfig, image_size: tuple[int, int], state: dict[str, Tensor]) -> Backbone:
    base = encoder.widths[0] // encoder.heads[0]
    if encoder.widths != tuple(base * heads for heads in encoder.heads):
        raise NotInOpenMMLab("mmdet's PyramidVisionTransformer has widths in proportion to its heads, this one has not")
    tensors = {}
    for name, tensor in _packed(state).items():
        kind, _, rest = name.partition(".")
        stage = int(kind[-1]) - 1 if kind[-1].isdigit() else None
        if name.startswith("patch_embed"):
            tensors[f"layers.{stage}.0.{_embedding(rest)}"] = tensor
        elif name.startswith("pos_embed"):
            side = encoder.patch_size * 2**stage
            tokens = (image_size[0] // side) * (image_size[1] // side)
            tensors[f"layers.{stage}.1.0.pos_embed"] = tensor[:, -tokens:].contiguous()
        elif name.startswith("block"):
            number, _, inner = rest.partition(".")
            theirs = _renamed(inner, _PVT_BLOCK)
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
        "patch_sizes": _strides(encoder),
        "strides": _strides(encoder),
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
    return Backbone(tensors, _config(fields), notes)


def _twins(encoder: TwinsConfig, image_size: tuple[int, int], state: dict[str, Tensor]) -> Backbone:
    last = encoder.stages - 1
    tensors = {}
    for name, tensor in _packed(state).items():
        parts = name.split(".", 3)
        if parts[0] == "patch_embeds":
            stage, rest = name.split(".", 2)[1:]
            tensors[f"patch_embeds.{stage}.{_embedding(rest)}"] = tensor
        elif parts[0] == "pos_block":
            tensors[f"position_encodings.{parts[1]}.proj.{name.rpartition('.')[2]}"] = tensor
        elif parts[0] == "norm":
            tensors[f"norm_list.{last}.{parts[1]}"] = tensor
        else:
            stage, number, inner = parts[1:]
            renames = (*_TWINS_MLP, *_ATTENTION) if int(number) % 2 else _TWINS_LOCAL
            tensors[f"layers.{stage}.{number}.{_renamed(inner, renames)}"] = tensor
    fields = {
        "type": "SVT",
        "embed_dims": encoder.widths,
        "patch_sizes": _strides(encoder),
        "strides": _strides(encoder),
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
    return Backbone(tensors, _config(fields), notes)


_FAMILIES: dict[str, Callable[..., Backbone]] = {"swin": _swin, "pvt": _pvt, "twins_svt": _twins}


# ------------------------------------------------------------------------------------------------------------ shared


def _packed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """`attn.q` and `attn.kv` as the `in_proj_*` of torch.nn.MultiheadAttention; all else as it is."""
    packed = {}
    for name, tensor in state.items():
        before, kind, after = name.rpartition(".attn.")
        if after.startswith("q."):
            both = torch.cat([tensor, state[f"{before}{kind}kv.{after[2:]}"]])
            packed[f"{before}{kind}attn.in_proj_{after[2:]}"] = both
        elif not after.startswith("kv."):
            packed[name] = tensor.contiguous()
    return packed


def _embedding(name: str) -> str:
    return re.sub(r"^proj\.", "projection.", name)


def _renamed(name: str, renames: tuple[Rename, ...]) -> str:
    if re.fullmatch(r"attn\.attn\.in_proj_(weight|bias)", name):
        return name
    for pattern, replacement in renames:
        if match := re.fullmatch(pattern, name):
            return match.expand(replacement)
    raise AssertionError(f"{name}: no rename")


def _strides(encoder) -> tuple[int, ...]:
    return (encoder.patch_size, *(2,) * (encoder.stages - 1))


def _config(fields: dict) -> str:
    lines = "".join(f"    {name}={value!r},\n" for name, value in fields.items())
    return f"dict(\n{lines}    init_cfg=dict(type='Pretrained', checkpoint=CHECKPOINT),\n)"
