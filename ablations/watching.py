"""Shows on standard error how a launched plan gets on: live in a terminal, else one line a job that ends (no torch)."""

from collections import defaultdict
from contextlib import AbstractContextManager
from datetime import timedelta

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ablations.planning import Entry, Key, Plan
from mixmae.runs import RunState, read_lines

ENDED = ("done", "failed", "blocked", "cancelled")


class Watch(AbstractContextManager):
    """`started` are the jobs that are counted: those that this command will see through."""

    def __init__(self, plan: Plan, started: set[Key], slots: int):
        self.entries = [entry for entry in plan.entries if entry.key in started]
        self.slots = slots
        self.console = Console(stderr=True)
        self.live = Live(console=self.console, transient=True, auto_refresh=False)
        self.told: set[Key] = set()
        self.seconds_by_stage: dict[str, list[float]] = defaultdict(list)

    def __enter__(self) -> "Watch":
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *error) -> None:
        self.live.stop()

    def update(self, found: dict[Key, RunState]) -> None:
        for entry in self.entries:
            state = found[entry.key]
            if state.state in ENDED and entry.key not in self.told:
                self.told.add(entry.key)
                self.seconds_by_stage[entry.planned.stage].append(seconds_spent(entry))
                self.say(f"{len(self.told)}/{len(self.entries)} {state.state}: {entry.title}{_outcome(state)}")
        if self.console.is_terminal:
            self.live.update(self._picture(found), refresh=True)

    def say(self, line: str) -> None:
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _picture(self, found: dict[Key, RunState]) -> Group:
        table = Table.grid(padding=(0, 2))
        for entry in self.entries:
            state = found[entry.key]
            if state.state == "running":
                loss = "" if state.loss is None else f"loss {state.loss:.4f}"
                left = _remaining(entry, state)
                row = (entry.title, f"epoch {state.epoch or 0}/{state.epochs or '?'}", loss, _span(left))
                table.add_row(*row)
        text = f"{len(self.told)} of {len(self.entries)} jobs ended, about {_span(self._remaining(found))} left"
        return Group(Text(text), table)

    def _remaining(self, found: dict[Key, RunState]) -> float | None:
        """Seconds left: what runs, and for the rest the mean of its stage so far; None before there is one."""
        total = 0.0
        for entry in self.entries:
            state = found[entry.key]
            if state.state == "running":
                left = _remaining(entry, state)
            elif state.state in ENDED:
                left = 0.0
            else:
                seen = self.seconds_by_stage.get(entry.planned.stage)
                left = sum(seen) / len(seen) if seen else None
            if left is None:
                return None
            total += left
        return total / self.slots


def seconds_spent(entry: Entry) -> float:
    """Seconds of training or evaluation that the run's `timing.jsonl` adds up to."""
    return sum(line["seconds"] for line in read_lines(entry.run.path / "timing.jsonl"))


def _remaining(entry: Entry, state: RunState) -> float | None:
    lines = read_lines(entry.run.path / "timing.jsonl")
    if not lines or not state.epochs:
        return None
    return (state.epochs - (state.epoch or 0)) * sum(line["seconds"] for line in lines) / len(lines)


def _span(seconds: float | None) -> str:
    return "?" if seconds is None else str(timedelta(seconds=round(seconds)))


def _outcome(state: RunState) -> str:
    if state.state != "done":
        return f": {state.reason}"
    return "" if state.metric is None else f": {state.metric:.2f}"
