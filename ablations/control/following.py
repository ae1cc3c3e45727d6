"""A grid followed live, and kept going: what ended early is submitted again as its retry policy says (no torch)."""

import time

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from ablations.grid.file import Grid
from ablations.plan.plan import Plan
from ablations.plan.showing import most_telling, plan_summary, status_table
from ablations.slurm.policy import seen
from mixmae.fields.identity import Key
from mixmae.fields.texts import many
from mixmae.runs.state import RunState

ROWS = 30
"""The most runs shown at once, of those that are not settled."""
SETTLED = ("done", "failed", "blocked", "cancelled")


def follow(grid: Grid, plan: Plan, every_s: float, submits: bool) -> int:
    """Shows the grid every so often until nothing of it waits or runs: 0, or 1 where something failed. Without a
    terminal a line whenever something has changed.

    submits: also starts, on Slurm, what may be started (again); an answer that Slurm owes is waited for.
    """
    console, news, before = Console(stderr=True), "", ""
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            if submits and (latest := _submitted(grid, plan)):
                news = latest
                if not console.is_terminal:
                    print(news, flush=True)
            run_states = seen(plan)
            if console.is_terminal:
                live.update(_frame(plan, run_states, news), refresh=True)
            elif (now := plan_summary(plan, run_states)[0]) != before:
                print(now, flush=True)
                before = now
            if all(state.state in SETTLED or (not submits and _is_left(state)) for state in run_states.values()):
                break
            time.sleep(every_s)
    if console.is_terminal:
        print(plan_summary(plan, run_states)[0])
    return int(any(state.state in ("failed", "blocked") for state in run_states.values()))


def _is_left(state: RunState) -> bool:
    """Whether nothing is under way that would start it."""
    return state.state in ("planned", "stopped")


def _submitted(grid: Grid, plan: Plan) -> str:
    from ablations.slurm.submitting import submit

    try:
        made = submit(grid, plan, cancelled=False)
    except (RuntimeError, OSError) as error:  # of Slurm, of submitit, of a file server, or held by another launch
        return f"{time.strftime('%H:%M')} {error}"
    return f"{time.strftime('%H:%M')} submitted {many(sum(len(array.tasks) for array in made), 'task')}" if made else ""


def _frame(plan: Plan, run_states: dict[Key, RunState], news: str) -> Group:
    moving = [entry for entry in plan.entries if run_states[entry.key].state not in ("done", "planned")]
    shown = most_telling(moving, run_states, ROWS)
    more = f"and {len(moving) - len(shown)} more" if len(moving) > len(shown) else ""
    lines = (plan_summary(plan, run_states)[0], more, news)
    return Group(status_table(shown, run_states), *(Text(line) for line in lines if line))
