"""Why a run ended or waits: one word that programs decide by, beside the sentence for people (no torch).

The job writes its cause into `state.json` where it can. Where it could not, the scheduler's accounting tells it (see
ablations.slurm.policy). Nothing is ever decided by the sentence.
"""

import errno
from enum import StrEnum
from typing import Any, Literal

from mixmae.files.retrying import FULL, TRANSIENT

RetryKey = Literal["preempted", "node_failure", "timeout", "out_of_memory", "failed"]
"""A field of a grid's `retries`."""


class Cause(StrEnum):
    """What ended a run, or keeps it from starting."""

    PREEMPTED = "preempted"
    """The cluster took its place away, or the job was cancelled there."""
    NODE_FAILURE = "node_failure"
    TIME_LIMIT = "time_limit"
    SIGNAL = "signal"
    """It was told to stop, and has saved what it goes on from."""
    KILLED = "killed"
    """Its process died without writing why."""
    LOST_PROCESS = "lost_process"
    """Another of the processes that computed it died."""
    LEFT_QUEUE = "left_queue"
    """Its job left the queue without starting it."""
    OUT_OF_MEMORY = "out_of_memory"
    DIVERGED = "diverged"
    """Its loss or gradient was not finite."""
    BAD_DATA = "bad_data"
    DISK = "disk"
    """The file system is full, read-only or fails."""
    LEASE_LOST = "lease_lost"
    """Another process took the run over."""
    DEPENDENCY = "dependency"
    """A run that it starts from is not done, or never will be."""
    CANCELLED = "cancelled"
    DAMAGED = "damaged"
    """A file of its folder is not what was written."""
    ERROR = "error"

    @property
    def retries(self) -> RetryKey:
        """The key of a grid's `retries` that says whether such a run is started again."""
        return _RETRIES.get(self, "failed")


_RETRIES: dict[Cause, RetryKey] = {
    Cause.PREEMPTED: "preempted",
    Cause.SIGNAL: "preempted",
    Cause.NODE_FAILURE: "node_failure",
    Cause.KILLED: "node_failure",
    Cause.LOST_PROCESS: "node_failure",
    Cause.TIME_LIMIT: "timeout",
    Cause.OUT_OF_MEMORY: "out_of_memory",
}


def cause_of(error: BaseException) -> Cause:
    """Returns the cause that an exception which ended a job stands for. This program's own have an attribute
    `cause`."""
    if word := getattr(error, "cause", None):
        return Cause(word)
    if isinstance(error, KeyboardInterrupt):
        return Cause.SIGNAL
    if _is_out_of_memory(error):
        return Cause.OUT_OF_MEMORY
    if isinstance(error, OSError) and error.errno in (*FULL, *TRANSIENT, errno.EROFS):
        return Cause.DISK
    return Cause.ERROR


def _is_out_of_memory(error: BaseException) -> bool:
    """Recognises torch's error of a full GPU by its name, since importing torch takes seconds."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def recorded_cause(state: dict[str, Any]) -> Cause | None:
    """Returns the cause in a `state.json`. Older versions wrote none: there it follows from the sentence."""
    if word := state.get("cause"):
        return Cause(word) if word in set(Cause) else Cause.ERROR
    name, reason = state.get("state"), state.get("reason") or ""
    if name == "stopped":
        return Cause.LOST_PROCESS if reason.startswith("lost ") else Cause.SIGNAL
    if name != "failed":
        return None
    begins = (
        ("out of memory", Cause.OUT_OF_MEMORY),
        ("its time limit came", Cause.TIME_LIMIT),
        ("its node failed, or it was killed", Cause.KILLED),
        ("its process died twice", Cause.KILLED),
        ("preempted or cancelled", Cause.PREEMPTED),
        ("the data has changed", Cause.BAD_DATA),
        ("its pretraining", Cause.DEPENDENCY),
    )
    return next((cause for sentence, cause in begins if reason.startswith(sentence)), Cause.ERROR)
