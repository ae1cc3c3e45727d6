"""Names of trackers, checked: each is known, named once, and its package is installed (no torch)."""

from importlib.util import find_spec

from mixmae.fields.model import impossible
from mixmae.fields.nearest import instead

TRACKERS = {
    "tensorboard": "mixmae.tracking.tensorboard:TensorBoard",
    "wandb": "mixmae.tracking.wandb:WeightsAndBiases",
    "mlflow": "mixmae.tracking.mlflow:MLflow",
    "trackio": "mixmae.tracking.trackio:Trackio",
}
"""The trackers' names and classes."""
INSTALL = {
    "tensorboard": "pip install tensorboard",
    "wandb": "pip install wandb, or the extra that brings it, '.[track]'",
    "mlflow": "pip install mlflow-skinny sqlalchemy alembic, or the extra that brings them, '.[track]'",
    "trackio": "pip install trackio (it wants pillow below 13, so without -c constraints.txt)",
}
"""How the package of each tracker is installed. Its import name is the tracker's name."""


def known(names: tuple[str, ...]) -> tuple[str, ...]:
    """Returns `names`. Raises the error of a config field where one is no tracker or is named twice."""
    for place, name in enumerate(names):
        if name not in TRACKERS:
            raise impossible((place,), f"no tracker {name!r}; {instead(name, TRACKERS)}")
        if name in names[:place]:
            raise impossible((place,), f"{name} is named twice; write it once")
    return names


def check_installed(names: tuple[str, ...]) -> None:
    """Raises ValueError, saying how to install them, where packages of these trackers are missing."""
    if missing := [f"track: {name} is not installed; {INSTALL[name]}" for name in names if not _is_installed(name)]:
        raise ValueError("\n".join(missing))


def _is_installed(package: str) -> bool:
    """Whether the package can be imported. A mere folder of that name, such as the ./wandb that W&B leaves, cannot."""
    module = find_spec(package)
    return module is not None and module.origin is not None
