"""The state of a run, read from its folder (no torch)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mixmae.files.records import Damaged
from mixmae.runs.cause import Cause, recorded_cause
from mixmae.runs.folder import RunFolder

STATES = ("planned", "waiting", "pending", "running", "stopped", "done", "failed", "blocked", "cancelled")


@dataclass(frozen=True)
class RunState:
    """The state of a run, by `state.json` and `launch.json` together."""

    state: str
    cause: Cause | None = None
    """Why it is in this state, for programs."""
    reason: str | None = None
    """The same in a sentence for people."""
    queued: str | None = None
    """Why the scheduler has not started it, in the scheduler's own word, such as "Priority"."""
    epoch: int | None = None
    epochs: int | None = None
    loss: float | None = None
    metric: float | None = None
    node: str | None = None
    tries: int = 0


def run_state(run: RunFolder, needs: RunState | None = None, needed: str = "pretraining") -> RunState:
    """Returns the state of `run`; `needs` is the state of the run that it starts from, if any, and `needed` what that
    run is, in a sentence.

    `launch.json` holds how many starts (`tries`) are wanted, `state.json` how many were made. A failed or stopped run
    with a start left is pending again. A run with a damaged file has failed.
    """
    try:
        launch, state = run.read("launch") or {}, run.read("state") or {}
        if state.get("state") == "done":
            run.read("result")
    except Damaged as error:
        return RunState("failed", Cause.DAMAGED, reason=str(error))
    return state_by(launch, state, run.is_held, needs, needed)


def state_by(
    launch: dict[str, Any],
    state: dict[str, Any],
    is_held: Callable[[], bool],
    needs: RunState | None,
    needed: str = "pretraining",
) -> RunState:
    """Returns what `run_state` returns, given the contents of `launch.json` and `state.json` ({}: no such file)."""
    figures: dict[str, Any] = {name: state.get(name) for name in ("epoch", "epochs", "loss", "metric", "node")}
    figures |= {"tries": state.get("tries", 0)}
    name = state.get("state")
    why: dict[str, Any] = {"cause": recorded_cause(state), "reason": state.get("reason")}
    if name == "running" and not is_held():
        name, why = "stopped", {"cause": Cause.KILLED, "reason": "its process died"}
    if name in ("running", "done"):
        return RunState(name, **why, **figures)
    if launch.get("cancelled"):
        return RunState("cancelled", cause=Cause.CANCELLED, reason="grid cancel", **figures)
    if name and launch.get("tries", 0) <= figures["tries"]:
        return RunState(name, **why, **figures)
    if needs and needs.state in ("failed", "blocked", "cancelled"):
        return RunState("blocked", cause=Cause.DEPENDENCY, reason=f"its {needed}: {needs.state}", **figures)
    if not launch:
        return RunState(name or "planned", **why, **figures)
    waits = needs and needs.state != "done"
    return RunState("waiting" if waits else "pending", **figures)
