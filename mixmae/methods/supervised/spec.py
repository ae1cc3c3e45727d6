"""No pretraining: evaluations start from random weights (no torch)."""

from typing import Literal

from mixmae.methods.methods import MethodModel, MethodSpec


class SupervisedConfig(MethodModel):
    """No pretraining: evaluations start from random weights."""

    name: Literal["supervised"] = "supervised"


class SupervisedSpec(MethodSpec):
    name, label, order, colour = "supervised", "from scratch", 4, 3
    config = SupervisedConfig


SPEC = SupervisedSpec()
