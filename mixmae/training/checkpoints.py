"""Step checkpoints of a training run and its final weights."""

import logging
import re
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import torch
from safetensors.torch import save_file
from torch import nn

from mixmae.runs import write_atomically

log = logging.getLogger(__name__)

KEPT = 2


def save(folder: Path, step: int, state: dict) -> None:
    """Writes `folder/step-XXXXXXXX.pt` and then removes all but the newest two."""
    write_atomically(folder / f"step-{step:08d}.pt", lambda path: torch.save(state, path))
    for path in _saved(folder)[:-KEPT]:
        path.unlink()


def load_newest(folder: Path) -> dict | None:
    """The newest checkpoint that can be read; None where there is none at all.

    Raises ValueError where there are some and none can be read: starting over would lose them without a word.
    """
    paths = _saved(folder)
    for path in reversed(paths):
        if found := damage(path):
            log.warning("%s cannot be read (%s); trying the one before", path.name, found)
        else:
            return torch.load(path, map_location="cpu", weights_only=True)
    if paths:
        raise ValueError(f"none of the checkpoints in {folder} can be read; remove them to start over")
    return None


def damage(path: Path) -> str | None:
    """What is wrong with a checkpoint, by the checksums torch.save stores and torch.load does not look at."""
    try:
        with ZipFile(path) as archive:
            bad = archive.testzip()
    except BadZipFile as error:
        return str(error)
    return f"damaged at {bad}" if bad else None


def write_weights(path: Path, model: nn.Module) -> None:
    """The whole state dict, on the CPU, as safetensors."""
    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    write_atomically(path, lambda temporary: save_file(weights, temporary))


def remove_steps(folder: Path) -> None:
    """Removes the step checkpoints, and what a killed process left half-written."""
    for path in [*_saved(folder), *folder.glob(".step-*")]:
        path.unlink()


def _saved(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step-*.pt") if re.fullmatch(r"step-\d{8,}\.pt", path.name))
