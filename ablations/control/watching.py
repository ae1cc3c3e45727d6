"""Shows on standard error how a launched plan gets on: live in a terminal, else one line a job that ends (no torch)."""

from collections import defaultdict
from contextlib import AbstractContextManager
from datetime import timedelta

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ablations.plan.plan import Entry, Plan
from mixmae.fields.identity import Key
from mixmae.fields.texts import many
from mixmae.files.records import whole_lines
from mixmae.runs.state import RunState

ENDED = ("done", "failed", "blocked", "cancelled")


class Watch(AbstractContextManager["Watch"]):
    """Shows how the jobs get on. started: the jobs that are counted, those that this command will see through."""

    def __init__(self, plan: Plan, started: set[Key], slots: int):
        self.jobs = len(plan.entries)
        self.entries = [entry for entry in plan.entries if entry.key in started]
        self.slots = slots
        self.console = Console(stderr=True)
        self.live = Live(console=self.console, transient=True, auto_refresh=False)
        self.ended: set[Key] = set()
        self.seconds_by_stage: dict[str, list[float]] = defaultdict(list)

    def __enter__(self) -> "Watch":
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.live.stop()

    def begin(self, run_states: dict[Key, RunState]) -> None:
        """Says that there is nothing to run, or, where no picture is shown, what there is: a log begins with it."""
        done = sum(state.state == "done" for state in run_states.values())
        if not self.entries:
            self.say(f"nothing to run: {done} of {self.jobs} jobs are done")
        elif not self.console.is_terminal:
            self.say(f"{many(self.jobs, 'job')}, {done} done, {self.slots} at once")

    def update(self, run_states: dict[Key, RunState]) -> None:
        for entry in self.entries:
            state = run_states[entry.key]
            if state.state in ENDED and entry.key not in self.ended:
                self.ended.add(entry.key)
                self.seconds_by_stage[entry.planned.stage].append(seconds_spent(entry))
                self.say(f"{len(self.ended)}/{len(self.entries)} {state.state}: {entry.title}{outcome(state)}")
        if self.console.is_terminal:
            self.live.update(self._picture(run_states), refresh=True)

    def say(self, line: str) -> None:
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _picture(self, run_states: dict[Key, RunState]) -> Group:
        table = Table.grid(padding=(0, 2))
        for entry in self._running(run_states):
            state = run_states[entry.key]
            loss = "" if state.loss is None else f"loss {state.loss:.4f}"
            epoch = f"epoch {state.epoch or 0}/{state.epochs or '?'}"
            table.add_row(entry.title, epoch, loss, span(remaining(entry, state)))
        text = f"{len(self.ended)} of {len(self.entries)} jobs ended, about {span(self._remaining(run_states))} left"
        return Group(Text(text), table)

    def _remaining(self, run_states: dict[Key, RunState]) -> float | None:
        """Seconds left: what runs, and for the rest the mean of its stage so far, or of any stage before there is one;
        None while nothing at all has been timed."""
        left = {entry.key: remaining(entry, run_states[entry.key]) for entry in self._running(run_states)}
        seconds = {stage: sum(seen) / len(seen) for stage, seen in self.seconds_by_stage.items()}
        known = [*seconds.values(), *(value for value in left.values() if value is not None)]
        if not known:
            return None
        anything = sum(known) / len(known)
        waiting = [entry for entry in self.entries if run_states[entry.key].state not in (*ENDED, "running")]
        total = sum(seconds.get(entry.planned.stage, anything) for entry in waiting)
        return (total + sum(anything if value is None else value for value in left.values())) / self.slots

    def _running(self, run_states: dict[Key, RunState]) -> list[Entry]:
        return [entry for entry in self.entries if run_states[entry.key].state == "running"]


def seconds_spent(entry: Entry) -> float:
    """Seconds of training or evaluation that the run's `timing.jsonl` adds up to."""
    return float(sum(line["seconds"] for line in whole_lines(entry.run.path / "timing.jsonl")[0]))


def remaining(entry: Entry, state: RunState) -> float | None:
    lines, _ = whole_lines(entry.run.path / "timing.jsonl")
    if not lines or not state.epochs:
        return None
    return (state.epochs - (state.epoch or 0)) * float(sum(line["seconds"] for line in lines)) / len(lines)


def span(seconds: float | None) -> str:
    return "?" if seconds is None else str(timedelta(seconds=round(seconds)))


def outcome(state: RunState) -> str:
    """What is worth saying of a run that ended: its top-1 in percent, or why it did not get there."""
    if state.state != "done":
        return f": {state.reason}" if state.reason else ""
    return "" if state.metric is None else f": {state.metric:.2f}"
