"""Weights of the official implementations into our models, and ours out in the forms others read.

`from_official` is what most need; `mixmae.weights.stored` reads and writes our own files.
"""


def from_official(kind: str, state_dict: dict, config: dict | None = None, encoder_only: bool = False):
    """One of our models with the weights of an official one; see `mixmae.weights.official.imported`."""
    from mixmae.weights.official import imported

    return imported(kind, state_dict, config, encoder_only).model
