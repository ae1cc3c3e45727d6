"""What a tracker is, and what it is told of a run beside its figures (no torch)."""

from dataclasses import dataclass
from typing import Any, Protocol

from mixmae.presentation.row import chain_of, method_of
from mixmae.runs.folder import RunFolder


@dataclass(frozen=True)
class Tracked:
    """A run as trackers know it. Its id, in `run`, is what an interrupted run is found by again."""

    run: RunFolder
    name: str
    """The stage and the beginning of the id."""
    experiment: str
    """The method and the encoder."""
    config: dict[str, Any]
    """The stage job, fully resolved, and the data's fingerprint."""


class Tracker(Protocol):
    """One run's curves in one tracker; `where` says where they are seen.

    `Tracker(tracked, steps)` opens what there is of the run, or begins it. steps: of the epochs that the run goes on
    from. What the tracker was told of later ones will be told once more; it may let go of it.
    """

    where: str

    def holds(self, step: int) -> bool:
        """Whether it has the epoch that ends with this step."""

    def add(self, step: int, figures: dict[str, float]) -> None:
        """The figures of an epoch that it does not hold. Steps only grow."""

    def close(self, ended: str) -> None:
        """No more follows now. ended: "done", "failed", or "stopped", which will be gone on with."""


def tracked(run: RunFolder) -> Tracked:
    """Raises where the run's config cannot be read."""
    config = run.read("config")
    if config is None:
        raise FileNotFoundError(f"{run.path / 'config.json'}: missing")
    job, encoder = config["job"], config["job"]["encoder"]
    label = encoder["family"] if encoder["name"] == "custom" else encoder["name"]
    told = {**job, "data_fingerprint": config["data_fingerprint"]}
    method = method_of(chain_of(job, lambda key: job_in(RunFolder(run.root, *key)))).replace(" ", "-")
    return Tracked(run, f"{run.stage}/{run.id[:8]}", f"{method}-{label}", told)


def job_in(run: RunFolder) -> dict[str, Any] | None:
    """The job of a run, as plain data; None where there is none."""
    config = run.read("config")
    return config and config["job"]
