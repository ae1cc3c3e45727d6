"""What a run writes epoch by epoch: metrics.jsonl (repeatable) and timing.jsonl (all that depends on the clock)."""

import json
from pathlib import Path

from mixmae.runs import read_lines, write_atomically


class Journal:
    """`lines` are those of metrics.jsonl; a resumed run first calls `restore` with the lines of its checkpoint."""

    def __init__(self, folder: Path):
        self._metrics = folder / "metrics.jsonl"
        self._timing = folder / "timing.jsonl"
        self.lines: list[dict] = []

    def restore(self, lines: list[dict]) -> None:
        """Cuts both files back to `lines`: what was logged after the checkpoint will be logged again."""
        self.lines = list(lines)
        epoch = lines[-1]["epoch"] if lines else 0
        _rewrite(self._metrics, self.lines)
        _rewrite(self._timing, [line for line in read_lines(self._timing) if line["epoch"] <= epoch])

    def add(self, line: dict, seconds: float, images: int) -> None:
        """`seconds` and `images` are those of the epoch that `line` is about."""
        self.lines.append(line)
        _append(self._metrics, line)
        speed = {"seconds": round(seconds, 3), "images_per_s": round(images / seconds, 1)}
        _append(self._timing, {"epoch": line["epoch"], **speed})


def _append(path: Path, line: dict) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def _rewrite(path: Path, lines: list[dict]) -> None:
    text = "".join(json.dumps(line) + "\n" for line in lines)
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
