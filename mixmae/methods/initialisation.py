"""The initialisation of MAE and MixMAE."""

from torch import nn

from mixmae.methods.output import Method


def reset_as_mae(method: Method) -> None:
    """Initialises patch embedding and linear layers as MAE and MixMAE do: Xavier uniform, zero bias."""
    nn.init.xavier_uniform_(method.encoder.patch_embedding().proj.weight.data.flatten(1))
    for layer in method.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
