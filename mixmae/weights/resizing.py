"""Relative position tables and absolute positions fitted to another size, as the official fine-tuning codes do."""

import logging
from math import isqrt

import numpy as np
import torch
import torch.nn.functional as F
from torch import Size, Tensor

from mixmae.attention.positions import resized_positions
from mixmae.encoders.encoder import Encoder
from mixmae.encoders.keys import some

log = logging.getLogger(__name__)

TABLE = "relative_position_bias_table"
SHARED_TABLE = f"rel_pos_bias.{TABLE}"
CLASS_ROWS = 3
"""A BEiT table's rows for class→token, token→class and class→class, after those of the window."""


def fitted(state: dict[str, Tensor], encoder: Encoder, image_size: tuple[int, int], tables: str) -> dict[str, Tensor]:
    """Fits `state`, made for images of `image_size`, to `encoder`; what is resized is logged.

    Tables are resized by `tables`: "bicubic" (MixMAE's fine-tuning) or "geometric" (SimMIM's, BEiT's); positions
    bicubically (MixMAE, MAE), PVT's bilinearly (as its forward does). A bias shared by all blocks is copied into each
    where the encoder has one a block (SimMIM). Raises ValueError naming what does not fit.
    """
    state = _shared_bias_in_every_block(state, encoder)
    if encoder.image_size == tuple(image_size):
        state = _with_fixed_tables(state, encoder)
    wanted = encoder.state_dict()
    if strangers := sorted(wanted.keys() ^ state.keys()):
        raise ValueError(f"not the weights of this encoder: they differ in {some(strangers)}")
    changed = {name: tensor for name, tensor in state.items() if tensor.shape != wanted[name].shape}
    resized = {name: _resized(name, t, wanted[name].shape, encoder, image_size, tables) for name, t in changed.items()}
    for name, tensor in resized.items():
        log.info("%s: %s resized to %s", name, tuple(changed[name].shape), tuple(tensor.shape))
    return state | resized


def _shared_bias_in_every_block(state: dict[str, Tensor], encoder: Encoder) -> dict[str, Tensor]:
    own = [name for name in encoder.state_dict() if name.startswith("blocks.") and name.endswith(f"attn.{TABLE}")]
    if not own or SHARED_TABLE not in state:
        return state
    log.info("%s copied into every block", SHARED_TABLE)
    rest = {name: tensor for name, tensor in state.items() if name != SHARED_TABLE}
    return rest | {name: state[SHARED_TABLE].clone() for name in own}


def _with_fixed_tables(state: dict[str, Tensor], encoder: Encoder) -> dict[str, Tensor]:
    """Adds the encoder's own fixed tables where `state`, written before they were saved, lacks them."""
    fixed = {name: parameter for name, parameter in encoder.named_parameters() if not parameter.requires_grad}
    return {name: parameter.detach() for name, parameter in fixed.items() if name not in state} | state


def _resized(
    name: str, tensor: Tensor, shape: Size, encoder: Encoder, image_size: tuple[int, int], tables: str
) -> Tensor:
    if name.endswith(TABLE) and tensor.shape[1] == shape[1]:
        return _resized_table(tensor, shape[0], tables)
    if name == "absolute_pos_embed" and tensor.shape[2] == shape[2]:
        return resized_positions(tensor, *_grids(encoder, image_size, encoder.patch_size), "bicubic")
    if name == "pos_embed" and tensor.shape[2] == shape[2]:
        patches = resized_positions(tensor[:, 1:], *_grids(encoder, image_size, encoder.patch_size), "bicubic")
        return torch.cat([tensor[:, :1], patches], 1)
    if name.startswith("pos_embed") and tensor.shape[2] == shape[2]:
        side = encoder.patch_size * 2 ** (int(name[-1]) - 1)
        return _with_class_rows(tensor, *_grids(encoder, image_size, side))
    raise ValueError(f"{name}: {tuple(tensor.shape)} in the weights, {tuple(shape)} in the model; it cannot be resized")


def _grids(encoder: Encoder, image_size: tuple[int, int], side: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Returns (grid in the weights, grid in `encoder`) in tokens of `side` pixels."""
    (old_height, old_width), (height, width) = image_size, encoder.image_size
    return (old_height // side, old_width // side), (height // side, width // side)


def _with_class_rows(tensor: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Resizes PVT's positions; the last stage's may begin with the class token's."""
    extra = tensor.shape[1] - old[0] * old[1]
    return torch.cat([tensor[:, :extra], resized_positions(tensor[:, extra:], old, new, "bilinear")], 1)


def _resized_table(table: Tensor, rows: int, tables: str) -> Tensor:
    """Resizes (rows, heads) of a square window to another number of rows; BEiT's class rows stay as they are."""
    extra = table.shape[0] - isqrt(table.shape[0]) ** 2
    old, new = isqrt(table.shape[0] - extra), isqrt(rows - extra)
    window, rest = table[: old * old].float(), table[old * old :]
    square = window.t().unflatten(1, (old, old))
    resize = {"bicubic": _bicubic, "geometric": _geometric}[tables]
    return torch.cat([resize(square, new).flatten(1).t().to(table.dtype), rest])


def _bicubic(square: Tensor, side: int) -> Tensor:
    return F.interpolate(square[None], size=(side, side), mode="bicubic", align_corners=False)[0]


def _geometric(square: Tensor, side: int) -> Tensor:
    """Resizes by cubic splines through the old entries, laid out in geometric progression from the centre."""
    from scipy.interpolate import RectBivariateSpline  # 0.7 s, for which few of the jobs that fit weights have a use

    old = _geometric_places(square.shape[1], side)
    new = np.arange(side) - side // 2
    degree = min(3, len(old) - 1)
    splines = [RectBivariateSpline(old, old, head.numpy(), kx=degree, ky=degree) for head in square]
    return torch.from_numpy(np.stack([spline(new, new) for spline in splines])).float()


def _geometric_places(count: int, side: int) -> np.ndarray:
    """Returns `count` places symmetric about 0, distances growing by a ratio such that the last reaches side // 2.

    The ratio is bisected between 1.01 and 1.5 to 1e-6, as BEiT's fine-tuning does, and so does not reach it exactly.
    """
    low, high = 1.01, 1.5
    while high - low > 1e-6:
        ratio = (low + high) / 2
        if (1 - ratio ** (count // 2)) / (1 - ratio) > side // 2:
            high = ratio
        else:
            low = ratio
    distances = np.cumsum(ratio ** np.arange(count // 2))
    return np.concatenate([-distances[::-1], [0], distances])
