"""From a config to a method around an encoder."""

from torch import nn

from mixmae import names


def build_method(config, encoder: nn.Module) -> nn.Module:
    """The pretraining method of a stage job's `method` around `encoder`."""
    fields = {name: getattr(config, name) for name in type(config).model_fields if name != "name"}
    return names.resolve(names.METHODS[config.name])(encoder, **fields)
