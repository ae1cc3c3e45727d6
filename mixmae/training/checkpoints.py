"""Step checkpoints of a training run and its final weights."""

import logging
import re
from collections.abc import Collection
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from mixmae.files.archives import damage
from mixmae.files.records import write_atomically
from mixmae.files.retrying import retried

log = logging.getLogger(__name__)

KEPT = 2


def save(folder: Path, step: int, state: dict, keep: Collection[int] = ()) -> None:
    """Writes the checkpoint of `step`, then removes all but the newest two and those of the steps to `keep`."""
    write_atomically(_path(folder, step), lambda path: _write(path, state))
    kept = {_path(folder, step) for step in keep}
    for path in _saved(folder)[:-KEPT]:
        if path not in kept:
            path.unlink()


def load(folder: Path, step: int) -> dict | None:
    """The checkpoint of `step`; None where there is none that can be read."""
    path = _path(folder, step)
    return _read(path) if path.exists() else None


def load_newest(folder: Path) -> dict | None:
    """The newest checkpoint that can be read; None where there is none at all.

    Raises ValueError where there are some and none can be read: starting over would lose them without a word.
    """
    paths = _saved(folder)
    for path in reversed(paths):
        if (state := _read(path)) is not None:
            return state
    if paths:
        raise ValueError(f"none of the checkpoints in {folder} can be read; mixmae run --start-over sets them aside")
    return None


def _write(path: Path, state: dict) -> None:
    """Through a file of Python's, whose errors name their reason, and whose name is not stored in the archive."""
    with path.open("wb") as file:
        torch.save(state, file)


def _read(path: Path) -> dict | None:
    """The checkpoint at `path`; None, and a warning, where it is damaged."""
    if found := retried(lambda: damage(path)):
        log.warning("%s cannot be read (%s)", path.name, found)
        return None
    try:
        return retried(lambda: torch.load(path, map_location="cpu", weights_only=True))
    except OSError:
        raise
    except Exception as error:  # what torch's readers of zip and pickle raise is of many kinds
        log.warning("%s cannot be read (%s)", path.name, str(error).split("\n")[0])
        return None


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
    """Removes the step checkpoints, and what a killed process left half-written (safetensors' own names: .tmp…)."""
    remove_half_written(folder)
    for path in _saved(folder):
        path.unlink()


def remove_half_written(folder: Path) -> None:
    """Removes what killed processes left in the middle of a save, each as large as a checkpoint."""
    for pattern in (".step-*", ".final.safetensors.*", ".tmp*"):
        for path in folder.glob(pattern):
            path.unlink()


def _saved(folder: Path) -> list[Path]:
    paths = (path for path in folder.glob("step-*.pt") if re.fullmatch(r"step-\d{8,}\.pt", path.name))
    return sorted(paths, key=_step)


def _step(path: Path) -> int:
    return int(path.stem.removeprefix("step-"))


def _path(folder: Path, step: int) -> Path:
    return folder / f"step-{step:08d}.pt"
