"""How runs stand with what Slurm says of them, and which of those that ended early are started again (no torch).

What a run has reached is in its folder; Slurm only adds what a folder cannot know: that a job waits in the queue and
why, that it left without starting, and what ended a process that could not say so itself.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from ablations.plan.plan import Entry, Plan, states
from ablations.slurm.resources import Retry, Slurm
from ablations.slurm.submissions import Submission, submissions, task_of
from mixmae.fields.identity import Key
from mixmae.runs.cause import Cause
from mixmae.runs.folder import RunFolder, newest_step
from mixmae.runs.lease import Held
from mixmae.runs.scheduler import Ended, Queued, queue
from mixmae.runs.state import RunState

CAUSES = {
    "PREEMPTED": Cause.PREEMPTED,
    "CANCELLED": Cause.PREEMPTED,
    "COMPLETED": Cause.PREEMPTED,
    "PENDING": Cause.PREEMPTED,
    "NODE_FAIL": Cause.NODE_FAILURE,
    "BOOT_FAIL": Cause.NODE_FAILURE,
    "TIMEOUT": Cause.TIME_LIMIT,
    "DEADLINE": Cause.TIME_LIMIT,
    "OUT_OF_MEMORY": Cause.OUT_OF_MEMORY,
}
"""What ended a task, by Slurm's states."""
WORDS = {
    "preempted": "preempted or cancelled",
    "node_failure": "its node failed, or it was killed",
    "timeout": "its time limit came",
    "out_of_memory": "out of memory",
    "failed": "it failed",
}
"""What ended a run, in words for people, by the key of `retries`."""
KILL, SHELL_SAYS_KILL, STOPPED = 9, 128 + 9, 75
"""Exit codes of processes that were killed, and of those whose run lost another process."""
WAITING = ("Dependency", "DependencyNeverSatisfied")
NO_REASON = "None"
"""What squeue gives as the reason of a task that the scheduler has not looked at yet."""


class Run(Protocol):
    """A run of a plan, or one known by its folder alone."""

    @property
    def key(self) -> Key: ...

    @property
    def run(self) -> RunFolder: ...


def seen(plan: Plan) -> dict[Key, RunState]:
    """How the runs of the plan stand, by one call of squeue where some were submitted and are not done."""
    return in_the_queue(plan.root, plan.entries, states(plan.entries))


def in_the_queue(root: Path, runs: Sequence[Run], run_states: dict[Key, RunState]) -> dict[Key, RunState]:
    """`run_states` with what Slurm says of the runs: one call of squeue where some were submitted and are not done."""
    known = submissions(root)
    unsettled = any(state.state not in ("done", "planned", "blocked") for state in run_states.values())
    return standing(runs, run_states, known, queue() if known and unsettled else None)


def standing(
    runs: Iterable[Run], run_states: dict[Key, RunState], known: dict[str, Submission], queued: dict[str, Queued] | None
) -> dict[Key, RunState]:
    """`run_states` with what the queue says; as it is where Slurm does not answer."""
    if queued is None:
        return run_states
    return {
        run.key: _in_the_queue(run_states[run.key], task_of(run.run, known), queued) if known else run_states[run.key]
        for run in runs
    }


def _in_the_queue(state: RunState, task: str | None, queued: dict[str, Queued]) -> RunState:
    if task is None or state.state in ("done", "running", "cancelled", "blocked"):
        return state
    own = queued.get(task)
    if own is None:
        return _left(state) if state.state in ("pending", "waiting") else state
    if own.state == "PENDING":
        name = "waiting" if state.state == "waiting" or own.reason in WAITING else "pending"
        why = own.reason if own.reason != NO_REASON else None
        return replace(state, state=name, cause=None, reason=why, queued=why)
    return replace(state, state="pending", cause=None, reason=f"starting on {own.node}", node=own.node or None)


def _left(state: RunState) -> RunState:
    return replace(state, state="stopped", cause=Cause.LEFT_QUEUE, reason="its job left the queue without starting it")


def causes(tasks: dict[Key, str], run_states: dict[Key, RunState], ended: dict[str, Ended] | None) -> dict[Key, Cause]:
    """What ended each run's task. Without accounting: as if its node had failed, since it left no word.

    Of a pack, what ended the task is the doing of the run it was at: those it did not come to were kept from starting.
    """
    begun = {task for key, task in tasks.items() if run_states[key].cause is not Cause.LEFT_QUEUE}
    kept = {key for key, task in tasks.items() if run_states[key].cause is Cause.LEFT_QUEUE and task in begun}
    return {key: Cause.PREEMPTED if key in kept else _cause((ended or {}).get(task)) for key, task in tasks.items()}


def _cause(ended: Ended | None) -> Cause:
    if ended is None:
        return Cause.KILLED
    killed = ended.signal == KILL or ended.code in (KILL, SHELL_SAYS_KILL, STOPPED)
    return CAUSES.get(ended.state, Cause.KILLED if killed else Cause.ERROR)


def to_judge(entries: Iterable[Entry], run_states: dict[Key, RunState], known: dict[str, Submission]) -> dict[Key, str]:
    """The tasks of the runs that ended early, and of which Slurm may know why."""
    tasks = {}
    for entry in entries:
        if run_states[entry.key].state in ("stopped", "failed") and (task := task_of(entry.run, known)):
            tasks[entry.key] = task
    return tasks


def judged(
    plan: Plan, run_states: dict[Key, RunState], slurms: dict[Key, Slurm], why: dict[Key, Cause]
) -> dict[Key, RunState]:
    """`run_states`, where a run that may not be started again has failed, and one that may has stopped.

    The count of each cause and the step reached are kept in the run's launch.json.
    """
    judged = dict(run_states)
    for entry in plan.entries:
        if entry.key in why:
            judged[entry.key] = _judged(entry, run_states[entry.key], slurms[entry.key], why[entry.key])
    return judged


def _settled(state: RunState, accounted: Cause) -> Cause:
    """The cause that counts: a failed run's own word; of a stopped one what accounting says, unless that is no more
    than that the task failed, which a run that stopped by itself has its own word for, too."""
    if state.state == "failed":
        return state.cause or Cause.ERROR
    if accounted is Cause.ERROR and state.cause in (Cause.SIGNAL, Cause.LOST_PROCESS):
        return state.cause
    return accounted


def _judged(entry: Entry, state: RunState, slurm: Slurm, accounted: Cause) -> RunState:
    """A run that said itself that it stopped had time to save, whatever then became of its process."""
    launch = entry.run.recovered("launch")
    cause = _settled(state, accounted)
    key = cause.retries
    task = [launch.get("submission"), launch.get("task")]
    if launch.get("judged") == task:  # by a launch that died before it submitted
        return replace(state, state="stopped")
    retry: Retry = getattr(slurm.retries, key)
    counts, step = launch.get("retries", {}), newest_step(entry.run)
    again = retry.when == "always" or (retry.when == "progress" and step > launch.get("reached", -1))
    if not again or counts.get(key, 0) >= retry.most:
        return state if state.state == "failed" else _failed(entry.run, state, cause, retry, again)
    counted = {**counts, key: counts.get(key, 0) + 1}
    entry.run.write("launch", {**launch, "retries": counted, "reached": step, "judged": task})
    return replace(state, state="stopped", cause=cause, reason=f"{WORDS[key]}; goes on")


def _failed(run: RunFolder, state: RunState, cause: Cause, retry: Retry, again: bool) -> RunState:
    """Writes so in the place of the job that could not: the lease makes this process the owner of its state. A run that
    another process holds, or that has gone on since it was looked at, is left as it is."""
    why = f"{retry.most} times" if again else "and reached nothing new" if retry.when == "progress" else ""
    reason = f"{WORDS[cause.retries]} {why}".strip() + "; mixmae grid retry queues it again"
    try:
        with run.lease():
            said = run.recovered("state")
            if run.read("result") is not None or said.get("tries", 0) != state.tries:
                return replace(state, state="running")
            # A job that died before it began has made its start all the same.
            tries = max(state.tries, run.recovered("launch").get("tries", 0))
            run.write("state", {**said, "state": "failed", "cause": cause, "reason": reason, "tries": tries})
    except Held as error:
        return replace(state, state="running", cause=None, reason=str(error))
    return replace(state, state="failed", cause=cause, reason=reason)
