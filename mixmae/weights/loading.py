"""Loads the encoder of a weights file into a model."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file

from mixmae.encoders.encoder import Encoder
from mixmae.files.retrying import retried
from mixmae.weights.resizing import fitted


def load_encoder(encoder: Encoder, weights: Path, image_size: tuple[int, int], tables: str = "geometric") -> None:
    """Loads the `encoder.*` tensors of a weights file made for images of `image_size`, every one of them.

    What another window or image size needs is resized, `tables` as in `mixmae.weights.resizing.fitted`, and logged.
    Raises ValueError naming the tensors where the two disagree otherwise, or the file where it is damaged.
    """
    try:
        state = retried(lambda: load_file(weights))
    except SafetensorError as error:
        raise ValueError(f"{weights}: damaged: {error}") from None
    own = {name.removeprefix("encoder."): tensor for name, tensor in state.items() if name.startswith("encoder.")}
    try:
        encoder.load_state_dict(fitted(own, encoder, image_size, tables))
    except ValueError as error:
        raise ValueError(f"{weights}: {error}") from None
