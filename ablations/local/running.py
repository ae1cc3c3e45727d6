"""Runs a plan in this process, one job after another (no torch until a job starts)."""

import os
import signal
from typing import TYPE_CHECKING

from rich.console import Console

from ablations.control.watching import outcome
from ablations.plan.plan import Plan, states
from ablations.plan.queueing import create_run, queue
from mixmae.runs.lease import Held
from mixmae.training.resources import Resources
from mixmae.work.worker import StopFlag, run_job

if TYPE_CHECKING:
    from mixmae.training.processes import Processes

HEARD = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
"""The last two are what a scheduler is usually told to send (sbatch --signal) before a time limit or a preemption."""


def run_here(plan: Plan, resources: Resources, processes: "Processes | None" = None) -> int:
    """Runs what of the plan is not done; 0, 1 where a job failed, 75 after another signal, 130 after Ctrl-C.

    Unlike a grid it also runs anew what has failed before: its one experiment was asked for. processes: those that
    compute with this one, which all end with a job that does not end well. Raises mixmae.runs.lease.Held where another
    process has a run.
    """
    os.environ["OMP_NUM_THREADS"] = str(resources.threads)
    stop = StopFlag(*HEARD)
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    failed = False
    for number, entry in enumerate(plan.entries, start=1):
        run_states = states(plan.entries)
        able = not entry.needs or run_states[entry.needs].state == "done"
        if run_states[entry.key].state == "running":
            raise Held(f"{entry.run.path} is run by another process; try again when it has ended")
        if able:  # of what is done it may be damaged
            create_run(plan.root, entry.planned)
        if able and run_states[entry.key].state != "done":
            queue(entry.run)
            console.print(f"{number}/{len(plan.entries)} {entry.title}: {entry.run.path}")
            run_job(entry.run, resources, stop, processes)
        state = states(plan.entries)[entry.key]
        console.print(f"{number}/{len(plan.entries)} {state.state}: {entry.title}{outcome(state)}")
        failed |= state.state in ("failed", "blocked")
        if stop() or state.state == "stopped":
            return 130 if stop.raised == signal.SIGINT else 75
        if processes and failed:
            return 1
    if processes:
        processes.dismiss()
    return int(failed)


def follow_here(resources: Resources, processes: "Processes") -> int:
    """Computes with the process of rank 0, which runs the plan; returns the exit code."""
    from mixmae.work.execution import follow

    os.environ["OMP_NUM_THREADS"] = str(resources.threads)
    stop = StopFlag(*HEARD)
    ended = follow(resources, stop, processes)
    if ended == "stopped":
        return 130 if stop.raised == signal.SIGINT else 75
    return int(ended == "failed")
