"""Which trackers are asked for: known ones, each once, whose packages are installed (no torch)."""

from importlib.util import find_spec

from mixmae.fields.model import impossible
from mixmae.fields.nearest import instead

TRACKERS = {
    "tensorboard": "mixmae.tracking.tensorboard:TensorBoard",
    "wandb": "mixmae.tracking.wandb:WeightsAndBiases",
    "mlflow": "mixmae.tracking.mlflow:MLflow",
    "trackio": "mixmae.tracking.trackio:Trackio",
}
"""What can be named, and the classes that are told."""
INSTALL = {
    "tensorboard": "pip install tensorboard",
    "wandb": "pip install wandb, or the extra that brings it, '.[track]'",
    "mlflow": "pip install mlflow-skinny sqlalchemy alembic, or the extra that brings them, '.[track]'",
    "trackio": "pip install trackio (it wants pillow below 13, so without -c constraints.txt)",
}
"""How the package of each tracker, which has its name, is had."""


def known(names: tuple[str, ...]) -> tuple[str, ...]:
    """`names`, as they are. Raises the error of a config field for one that is no tracker or is named twice."""
    for place, name in enumerate(names):
        if name not in TRACKERS:
            raise impossible((place,), f"no tracker {name!r}; {instead(name, TRACKERS)}")
        if name in names[:place]:
            raise impossible((place,), f"{name} is named twice; write it once")
    return names


def check_installed(names: tuple[str, ...]) -> None:
    """Raises ValueError, saying how they are had, where packages of these trackers are missing."""
    if missing := [f"track: {name} is not installed; {INSTALL[name]}" for name in names if not _is_installed(name)]:
        raise ValueError("\n".join(missing))


def _is_installed(package: str) -> bool:
    """A folder of that name, such as the ./wandb that W&B leaves, is no package."""
    found = find_spec(package)
    return found is not None and found.origin is not None
