"""Turns an official checkpoint or state dict into one of our models, every tensor accounted for."""

import logging
from dataclasses import dataclass
from math import isqrt
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from mixmae.attention.positions import sincos_positions
from mixmae.encoders.arguments import Shapes
from mixmae.encoders.keys import some
from mixmae.encoders.kinds import OfficialKind
from mixmae.fields.nearest import instead
from mixmae.weights import published
from mixmae.weights.description import Description
from mixmae.weights.files import unwrapped
from mixmae.weights.kinds import kind_of
from mixmae.weights.stored import build

log = logging.getLogger(__name__)


class WrongConfig(ValueError):
    """The config cannot be; `field` is the path of the argument it is about."""

    def __init__(self, what: str, field: tuple = ()):
        super().__init__(": ".join(["config", *([".".join(map(str, field))] if field else []), what]))
        self.what, self.field = what, field


@dataclass(frozen=True)
class Imported:
    """A model with official weights. names: official -> ours. recomputed: official names our model makes itself.
    left_out: official names of what `encoder_only` leaves behind."""

    model: nn.Module
    description: Description
    names: dict[str, str]
    recomputed: list[str]
    left_out: list[str]


def from_official(
    kind: str, state_dict: dict[str, Any], config: dict | None = None, encoder_only: bool = False
) -> nn.Module:
    """Returns one of our models with the weights of an official one; arguments and errors are those of `imported`."""
    return imported(kind, state_dict, config, encoder_only).model


def imported(kind: str, state_dict: dict[str, Any], config: dict | None = None, encoder_only: bool = False) -> Imported:
    """Builds the model that `kind` means and gives it the weights.

    state_dict: official name -> tensor, also inside the wrappers checkpoints have. config: what the official
    constructor took, and where needed `layer_norm_eps`, `mask_ratio`, `mask_patch_size`; without it the shapes decide,
    completed from a published model of just these shapes where they cannot (this is logged). encoder_only: without
    method or head, which the file may then lack.

    Raises ValueError (of a config WrongConfig) for what does not fit, naming it.
    """
    official = kind_of(kind)
    state = unwrapped(state_dict)
    mapped, recomputed = official.keys.translated(state, kind)
    if config is None:
        config = _inferred(official, _shapes(state, mapped, recomputed), encoder_only)
    description = described(official, config)
    left_out = []
    if encoder_only:
        description = description.alone()
        left_out = [name for name, ours in mapped.items() if not ours.startswith("encoder.")]
        mapped = {name: ours for name, ours in mapped.items() if name not in left_out}
    model = build(description)
    _load(model, {ours: state[name] for name, ours in mapped.items()}, {o: n for n, o in mapped.items()}, encoder_only)
    for name in recomputed:
        _check_recomputed(name, state[name])
    return Imported(model, description, mapped, recomputed, left_out)


# ----------------------------------------------------------------------------------------------------------- arguments


def _shapes(state: dict[str, Tensor], mapped: dict[str, str], recomputed: list[str]) -> Shapes:
    shapes = {ours: tuple(state[name].shape) for name, ours in mapped.items()}
    return shapes | {name: tuple(state[name].shape) for name in recomputed}


def described(kind: OfficialKind, config: dict) -> Description:
    """Describes the model that the official constructor makes of `config`. Raises WrongConfig."""
    cls = kind.arguments
    if not isinstance(config, dict):
        raise WrongConfig(f"a {type(config).__name__}; write name: value lines")
    for name in config:
        if name not in cls.model_fields:
            what = instead(str(name), cls.model_fields, f"it has {', '.join(cls.model_fields)}")
            raise WrongConfig(f"not an argument of a {kind.name}; {what}", (name,))
    try:
        return Description.model_validate(cls.model_validate(config).description())
    except ValidationError as error:
        first = error.errors()[0]
        if error.title != cls.__name__:
            raise WrongConfig(first["msg"]) from None
        field = first["loc"][:1]
        raise WrongConfig(f"{config.get(field[0], first['input'])!r}: {first['msg']}", field) from None


def _inferred(kind: OfficialKind, shapes: Shapes, encoder_only: bool) -> dict[str, Any]:
    """Returns the config that the shapes decide, the rest taken from published models of just these shapes."""
    cls = kind.arguments
    try:
        config = cls.from_shapes(shapes)
    except KeyError as error:
        raise ValueError(f"not the weights of a {kind.name}: {error.args[0]} is missing") from None
    missing = [name for name in cls.undecided if name not in config]
    if encoder_only:
        missing = [name for name in missing if not name.startswith(("decoder", "norm_pix"))]
        config = {name: value for name, value in config.items() if not name.startswith("decoder")}
    if not missing:
        return config
    model, completion = published.completion(kind.name, config, missing)
    if completion is None:
        raise ValueError(
            f"the shapes of a {kind.name} do not decide {', '.join(missing)}; give the constructor's config"
        )
    log.info("shapes of %s, hence %s", model, ", ".join(f"{name} {value}" for name, value in completion.items()))
    return config | completion


# ------------------------------------------------------------------------------------------------------------ weights


def _load(model: nn.Module, state: dict[str, Tensor], official: dict[str, str], encoder_only: bool) -> None:
    own = model.state_dict()
    if encoder_only:
        own = {f"encoder.{name}": tensor for name, tensor in own.items()}
    trained = {name for name, _ in model.named_parameters(prefix="encoder" if encoder_only else "")}
    if surplus := sorted(official[name] for name in state.keys() - own.keys()):
        raise ValueError(f"the config makes a model without {some(surplus)}, which the file has")
    if missing := sorted(trained - state.keys()):
        decoderless = all(not name.startswith("encoder.") for name in missing)
        hint = "; its encoder alone: --encoder-only" if decoderless else ""
        raise ValueError(f"the file has no tensor for {some(missing)}{hint}")
    for name, tensor in state.items():
        if tensor.shape != own[name].shape:
            both = f"{tuple(tensor.shape)} in the file, {tuple(own[name].shape)} by the config"
            raise ValueError(f"{official[name]}: {both}")
        if not tensor.is_floating_point():
            raise ValueError(f"{official[name]}: {tensor.dtype}; weights are floating point numbers")
    with torch.no_grad():
        for name, tensor in state.items():
            own[name].copy_(tensor)


def _check_recomputed(name: str, tensor: Tensor) -> None:
    """Raises ValueError where the file's tensor is not the one our model makes."""
    if name.endswith("decoder_pos_embed"):
        _check_fixed_positions(name, tensor)
    if name.endswith("relative_position_index") and not torch.equal(tensor, _relative_index(tensor.shape[0])):
        raise ValueError(f"{name}: not the index of a square window; this model cannot be imported")


def _check_fixed_positions(name: str, tensor: Tensor) -> None:
    rows = tensor.shape[1]
    extra = rows - isqrt(rows) ** 2
    side = isqrt(rows - extra)
    wanted = sincos_positions(tensor.shape[2], (side, side))
    if extra > 1 or tensor[:, :extra].any() or (tensor[0, extra:] - wanted).abs().max() > 1e-4:
        raise ValueError(f"{name}: not the fixed sin-cos table; trained decoder positions cannot be imported")


def _relative_index(tokens: int) -> Tensor:
    """Returns (tokens, tokens) rows of the bias table; with a class token where `tokens` is no square."""
    extra = tokens - isqrt(tokens) ** 2
    side = isqrt(tokens - extra)
    row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    row, column = row.flatten(), column.flatten()
    pairs = (row[:, None] - row + side - 1) * (2 * side - 1) + column[:, None] - column + side - 1
    if not extra:
        return pairs
    rows = (2 * side - 1) ** 2
    index = torch.full((tokens, tokens), rows)
    index[1:, 0] = rows + 1
    index[0, 0] = rows + 2
    index[1:, 1:] = pairs
    return index
