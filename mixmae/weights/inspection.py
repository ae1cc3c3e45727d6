"""Finds out what a weights file is: one of ours by its description, any other by its tensors' names and shapes."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from mixmae.encoders.kinds import OfficialKind
from mixmae.files.records import sha256
from mixmae.weights import published
from mixmae.weights.description import METADATA, Description, about, header, run_of
from mixmae.weights.export import EXPORTED_BY
from mixmae.weights.files import WRAPPERS, read_checkpoint, unwrapped
from mixmae.weights.kinds import kinds
from mixmae.weights.stored import build


def inspect(path: Path) -> dict[str, Any]:
    """Returns a summary as plain data.

    format: "mixmae", "safetensors" or "torch". tensors, parameters (numbers in all of them), dtypes ({name: tensors}),
    sha256. Of ours: `is` in words, description, origin. Of others: wrapper (the keys under which the weights lie),
    beside (what else lies there), exported_by (the mixmae that wrote it for others, or None), run (the
    id of the run in whose folder it lies, or None), kinds (the likeliest
    first): {kind, part ("whole" or "encoder"), config (None where shapes alone do not decide it), undecided,
    completed_by (a published model of these shapes), missing, misfits}.

    Raises ValueError or FileNotFoundError, one line, for what is no weights file or a damaged one.
    """
    read = read_checkpoint(path)
    if _says_what_it_is(path):
        description, origin = about(path)
        return {
            "format": "mixmae",
            "is": description.part,
            "description": description.model_dump(mode="json"),
            "origin": origin and origin.model_dump(),
            **_sizes(read),
            "sha256": sha256(path),
        }
    wrapper, beside = _wrapping(read)
    try:
        state = unwrapped(read)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return {
        "format": "safetensors" if _has_header(path) else "torch",
        "wrapper": wrapper,
        "beside": beside,
        "exported_by": _exported_by(path, read),
        "run": run_of(path),
        "kinds": _kinds(state),
        **_sizes(state),
        "sha256": sha256(path),
    }


def lines(report: dict[str, Any]) -> list[str]:
    """Writes a summary as text."""
    dtypes = ", ".join(f"{count} {name}" for name, count in report["dtypes"].items())
    sizes = f"{report['tensors']} tensors ({dtypes}), {report['parameters'] / 1e6:.2f} M parameters"
    text = [*(_lines_of_ours(report) if report["format"] == "mixmae" else _lines_of_others(report)), sizes]
    return [*text, f"sha256 {report['sha256']}"]


def _lines_of_ours(report: dict[str, Any]) -> list[str]:
    encoder, (height, width) = report["description"]["encoder"], report["description"]["image_size"]
    text = [f"a weights file of mixmae: {report['is']}, {encoder['family']} {encoder['name']}, {height} x {width} px"]
    if origin := report["origin"]:
        text.append(f"imported from {origin['file']} as {origin['kind']} (its sha256 {origin['sha256']})")
    return text


def _lines_of_others(report: dict[str, Any]) -> list[str]:
    what = "a safetensors file" if report["format"] == "safetensors" else "a torch checkpoint"
    wrapper = f", its weights under {'.'.join(report['wrapper'])}" if report["wrapper"] else ""
    beside = f", beside {', '.join(report['beside'])}" if report["beside"] else ""
    text = [f"{what} that does not say what it holds{wrapper}{beside}"]
    if report["exported_by"]:
        text.append(f"exported by mixmae {report['exported_by']}; the card beside it says what it is")
    if run := report["run"]:
        return [*text, f"the weights of the run {run}: mixmae weights export {run} --to safetensors says what they are"]
    if not report["kinds"]:
        return [*text, "no kind of weights that mixmae imports has these names and shapes"]
    return [*text, *(line for guess in report["kinds"] for line in _lines_of_guess(guess))]


def _lines_of_guess(guess: dict[str, Any]) -> list[str]:
    off = guess["missing"] + guess["misfits"]
    fit = f"{guess['missing']} tensors missing, {guess['misfits']} of other shapes" if off else "all tensors fit"
    part = " (its encoder alone: --encoder-only)" if guess["part"] == "encoder" else ""
    undecided = ", ".join(guess["undecided"])
    if not undecided:
        config = "the shapes decide its config"
    elif guess["completed_by"]:
        config = f"the shapes do not decide {undecided}; those of {guess['completed_by']} would be taken"
    else:
        config = f"the shapes do not decide {undecided}: give --config"
    return [f"  --as {guess['kind']}{part}: {fit}; {config}"]


def _has_header(path: Path) -> bool:
    try:
        header(path)
    except ValueError:
        return False
    return True


def _exported_by(path: Path, read: dict[str, Any]) -> str | None:
    meta = header(path).get("__metadata__", {}) if _has_header(path) else read.get("meta")
    return meta.get(EXPORTED_BY) if isinstance(meta, dict) else None


def _says_what_it_is(path: Path) -> bool:
    return _has_header(path) and METADATA in header(path).get("__metadata__", {})


def _sizes(state: dict[str, Tensor]) -> dict[str, Any]:
    return {
        "tensors": len(state),
        "parameters": sum(tensor.numel() for tensor in state.values()),
        "dtypes": dict(Counter(str(tensor.dtype).removeprefix("torch.") for tensor in state.values())),
    }


def _wrapping(checkpoint: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Returns the wrappers from the outside in, and what lies beside them."""
    wrapper, beside, inner = [], [], checkpoint
    while inner and not all(isinstance(value, Tensor) for value in inner.values()):
        name = next((name for name in WRAPPERS if isinstance(inner.get(name), dict)), None)
        if name is None:
            break
        wrapper.append(name)
        beside += [str(key) for key in inner if key != name]
        inner = inner[name]
    return wrapper, beside


# ------------------------------------------------------------------------------------------------------------- kinds


def _kinds(state: dict[str, Tensor]) -> list[dict[str, Any]]:
    guesses = [guess for kind in kinds() if (guess := _guess(kind, state)) is not None]
    return sorted(guesses, key=lambda guess: (guess["misfits"] + guess["missing"], guess["part"] != "whole"))


def _guess(kind: str, state: dict[str, Tensor]) -> dict[str, Any] | None:
    """Compares the tensors with those of `kind`; None where names, or the config that shapes decide, forbid it."""
    try:
        official = kinds()[kind]
        mapped, recomputed = official.keys.translated(state, kind)
        shapes = {ours: tuple(state[name].shape) for name, ours in mapped.items()}
        every = shapes | {name: tuple(state[name].shape) for name in recomputed}
        config = official.arguments.from_shapes(every)
        undecided = [name for name in official.arguments.undecided if name not in config]
        if alone := all(name.startswith("encoder.") for name in shapes):
            config = {name: value for name, value in config.items() if not name.startswith("decoder")}
            undecided = [name for name in undecided if not name.startswith(("decoder", "norm_pix"))]
        completed_by, completion = published.completion(kind, config, undecided) if undecided else ("", {})
        filled = {
            name: _any_that_fits(name, config, shapes) for name in _SHAPELESS if name in official.arguments.undecided
        }
        wanted = _shapes_of_model(official, filled | config | (completion or {}))
    except (ValueError, LookupError, ArithmeticError, RuntimeError):  # torch: RuntimeError for sizes that cannot be
        return None
    part = "whole"
    if alone and not wanted.keys() <= shapes.keys():
        part, wanted = "encoder", {name: shape for name, shape in wanted.items() if name.startswith("encoder.")}
    return {
        "kind": kind,
        "part": part,
        "config": config | completion if completion is not None else None,
        "undecided": undecided,
        "completed_by": completed_by or None,
        "missing": len(wanted.keys() - shapes.keys()),
        "misfits": sum(shapes[name] != wanted.get(name) for name in shapes),
    }


_SHAPELESS = ("num_heads", "decoder_num_heads", "wss", "decoder")
"""Undecided arguments whose defaults may not go with the other arguments."""


def _any_that_fits(name: str, config: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> Any:
    """Returns a value that gives the shapes there are: no shape depends on the number of heads or on `wss`."""
    if name == "decoder":
        width = shapes.get("decoder.embed.weight", (512,))[0]
        depth = len({part for part in shapes if re.fullmatch(r"decoder\.blocks\.\d+\.norm1\.weight", part)})
        return {"decoder_embed_dim": width, "decoder_depth": depth or 1, "decoder_num_heads": 1}
    one_a_stage = isinstance(config.get("depths"), list) and not name.startswith("decoder")
    return [1] * len(config["depths"]) if one_a_stage else 1


def _shapes_of_model(kind: OfficialKind, config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of the model of a config, with the class's defaults for what is not in it."""
    try:
        description = Description.model_validate(kind.arguments.model_validate(config).description())
    except ValidationError as error:
        raise ValueError(str(error)) from None
    with torch.device("meta"):
        model = build(description)
    alone = "encoder." if description.method is None and description.classes is None else ""
    return {f"{alone}{name}": tuple(tensor.shape) for name, tensor in model.state_dict().items()}
