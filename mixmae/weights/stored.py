"""Our own weights files: safetensors that say what they hold."""

import json
from pathlib import Path

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from mixmae import names
from mixmae.models import build_encoder, build_method
from mixmae.runs import NewerSchema, write_atomically
from mixmae.weights.description import Description, Origin

SCHEMA = 1
METADATA = "mixmae"
"""The key of the file's metadata under which its description lies, as JSON."""


def build(description: Description) -> nn.Module:
    """The model of a description, freshly initialised: a method, a classifier, or an encoder."""
    encoder = build_encoder(description.encoder, description.image_size)
    if description.method is not None:
        return build_method(description.method, encoder)
    if description.classes is not None:
        return names.resolve(names.METHODS["supervised"])(encoder, description.classes, head_init_std=0.02)
    return encoder


def save(path: Path, model: nn.Module, description: Description, origin: Origin | None = None) -> None:
    """Writes the model's state; an encoder's tensors are named `encoder.*`, as in every file."""
    state = model.state_dict()
    if description.method is None and description.classes is None:
        state = {f"encoder.{name}": tensor for name, tensor in state.items()}
    about = {
        "schema": SCHEMA,
        "description": description.model_dump(mode="json"),
        "origin": origin and origin.model_dump(mode="json"),
    }
    tensors = {name: tensor.contiguous() for name, tensor in state.items()}
    write_atomically(path, lambda temporary: save_file(tensors, temporary, {METADATA: json.dumps(about)}))


def about(path: Path) -> tuple[Description, Origin | None]:
    """What a file of ours holds. Raises ValueError where it is not one, NewerSchema where a newer version wrote it."""
    try:
        with safe_open(path, "pt") as file:
            metadata = (file.metadata() or {}).get(METADATA)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: cannot be read as safetensors: {error}") from None
    if metadata is None:
        raise ValueError(f"{path}: says nothing of its model; import it first: mixmae weights import {path} --as KIND")
    found = json.loads(metadata)
    if found["schema"] > SCHEMA:
        raise NewerSchema(f"{path}: schema {found['schema']}, this version reads up to {SCHEMA}; upgrade mixmae")
    try:
        origin = found["origin"] and Origin.model_validate(found["origin"])
        return Description.model_validate_json(json.dumps(found["description"])), origin
    except ValidationError as error:
        raise ValueError(f"{path}: its description cannot be read: {error}") from None


def load(path: Path) -> tuple[nn.Module, Description]:
    """The model in a file of ours, in evaluation mode, on the CPU. Raises ValueError where tensors do not fit."""
    description, _ = about(path)
    model = build(description)
    own = model.state_dict()
    prefix = "encoder." if description.method is None and description.classes is None else ""
    with safe_open(path, "pt") as file:
        state = {name.removeprefix(prefix): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if wrong := sorted(own.keys() ^ state.keys()):
        raise ValueError(f"{path}: its tensors do not fit its description: {', '.join(wrong[:5])}")
    model.load_state_dict(state)
    return model.eval(), description
