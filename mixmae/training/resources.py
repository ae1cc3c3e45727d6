"""How a job runs on a machine: recorded with it, never part of its id (no torch)."""

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from mixmae.fields.model import Model, Positive
from mixmae.tracking.asked import known


class Resources(Model):
    """How a job runs on a machine: recorded with it, never part of its id."""

    threads: Positive = 1
    """CPU threads a process; other numbers give other last bits."""
    workers: Annotated[int, Field(ge=0)] = 0
    """Data loading processes beside the training one."""
    checkpoint_activations: bool = False
    """Compute the encoder's blocks again in the backward pass instead of keeping what it needs: less memory, more time,
    the same bits on a CPU."""
    compile_blocks: bool = False
    """torch.compile the transformer blocks: other last bits, and minutes of compilation before the first step."""
    save_minutes: Annotated[float, Field(gt=0)] = 10.0
    """A training is saved at the end of every epoch, and within one when the last save is so long ago."""
    save_steps: Positive | None = None
    """And every so many steps."""
    track: Annotated[tuple[str, ...], Field(strict=False), AfterValidator(known)] = ()
    """Trackers that trainings report their epochs to: tensorboard, wandb, mlflow, trackio."""

    def of_speed(self) -> dict[str, Any]:
        """What of them changes how long a step takes."""
        return {name: dict(self)[name] for name in ("threads", "workers", "checkpoint_activations", "compile_blocks")}
