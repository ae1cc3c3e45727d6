"""The trackers that follow a run: each works in a thread of its own, so that none can delay or end the training.

An error of a tracker is logged once, as a warning that names it, and the run goes on without it. The next start of the
run opens the tracker again and adds all epochs that it missed.
"""

import logging
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from mixmae.fields.specs import resolve
from mixmae.runs.folder import RunFolder
from mixmae.tracking.asked import TRACKERS
from mixmae.tracking.tracker import Tracked, Tracker, tracked

log = logging.getLogger(__name__)

PATIENCE_S = {"done": 60.0, "failed": 60.0, "stopped": 10.0}
"""How long the end of a run waits for its trackers. A stopped run may soon be killed, so it waits less."""


class Trackers:
    """The trackers `names` of one run, opened by `go_on`. Without names it does nothing."""

    def __init__(self, run: RunFolder, names: tuple[str, ...]):
        self._run, self._names = run, names
        self._threads: list[_TrackerThread] | None = None

    def go_on(self, epochs: list[tuple[dict[str, Any], dict[str, Any]]]) -> None:
        """Opens the trackers and adds the epochs that the run resumes from.

        epochs: their lines in metrics.jsonl and timing.jsonl. A run that diverged and goes back to its last epoch's end
        calls this again, which changes nothing: what the trackers hold is still right.
        """
        if self._threads is not None:
            return
        steps = [line["step"] for line, _ in epochs]
        opened = [(name, _kind(name)) for name in self._names]
        self._threads = [_TrackerThread(name, kind, self._run, steps) for name, kind in opened if kind]
        for thread in self._threads:
            thread.start()
        for epoch in epochs:
            self.add(*epoch)

    def add(self, line: dict[str, Any], timing: dict[str, Any]) -> None:
        """Adds an epoch, given its lines in metrics.jsonl and timing.jsonl."""
        for thread in self._threads or ():
            thread.queue.put((line["step"], figures(line, timing)))

    def close(self, ended: str | None) -> None:
        """Ends the records. ended: "done", "stopped" or "failed"; None where another process has taken the run over,
        and its trackers with it."""
        end = time.monotonic() + (PATIENCE_S[ended] if ended else 0.0)
        for thread in self._threads or ():
            thread.ended = ended
            thread.queue.put(None)
        for thread in self._threads or ():
            thread.join(max(0.0, end - time.monotonic()))
            if thread.is_alive() and ended:
                log.warning("%s is not waited for any longer; it may lack what it was told last", thread.name)


def figures(line: dict[str, Any], timing: dict[str, Any]) -> dict[str, float]:
    """Returns an epoch's figures for trackers, named after file and key ("metrics/loss"), in the files' units."""
    named = {f"metrics/{name}": value for name, value in line.items() if name not in ("epoch", "step")}
    named |= {f"timing/{name}": value for name, value in timing.items() if name != "epoch"}
    return {"epoch": line["epoch"], **named}


def _kind(name: str) -> Callable[[Tracked, list[int]], Tracker] | None:
    """Returns the class of a tracker; None, with a warning, where it cannot be imported. Not left to its thread: a data
    loading process must not be forked while that thread holds a module's import lock."""
    try:
        return resolve(TRACKERS[name])
    except Exception as error:
        _give_up(name, error)
        return None


def _give_up(name: str, error: Exception) -> None:
    lines = str(error).strip().splitlines() or ["no message"]
    log.warning("%s does not follow this run any longer: %s: %s", name, type(error).__name__, lines[0])


class _TrackerThread(threading.Thread):
    """Adds (step, figures) from `queue` to one tracker until it takes None from there. Draws no random numbers."""

    def __init__(self, name: str, kind: Callable[[Tracked, list[int]], Tracker], run: RunFolder, steps: list[int]):
        super().__init__(name=name, daemon=True)
        self._kind, self._run, self._steps = kind, run, steps
        self.queue: SimpleQueue[tuple[int, dict[str, float]] | None] = SimpleQueue()
        self.ended: str | None = None

    def run(self) -> None:
        try:
            tracker = self._kind(tracked(self._run), self._steps)
            log.info("%s follows this run: %s", self.name, tracker.where)
            while (epoch := self.queue.get()) is not None:
                if not tracker.holds(epoch[0]):
                    tracker.add(*epoch)
            if self.ended:
                tracker.close(self.ended)
        except Exception as error:
            _give_up(self.name, error)
