"""Our own weights files: safetensors that describe their model."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from mixmae.encoders.building import build_encoder
from mixmae.files.records import write_atomically
from mixmae.methods.building import build_method
from mixmae.methods.classifier import Classifier
from mixmae.weights.description import METADATA, Description, Origin, about, document


def build(description: Description) -> nn.Module:
    """Builds the model of a description, freshly initialised: a method, a classifier, or an encoder."""
    encoder = build_encoder(description.encoder, description.image_size)
    if description.method is not None:
        return build_method(description.method, encoder)
    if description.classes is not None:
        return Classifier(encoder, description.classes)
    return encoder


def save(path: Path, model: nn.Module, description: Description, origin: Origin | None = None) -> None:
    """Writes the model's state; an encoder's tensors are named `encoder.*`, as in every file."""
    state = model.state_dict()
    if description.method is None and description.classes is None:
        state = {f"encoder.{name}": tensor for name, tensor in state.items()}
    tensors = {name: tensor.contiguous() for name, tensor in state.items()}
    metadata = {METADATA: document(description, origin)}
    write_atomically(path, lambda temporary: save_file(tensors, temporary, metadata))


def load(path: Path | str) -> tuple[nn.Module, Description]:
    """Loads the model in a file of ours, in evaluation mode, on the CPU. Raises ValueError where tensors do not fit."""
    path = Path(path)
    description, _ = about(path)
    model = build(description)
    own = model.state_dict()
    prefix = "encoder." if description.method is None and description.classes is None else ""
    try:
        state = {name.removeprefix(prefix): tensor for name, tensor in load_file(path).items()}
    except SafetensorError as error:
        raise ValueError(f"{path}: damaged or truncated: {error}") from None
    if wrong := sorted(own.keys() ^ state.keys()):
        raise ValueError(f"{path}: its tensors do not fit its description: {', '.join(wrong[:5])}")
    model.load_state_dict(state)
    return model.eval(), description
