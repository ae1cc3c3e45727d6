"""What a run writes epoch by epoch: metrics.jsonl (repeatable) and timing.jsonl (all that depends on the clock)."""

from pathlib import Path

from mixmae.files.records import line_of, whole_lines, write_atomically
from mixmae.files.retrying import naming, retried
from mixmae.tracking.trackers import Trackers


class Journal:
    """`lines` are those of metrics.jsonl; a resumed run first calls `restore` with the lines of its checkpoint.

    writes: only one process of a run does; the others keep the lines. trackers: told of every epoch, too.
    """

    def __init__(self, folder: Path, writes: bool, trackers: Trackers):
        self._writes, self._trackers = writes, trackers
        self._metrics = folder / "metrics.jsonl"
        self._timing = folder / "timing.jsonl"
        self.lines: list[dict] = []

    def restore(self, lines: list[dict]) -> None:
        """Cuts both files back to `lines`: what was logged after the checkpoint will be logged again.

        Damaged lines of timing.jsonl, which nothing can tell anew, are left out.
        """
        self.lines = list(lines)
        if not self._writes:
            return
        epoch = lines[-1]["epoch"] if lines else 0
        timing = [line for line in whole_lines(self._timing)[0] if line["epoch"] <= epoch]
        _rewrite(self._metrics, self.lines)
        _rewrite(self._timing, timing)
        timed = {line["epoch"]: line for line in timing}
        self._trackers.go_on([(line, timed.get(line["epoch"], {})) for line in self.lines])

    def add(self, line: dict, seconds: float, images: int, **timing: float) -> None:
        """`seconds`, `images` and what else is measured are those of the epoch that `line` is about."""
        self.lines.append(line)
        if not self._writes:
            return
        _append(self._metrics, line)
        speed = {"seconds": round(seconds, 3), "images_per_s": round(images / seconds, 1)}
        timed = {"epoch": line["epoch"], **speed, **timing}
        _append(self._timing, timed)
        self._trackers.add(line, timed)


def _append(path: Path, line: dict) -> None:
    end = path.stat().st_size if path.exists() else 0

    def write() -> None:
        with naming(path), path.open("ab") as file:
            file.truncate(end)  # what a try before this one has left
            file.write(line_of(line).encode())

    retried(write)


def _rewrite(path: Path, lines: list[dict]) -> None:
    text = "".join(line_of(line) for line in lines)
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
