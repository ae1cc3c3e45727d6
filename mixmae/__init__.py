"""MixMAE and the machinery it shares with its rivals: importing this package loads no torch.

What programs of others need is here by name, and imported when it is first asked for.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_OFFERED = {
    "Experiment": "mixmae.experiment.experiment",
    "stage_jobs": "mixmae.experiment.jobs",
    "build_encoder": "mixmae.encoders.building",
    "build_method": "mixmae.methods.building",
    "from_official": "mixmae.weights.official",
    "load": "mixmae.weights.stored",
}


def __getattr__(name: str) -> Any:
    if name not in _OFFERED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_OFFERED[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_OFFERED]
