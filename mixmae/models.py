"""From configs to models, and pretrained encoders into them."""

import logging
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from timm.layers import resize_rel_pos_bias_table
from torch import Tensor, nn

from mixmae import names

_LOG = logging.getLogger(__name__)


def build_encoder(config, image_size: tuple[int, int], drop_path: float = 0.0) -> nn.Module:
    """The encoder of a stage job's `encoder` (windows and ratios resolved), freshly initialised."""
    fields = {name: getattr(config, name) for name in type(config).model_fields if name not in ("name", "family")}
    return names.resolve(names.ENCODERS[config.family])(image_size, **fields, drop_path=drop_path)


def build_method(config, encoder: nn.Module) -> nn.Module:
    """The pretraining method of a stage job's `method` around `encoder`."""
    fields = {name: getattr(config, name) for name in type(config).model_fields if name != "name"}
    return names.resolve(names.METHODS[config.name])(encoder, **fields)


def load_encoder(encoder: nn.Module, weights: Path) -> None:
    """Loads the `encoder.*` tensors of a run's final weights, every one of them.

    Tables and positions made for another window or image size are interpolated, which is logged. Raises ValueError
    naming the keys where the two disagree otherwise.
    """
    state = {
        key.removeprefix("encoder."): tensor for key, tensor in load_file(weights).items() if key.startswith("encoder.")
    }
    wanted = encoder.state_dict()
    if missing := sorted(wanted.keys() ^ state.keys()):
        raise ValueError(f"{weights}: not the weights of this encoder: {', '.join(missing[:5])}")
    for key, tensor in wanted.items():
        if state[key].shape != tensor.shape:
            state[key] = _resized(key, state[key], tensor.shape)
            _LOG.info("%s: interpolated to %s", key, tuple(tensor.shape))
    encoder.load_state_dict(state)


def _resized(key: str, tensor: Tensor, shape: torch.Size) -> Tensor:
    if key.endswith("relative_position_bias_table") and tensor.shape[1] == shape[1] and not key.startswith("rel_pos"):
        side = (int(shape[0] ** 0.5) + 1) // 2
        return resize_rel_pos_bias_table(tensor, new_window_size=(side, side), new_bias_shape=shape)
    if key.startswith("pos_embed") and tensor.shape[2] == shape[2]:
        old, new = (round(n**0.5) for n in (tensor.shape[1], shape[1]))
        if (old**2, new**2) == (tensor.shape[1], shape[1]):
            square = tensor.transpose(1, 2).unflatten(2, (old, old))
            return F.interpolate(square, size=(new, new), mode="bilinear").flatten(2).transpose(1, 2)
    raise ValueError(f"{key}: {tuple(tensor.shape)} in the weights, {tuple(shape)} in the model; it cannot be resized")
