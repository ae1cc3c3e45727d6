"""From a config to a method around an encoder."""

from torch import nn

from mixmae.fields.specs import resolve
from mixmae.methods.methods import MethodModel, methods


def build_method(config: MethodModel, encoder: nn.Module) -> nn.Module:
    """The pretraining method of a stage job's `method` around `encoder`."""
    return resolve(methods[config.name].model or "")(encoder, config)
