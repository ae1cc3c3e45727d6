"""What encoders are for other programs: timm's models and OpenMMLab's backbones (no torch until one is made).

Names and layouts of OpenMMLab: mmdetection's SwinTransformer and PyramidVisionTransformer (mmdet/models/backbones/
swin.py @09269cf and pvt.py @0c51592), mmsegmentation's SVT (mmseg/models/backbones/twins.py @0c87f7a). Their loaders
keep what they know and pass over the rest, so `notes` lists what a file leaves out.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from mixmae.encoders.keys import KeyMap

INSTEAD = "write --to safetensors, which keeps all of it"
Rename = tuple[str, str]
"""A pattern of one of our names, and theirs as `re` expands it."""


class NotInTimm(ValueError):
    """timm has no model that computes the same; the message has the reason and what to write instead."""


class NotInOpenMMLab(ValueError):
    """OpenMMLab has no backbone that could take the weights; the message has the reason."""


@dataclass(frozen=True)
class TimmModel:
    """entry, arguments: `timm.create_model(entry, **arguments)` is the model. keys: the map of its names onto ours.

    warnings: where timm computes something else all the same.
    """

    entry: str
    arguments: dict[str, Any]
    keys: KeyMap
    warnings: list[str] = field(default_factory=list)

    @property
    def call(self) -> str:
        """Writes the arguments of `timm.create_model` as Python."""
        return ", ".join([repr(self.entry), *(f"{name}={value!r}" for name, value in self.arguments.items())])

    def empty(self):
        """Makes the model without memory for its weights (on the meta device)."""
        import timm
        import torch

        with torch.device("meta"):
            return timm.create_model(self.entry, **self.arguments)

    def tensors(self, state: dict[str, Any]) -> dict[str, Any]:
        """Returns every tensor of our state (names `encoder.*`, `head.*`) under timm's names, in timm's order."""
        wanted = self.empty().state_dict()
        theirs = self.keys.official_names(wanted, self.entry)
        if wrong := sorted(theirs.keys() ^ state.keys()):
            raise NotInTimm(f"timm's {self.entry} and this model differ in {', '.join(wrong[:5])}; {INSTEAD}")
        named = {theirs[ours]: tensor.contiguous() for ours, tensor in state.items()}
        if odd := [name for name, tensor in wanted.items() if tensor.shape != named[name].shape]:
            raise NotInTimm(f"timm's {self.entry} has other shapes of {', '.join(odd[:5])}; {INSTEAD}")
        return {name: named[name] for name in wanted}


@dataclass(frozen=True)
class Backbone:
    """tensors: by OpenMMLab's names. config: the backbone's entry in an OpenMMLab config, as Python, without its
    weights. notes: what does not exist there, and what is not in the file."""

    tensors: dict[str, Any]
    config: str
    notes: list[str]


# --------------------------------------------------------------------------------------------------------------- grids


def grids(encoder: Any, image_size: tuple[int, int]) -> list[tuple[int, int]]:
    """Returns rows and columns in tokens of each stage of a hierarchical encoder's config."""
    sides = [encoder.patch_size * 2**stage for stage in range(encoder.stages)]
    return [(image_size[0] // side, image_size[1] // side) for side in sides]


def not_divided(
    grids: list[tuple[int, int]], windows: tuple[int, ...], cut: bool = True
) -> Iterator[tuple[int, tuple[int, int], int]]:
    """Yields (stage, grid, window) where a window, with `cut` cut to the grid first, does not divide the grid."""
    for stage, (grid, window) in enumerate(zip(grids, windows, strict=True)):
        side = min(window, *grid) if cut else window
        if grid[0] % side or grid[1] % side:
            yield stage, grid, side


def padded(stage: int, grid: tuple[int, int], window: int) -> str:
    where = f"stage {stage + 1}: windows of {window} do not divide the {grid[0]} × {grid[1]} grid"
    return f"{where}; timm pads there, mixmae does not, so the outputs differ"


def want_eps(eps: float, wanted: float) -> None:
    if eps != wanted:
        raise NotInTimm(f"the norms of timm's entry points have eps {wanted:g}, these have {eps:g}; {INSTEAD}")


# ----------------------------------------------------------------------------------------------------------- OpenMMLab


ATTENTION: tuple[Rename, ...] = (
    (r"attn\.proj\.(.*)", r"attn.attn.out_proj.\1"),
    (r"(attn\.(sr|norm)\..*)", r"\1"),
    (r"(norm[12]\..*)", r"\1"),
)
"""Names in a block whose attention is PyTorch's over reduced keys; `packed` renames queries, keys and values."""


def packed(state: dict[str, Any]) -> dict[str, Any]:
    """Packs `attn.q` and `attn.kv` into the `in_proj_*` of torch.nn.MultiheadAttention; all else stays as it is."""
    import torch

    tensors = {}
    for name, tensor in state.items():
        before, kind, after = name.rpartition(".attn.")
        if after.startswith("q."):
            both = torch.cat([tensor, state[f"{before}{kind}kv.{after[2:]}"]])
            tensors[f"{before}{kind}attn.in_proj_{after[2:]}"] = both
        elif not after.startswith("kv."):
            tensors[name] = tensor.contiguous()
    return tensors


def embedding(name: str) -> str:
    return re.sub(r"^proj\.", "projection.", name)


def renamed(name: str, renames: tuple[Rename, ...]) -> str:
    if re.fullmatch(r"attn\.attn\.in_proj_(weight|bias)", name):
        return name
    for pattern, replacement in renames:
        if match := re.fullmatch(pattern, name):
            return match.expand(replacement)
    raise AssertionError(f"{name}: no rename")


def strides(encoder: Any) -> tuple[int, ...]:
    return (encoder.patch_size, *(2,) * (encoder.stages - 1))


def python_config(fields: dict[str, Any]) -> str:
    """Writes a backbone's entry in an OpenMMLab config."""
    lines = "".join(f"    {name}={value!r},\n" for name, value in fields.items())
    return f"dict(\n{lines}    init_cfg=dict(type='Pretrained', checkpoint=CHECKPOINT),\n)"
