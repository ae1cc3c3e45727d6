"""What a stage job is given to run with, beside its config."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mixmae.runs.cause import Cause
from mixmae.runs.folder import RunFolder
from mixmae.tracking.trackers import Trackers
from mixmae.training.compilation import compile_blocks
from mixmae.training.processes import Processes
from mixmae.training.resources import Resources


@dataclass(frozen=True)
class Outcome:
    """What a job leaves: figures by name, and files in the run folder besides its metrics and its final weights."""

    figures: dict[str, Any]
    files: tuple[Path, ...] = ()


class Stopped(Exception):
    """The job was asked to stop and has saved what it can go on from; the message says what that is."""

    cause = Cause.SIGNAL


@dataclass(frozen=True)
class Session:
    """`stop()` is asked between steps. `report(epoch=, epochs=, loss=, metric=)` is told of every finished epoch, and
    `check_lease()` asked before anything is written: it raises lease.Lost where the run has become another process's.
    Both do something only where `processes` leads, and only there has the run `trackers`."""

    run: RunFolder
    main: str
    """The name of the main metric of what is run."""
    resources: Resources
    processes: Processes
    stop: Callable[[], bool]
    report: Callable[..., None]
    check_lease: Callable[[], None]
    trackers: Trackers

    @property
    def device(self) -> torch.device:
        return self.processes.device

    @property
    def workers(self) -> int:
        return self.resources.workers

    def prepared(self, model: Any) -> Any:
        """`model` on the device, its blocks run as the resources say; `model.encoder` is its encoder."""
        if self.resources.checkpoint_activations:
            model.encoder.checkpoint_blocks(True)
        if self.resources.compile_blocks:
            compile_blocks(model)
        return model.to(self.device)

    def check_stop(self, doing: str) -> None:
        """Raises Stopped, on every process, when any was asked to stop while `doing` what is short and starts over."""
        if self.processes.sum(torch.tensor(int(self.stop()))) > 0:
            raise Stopped(f"stopped while {doing}; starts over")


def computation(device: torch.device, precision: str) -> torch.autocast:
    """The context a forward pass runs in. "auto": bfloat16 on GPUs that have it, float32 elsewhere."""
    has_bfloat16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    mixed = precision in ("bfloat16", "float16") or (precision == "auto" and has_bfloat16)
    return torch.autocast(device.type, torch.float16 if precision == "float16" else torch.bfloat16, enabled=mixed)
