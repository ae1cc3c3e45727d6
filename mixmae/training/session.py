"""What a stage job is given to run with, beside its config: one process on one device."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from mixmae.compilation import compile_blocks
from mixmae.runs import RunFolder

log = logging.getLogger(__name__)


class Stopped(Exception):
    """The job was asked to stop and has saved what it can go on from; the message says what that is."""


@dataclass(frozen=True)
class Session:
    """`stop()` is asked between steps; `report(epoch=, epochs=, loss=, metric=)` is told of every finished epoch."""

    run: RunFolder
    device: torch.device
    workers: int
    stop: Callable[[], bool]
    report: Callable[..., None]
    checkpoint_activations: bool = False
    compile_blocks: bool = False

    def prepared(self, model: nn.Module) -> nn.Module:
        """`model` on the device, its blocks run as the resources say; `model.encoder` is its encoder."""
        if self.checkpoint_activations:
            model.encoder.checkpoint_blocks(True)
        if self.compile_blocks:
            compile_blocks(model)
        return model.to(self.device)

    def check_stop(self, doing: str) -> None:
        """Raises Stopped when asked to stop while `doing` something short that starts over."""
        if self.stop():
            raise Stopped(f"stopped while {doing}; starts over")


def computation(device: torch.device, precision: str) -> torch.autocast:
    """The context a forward pass runs in. "auto": bfloat16 on GPUs that have it, float32 elsewhere."""
    has_bfloat16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    mixed = precision == "bfloat16" or (precision == "auto" and has_bfloat16)
    return torch.autocast(device.type, torch.bfloat16, enabled=mixed)
