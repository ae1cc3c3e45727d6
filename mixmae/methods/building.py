"""Builds a method around an encoder."""

from mixmae.encoders.encoder import Encoder
from mixmae.fields.specs import resolve
from mixmae.methods.methods import MethodModel, methods
from mixmae.methods.output import Method


def build_method(config: MethodModel, encoder: Encoder) -> Method:
    """Builds the pretraining method of a stage job's `method` around `encoder`."""
    method: Method = resolve(methods[config.name].model or "")(encoder, config)
    return method
