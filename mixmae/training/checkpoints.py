"""Step checkpoints of a training run and its final weights."""

import logging
import re
from collections.abc import Collection
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import torch
from safetensors.torch import save_file
from torch import nn

from mixmae.runs import write_atomically

log = logging.getLogger(__name__)

KEPT = 2


def save(folder: Path, step: int, state: dict, keep: Collection[int] = ()) -> None:
    """Writes the checkpoint of `step`, then removes all but the newest two and those of the steps to `keep`."""
    write_atomically(_path(folder, step), lambda path: torch.save(state, path))
    kept = {_path(folder, step) for step in keep}
    for path in _saved(folder)[:-KEPT]:
        if path not in kept:
            path.unlink()


def load(folder: Path, step: int) -> dict | None:
    """The checkpoint of `step`; None where there is none that can be read."""
    path = _path(folder, step)
    if not path.exists() or damage(path):
        return None
    return torch.load(path, map_location="cpu", weights_only=True)


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
        raise ValueError(f"none of the checkpoints in {folder} can be read; mixmae run --start-over sets them aside")
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


def remove_after(folder: Path, step: int) -> None:
    """Removes the checkpoints of later steps."""
    for path in _saved(folder):
        if _step(path) > step:
            path.unlink()


def set_aside(folder: Path) -> Path | None:
    """Moves the step checkpoints into a new folder within `folder`, which is returned; None where there are none."""
    if not (paths := _saved(folder)):
        return None
    number = 1 + sum(1 for path in folder.glob("set-aside-*"))
    aside = folder / f"set-aside-{number}"
    aside.mkdir()
    for path in paths:
        path.rename(aside / path.name)
    return aside


def remove_steps(folder: Path) -> None:
    """Removes the step checkpoints, and what a killed process left half-written."""
    for path in [*_saved(folder), *folder.glob(".step-*")]:
        path.unlink()


def _saved(folder: Path) -> list[Path]:
    paths = (path for path in folder.glob("step-*.pt") if re.fullmatch(r"step-\d{8,}\.pt", path.name))
    return sorted(paths, key=_step)


def _step(path: Path) -> int:
    return int(path.stem.removeprefix("step-"))


def _path(folder: Path, step: int) -> Path:
    return folder / f"step-{step:08d}.pt"
