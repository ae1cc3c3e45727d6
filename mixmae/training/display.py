"""How a training run shows itself: live in a terminal, else as one log line a minute (no torch)."""

import logging
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TextIO

from rich.console import Console, Group
from rich.file_proxy import FileProxy
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

log = logging.getLogger(__name__)

DRAWN_EVERY_S = 1 / 8
LOGGED_EVERY_S = 60.0
WINDOW_STEPS = 50
WINDOW_S = 30.0
"""Speed, share of data wait and mean gradient norm are those of the last WINDOW_STEPS steps or WINDOW_S seconds,
whichever holds more steps."""
BETWEEN = "  "


@dataclass(frozen=True)
class _Step:
    """What the last step was told."""

    number: int
    loss: float
    lr: float
    grad_norm: float
    memory_gb: float


class _Window:
    """Times (s), data waits (s) and gradient norms of the last steps."""

    def __init__(self):
        self._steps: deque[tuple[float, float, float]] = deque()
        self._seconds = 0.0

    def add(self, seconds: float, waited: float, norm: float) -> None:
        self._steps.append((seconds, waited, norm))
        self._seconds += seconds
        while len(self._steps) > WINDOW_STEPS and self._seconds - self._steps[0][0] >= WINDOW_S:
            self._seconds -= self._steps.popleft()[0]

    def step_seconds(self) -> float | None:
        return self._seconds / len(self._steps) if self._seconds > 0 else None

    def wait_share(self) -> float | None:
        """From 0 to 1."""
        return min(1.0, sum(waited for _, waited, _ in self._steps) / self._seconds) if self._seconds > 0 else None

    def mean_norm(self) -> float | None:
        """Of the steps whose gradient was a number."""
        norms = [norm for _, _, norm in self._steps if math.isfinite(norm)]
        return sum(norms) / len(norms) if norms else None


@dataclass(frozen=True)
class Length:
    """How long a run trains."""

    epochs: int
    steps_per_epoch: int
    images_per_step: int


class Display:
    """One process's training run on `stream` (default: standard error), from step `first_step` of the run on.

    In a terminal a live frame, above which goes what is logged and written to standard error meanwhile; handlers that
    log to `stream` are led there until `close`. Elsewhere one line a minute to the log.

    The first step, which starts processes and compiles, does not count as speed, nor does what lies in `pause`. The
    time left is that of the steps left at the current speed, and of as many pauses an epoch as were seen so far.
    """

    def __init__(
        self,
        title: str,
        length: Length,
        first_step: int,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._title = title
        self._epochs = length.epochs
        self._steps_per_epoch = length.steps_per_epoch
        self._images_per_step = length.images_per_step
        self._first_step = first_step
        self._clock = clock
        self._last: _Step | None = None
        self._window = _Window()
        self._doing: str | None = None
        self._paused_s = self._paused_since_step_s = 0.0
        self._epochs_ended = 0
        self._stepped_at = self._shown_at = clock()
        self._shown: _Step | None = None
        self._terminal = _Terminal.of(stream or sys.stderr, self._frame)

    def step(self, step: int, loss: float, lr: float, grad_norm: float, memory_gb: float, waited_s: float) -> None:
        """After each optimiser step; `step` counts from 1 over the whole run.

        lr: before layer decay. memory_gb: 10^9 bytes. waited_s: how long this step waited for its images. A loss or
        non-finite norm is shown as such, and left out of the mean.
        """
        now = self._clock()
        seconds = now - self._stepped_at - self._paused_since_step_s
        if self._last is not None:
            self._window.add(seconds, waited_s, grad_norm)
        self._stepped_at, self._paused_since_step_s = now, 0.0
        self._last = _Step(step, loss, lr, grad_norm, memory_gb)
        self._epochs_ended += step % self._steps_per_epoch == 0
        if now - self._shown_at >= (DRAWN_EVERY_S if self._terminal else LOGGED_EVERY_S):
            self._show()

    @contextmanager
    def pause(self, doing: str) -> Iterator[None]:
        """Around what is no training, such as "validating": shown as such, its time does not count as speed."""
        began = self._clock()
        self._doing = doing
        if self._terminal:
            self._show()
        try:
            yield
        finally:
            self._doing = None
            seconds = self._clock() - began
            self._paused_s += seconds
            self._paused_since_step_s += seconds

    def close(self) -> None:
        """Shows the last step, if it was not shown yet, and gives the terminal back. May be called again."""
        if self._terminal:
            self._terminal.close()
        elif self._shown is not self._last:
            self._show()

    def _show(self) -> None:
        self._shown_at, self._shown = self._clock(), self._last
        if self._terminal:
            self._terminal.draw()
        else:
            figures = [*self._place(), *self._figures("learning rate", "gradient norm", "memory")]
            log.info("%s: %s", self._title, ", ".join(figures))

    def _place(self) -> list[str]:
        """How far the run is and how fast."""
        done, begun = (self._last.number, self._last.number - 1) if self._last else (self._first_step, self._first_step)
        epoch = min(begun // self._steps_per_epoch + 1, self._epochs)
        place = [f"epoch {epoch}/{self._epochs}", f"step {done}/{self._epochs * self._steps_per_epoch}"]
        if self._last is None:
            return [*place, "starting"]
        step_s = self._window.step_seconds()
        speed = _plain(self._images_per_step / step_s) if step_s else "?"
        return [*place, f"{speed} images/s", f"ETA {_duration(self._seconds_left(done, step_s)) if step_s else '?'}"]

    def _figures(self, lr: str, norm: str, memory: str) -> list[str]:
        """What the steps said, each with its unit, under these names."""
        if self._last is None:
            return []
        share, mean = self._window.wait_share(), self._window.mean_norm()
        return [
            f"loss {self._last.loss:.4g}",
            f"{lr} {self._last.lr:.3g}",
            f"{norm} {self._last.grad_norm:.3g} (mean {self._last.grad_norm if mean is None else mean:.3g})",
            f"{memory} {self._last.memory_gb:.1f} GB",
            f"data wait {'?' if share is None else round(100 * share)} %",
        ]

    def _seconds_left(self, done: int, step_s: float) -> float:
        steps_left = self._epochs * self._steps_per_epoch - done
        epochs_left = self._epochs - done // self._steps_per_epoch
        paused_an_epoch = self._paused_s / self._epochs_ended if self._epochs_ended else 0.0
        return steps_left * step_s + epochs_left * paused_an_epoch

    def _frame(self, width: int) -> Group:
        """A line with the title and a bar, below it the place and the figures, lines broken only between two."""
        done = (self._last.number if self._last else self._first_step) / (self._epochs * self._steps_per_epoch)
        head = Table.grid(expand=True, padding=(0, 1))
        head.add_column(no_wrap=True, overflow="ellipsis")
        head.add_column(ratio=1)
        title = f"{self._title}: {self._doing}" if self._doing else self._title
        head.add_row(Text(title, "bold"), ProgressBar(1.0, min(done, 1.0)))
        lines = [*_packed(self._place(), width), *_packed(self._figures("lr", "grad", "mem"), width)]
        return Group(head, *map(Text, lines))


class _Terminal:
    """A frame kept at the foot of a terminal.

    No thread redraws it: loading processes are forked while it is up. The cursor stays visible, so that nothing is
    amiss after a kill.
    """

    def __init__(self, console: Console, stream: TextIO, frame: Callable[[int], Group]):
        # Live redirects what looks sys.stderr up; handlers hold the stream itself.
        self._live = Live(
            get_renderable=lambda: frame(console.width),
            console=console,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=stream is sys.stderr,
        )
        self._stream = stream
        handlers = (handler for handler in _handlers(log) if isinstance(handler, logging.StreamHandler))
        self._led = [handler for handler in handlers if handler.stream is stream]
        self._live.start(refresh=True)
        console.show_cursor(True)
        for handler in self._led:
            handler.setStream(FileProxy(console, stream))

    @classmethod
    def of(cls, stream: TextIO, frame: Callable[[int], Group]) -> "_Terminal | None":
        """None where `stream` is no terminal, or one that cannot move its cursor."""
        console = Console(file=stream, soft_wrap=True)
        return cls(console, stream, frame) if stream.isatty() and console.is_interactive else None

    def draw(self) -> None:
        self._live.refresh()

    def close(self) -> None:
        for handler in self._led:
            handler.setStream(self._stream)
        self._led = []
        self._live.stop()


def _handlers(logger: logging.Logger | None) -> Iterator[logging.Handler]:
    """Of a logger and of those that get its records."""
    while logger:
        yield from logger.handlers
        logger = logger.parent if logger.propagate else None


def _packed(pieces: list[str], width: int) -> list[str]:
    """Lines of at most `width` columns, or of one piece that is longer."""
    lines: list[str] = []
    for piece in pieces:
        if lines and len(lines[-1]) + len(BETWEEN) + len(piece) <= width:
            lines[-1] += BETWEEN + piece
        else:
            lines.append(piece)
    return lines


def _plain(number: float) -> str:
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"


def _duration(seconds: float) -> str:
    """In its two largest units."""
    whole = round(seconds)
    for unit, size, below, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // part} {below}"
    return f"{whole} s"
