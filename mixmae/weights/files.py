"""Reading checkpoints of unknown origin: nothing in them is ever executed."""

import argparse
import pathlib
import pickle
import re
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, is_zipfile

import numpy as np
import torch
from numpy._core import multiarray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mixmae.files.archives import damage

WRAPPERS = ("model", "state_dict", "model_state_dict", "module")
"""Names under which checkpoints keep their weights, in the order they are looked for."""
PREFIXES = ("module.", "_orig_mod.")
"""The prefixes that DistributedDataParallel and torch.compile put before every name."""


ALLOWED: list[Any] = [
    argparse.Namespace,
    # The only dictionaries with attributes that torch's reader fills; a config's entries are never used.
    (OrderedDict, "yacs.config.CfgNode"),
    (pathlib.PurePosixPath, "pathlib.PosixPath"),
    (pathlib.PurePosixPath, "pathlib._local.PosixPath"),
    pathlib.PurePosixPath,
    (multiarray.scalar, "numpy.core.multiarray.scalar"),
    (multiarray.scalar, "numpy._core.multiarray.scalar"),
    np.dtype,
    *{type(np.dtype(name)) for name in ("float32", "float64", "int32", "int64", "bool")},
]
"""What official checkpoints hold beside tensors and plain data: arguments, configs, paths and numbers."""


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Reads the dictionary in a checkpoint: safetensors, or whatever torch.save wrote, on the CPU.

    Raises ValueError, with the reason, for what is no checkpoint, is damaged, or would need code of its own to be read.
    """
    if path.is_dir():
        raise ValueError(f"{path}: a folder; write the path of a file in it")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; write the path of a checkpoint")
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: an empty file")
    checkpoint = _safetensors(path) if _is_safetensors(path) else _pickled(path)
    if not isinstance(checkpoint, dict):
        raise ValueError(f"{path}: holds a {type(checkpoint).__name__}, not the dictionary of a checkpoint")
    return checkpoint


def unwrapped(checkpoint: dict[str, Any]) -> dict[str, Tensor]:
    """Returns the tensors of a checkpoint or state dict by name, without wrapper and without the prefixes of wrappers.

    Raises ValueError where there is no state dict, or where something in it is no tensor.
    """
    state = checkpoint
    while state and not all(isinstance(value, Tensor) for value in state.values()):
        inner = next((state[name] for name in WRAPPERS if isinstance(state.get(name), dict)), None)
        if inner is None:
            raise ValueError(_not_a_state_dict(state))
        state = inner
    if not state:
        raise ValueError("the state dict is empty")
    for prefix in PREFIXES * 2:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return dict(state)


def _not_a_state_dict(state: dict) -> str:
    odd = [str(name) for name, value in state.items() if not isinstance(value, Tensor)]
    if len(odd) < len(state):
        return f"{odd[0]}: a {type(state[odd[0]]).__name__} among the weights; a state dict holds tensors only"
    return f"no state dict among {', '.join(odd[:5])}; wanted one under {', '.join(WRAPPERS[:-1])} or {WRAPPERS[-1]}"


def _is_safetensors(path: Path) -> bool:
    """Whether the file begins as safetensors does: with the header's length and its first brace."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path}: damaged or truncated: {error}") from None


def _pickled(path: Path) -> Any:
    try:
        if is_zipfile(path) and (bad := damage(path)):
            raise BadZipFile(bad)
        with torch.serialization.safe_globals(ALLOWED), warnings.catch_warnings(action="ignore"):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(f"{path}: {_refusal(str(error))}") from None
    except Exception as error:
        # torch raises whatever its readers of zip, tar and pickle do on what is no checkpoint.
        raise ValueError(f"{path}: not a checkpoint, or a damaged one{_first_sentence(error)}") from None


def _first_sentence(error: Exception) -> str:
    """Returns the error's first sentence, where it is more than a number."""
    lines = str(error).split(". ")[0].splitlines()
    return f": {lines[0]}" if lines and " " in lines[0] else ""


def _refusal(message: str) -> str:
    wanted = re.search(r"(?:GLOBAL|global) ([\w.]+)", message)
    if wanted:
        return f"needs {wanted[1]} to be read, which weights have no need of; refused, nothing in it was executed"
    reason = message.split("WeightsUnpickler error:")[-1].strip().splitlines()
    worded = f": {reason[0]}" if reason and " " in reason[0] and "Unsupported operand" not in reason[0] else ""
    return f"not a checkpoint, or one that cannot be read safely{worded}"
