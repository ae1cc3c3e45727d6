"""The interface of trackers, and the run that they follow (no torch)."""

from dataclasses import dataclass
from typing import Any, Protocol

from mixmae.presentation.row import chain_of, method_of
from mixmae.runs.folder import RunFolder


@dataclass(frozen=True)
class Tracked:
    """A run as trackers show it. The id in `run` identifies it, also after an interruption."""

    run: RunFolder
    name: str
    """The stage and the beginning of the id."""
    experiment: str
    """The method and the encoder."""
    config: dict[str, Any]
    """The stage job, fully resolved, and the data's fingerprint."""


class Tracker(Protocol):
    """One run's curves in one tracker; `where` says where a user finds them.

    `Tracker(tracked, steps)` opens the tracker's record of the run, or begins one. steps: those of the epochs that the
    run resumes from. Later epochs will be added once more, so the tracker may drop what it has of them.
    """

    where: str

    def holds(self, step: int) -> bool:
        """Whether the tracker has the epoch that ends with this step."""

    def add(self, step: int, figures: dict[str, float]) -> None:
        """Adds the figures of an epoch that the tracker does not hold. Steps only grow."""

    def close(self, ended: str) -> None:
        """Ends the record for now. ended: "done", "failed", or "stopped" (the run will resume)."""


def tracked(run: RunFolder) -> Tracked:
    """Returns `run` as trackers show it. Raises where its config cannot be read."""
    config = run.read("config")
    if config is None:
        raise FileNotFoundError(f"{run.path / 'config.json'}: missing")
    job, encoder = config["job"], config["job"]["encoder"]
    label = encoder["family"] if encoder["name"] == "custom" else encoder["name"]
    shown = {**job, "data_fingerprint": config["data_fingerprint"]}
    method = method_of(chain_of(job, lambda key: job_in(RunFolder(run.root, *key)))).replace(" ", "-")
    return Tracked(run, f"{run.stage}/{run.id[:8]}", f"{method}-{label}", shown)


def job_in(run: RunFolder) -> dict[str, Any] | None:
    """Returns the job of a run as plain data; None where it has no config."""
    config = run.read("config")
    return config and config["job"]
