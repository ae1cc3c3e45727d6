"""The trackers that follow a run: each is told in a thread of its own, and none can hold up or end the training.

What a tracker raises is logged once, as a warning that names it, and the run goes on without it. The next start of the
run opens it again and tells it all that it missed, so its curve is whole then.
"""

import logging
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

from mixmae.fields.specs import resolve
from mixmae.runs.folder import RunFolder
from mixmae.tracking.asked import TRACKERS
from mixmae.tracking.tracker import Tracked, Tracker, tracked

log = logging.getLogger(__name__)

PATIENCE_S = {"done": 60.0, "failed": 60.0, "stopped": 10.0}
"""How long the end of a run waits for its trackers. Who stopped it may soon kill it."""


class Trackers:
    """Opens `names` when told what the run goes on from; without names it does nothing."""

    def __init__(self, run: RunFolder, names: tuple[str, ...]):
        self._run, self._names = run, names
        self._tellers: list[_Teller] | None = None

    def go_on(self, epochs: list[tuple[dict, dict]]) -> None:
        """From these epochs: lines of metrics.jsonl and of timing.jsonl. A run that goes back to the end of its last
        epoch calls this again; what was told stays true then."""
        if self._tellers is not None:
            return
        steps = [line["step"] for line, _ in epochs]
        opened = [(name, _kind(name)) for name in self._names]
        self._tellers = [_Teller(name, kind, self._run, steps) for name, kind in opened if kind]
        for teller in self._tellers:
            teller.start()
        for epoch in epochs:
            self.add(*epoch)

    def add(self, line: dict, timing: dict) -> None:
        """An epoch, by its lines in metrics.jsonl and timing.jsonl."""
        for teller in self._tellers or ():
            teller.queue.put((line["step"], figures(line, timing)))

    def close(self, ended: str | None) -> None:
        """ended: "done", "stopped" or "failed"; None where the run has become another process's, and its trackers with
        it."""
        end = time.monotonic() + (PATIENCE_S[ended] if ended else 0.0)
        for teller in self._tellers or ():
            teller.ended = ended
            teller.queue.put(None)
        for teller in self._tellers or ():
            teller.join(max(0.0, end - time.monotonic()))
            if teller.is_alive() and ended:
                log.warning("%s is not waited for any longer; it may lack what it was told last", teller.name)


def figures(line: dict, timing: dict) -> dict[str, float]:
    """What trackers are told of an epoch: the names and units are those of the files, after the file's name."""
    told = {f"metrics/{name}": value for name, value in line.items() if name not in ("epoch", "step")}
    told |= {f"timing/{name}": value for name, value in timing.items() if name != "epoch"}
    return {"epoch": line["epoch"], **told}


def _kind(name: str) -> Callable[[Tracked, list[int]], Tracker] | None:
    """None where it cannot be imported. Not left to its thread: a data loading process must not be forked off while
    that holds the lock of a module."""
    try:
        return resolve(TRACKERS[name])
    except Exception as error:
        _give_up(name, error)
        return None


def _give_up(name: str, error: Exception) -> None:
    lines = str(error).strip().splitlines() or ["no message"]
    log.warning("%s does not follow this run any longer: %s: %s", name, type(error).__name__, lines[0])


class _Teller(threading.Thread):
    """Tells one tracker of (step, figures) until it finds None in `queue`. It draws no random numbers."""

    def __init__(self, name: str, kind: Callable[[Tracked, list[int]], Tracker], run: RunFolder, steps: list[int]):
        super().__init__(name=name, daemon=True)
        self._kind, self._run, self._steps = kind, run, steps
        self.queue: SimpleQueue[tuple[int, dict[str, float]] | None] = SimpleQueue()
        self.ended: str | None = None

    def run(self) -> None:
        try:
            tracker = self._kind(tracked(self._run), self._steps)
            log.info("%s follows this run: %s", self.name, tracker.where)
            while (told := self.queue.get()) is not None:
                if not tracker.holds(told[0]):
                    tracker.add(*told)
            if self.ended:
                tracker.close(self.ended)
        except Exception as error:
            _give_up(self.name, error)
