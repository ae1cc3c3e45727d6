"""Writes TensorBoard's event files into the run folder, so that they move with it."""

from itertools import takewhile
from pathlib import Path

import yaml
from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from mixmae.tracking.tracker import Tracked


class TensorBoard:
    """Each start of the run writes a new event file. Its `purge_step` hides what earlier files hold after the epoch
    that the run resumes from, or after a gap."""

    def __init__(self, tracked: Tracked, steps: list[int]):
        folder = tracked.run.path / "tensorboard"
        self.where = str(folder)
        self._held = list(takewhile(_steps(folder).__contains__, steps))
        self._writer = SummaryWriter(self.where, purge_step=self._held[-1] + 1 if self._held else 0)
        if not self._held:
            text = yaml.safe_dump(tracked.config, sort_keys=False)
            self._writer.add_text("config", f"```yaml\n{text}```", global_step=0)

    def holds(self, step: int) -> bool:
        return step in self._held

    def add(self, step: int, figures: dict[str, float]) -> None:
        """Writes the scalar `epoch` last: an epoch that has it is complete."""
        for name in sorted(figures, key="epoch".__eq__):
            self._writer.add_scalar(name, figures[name], step)
        self._writer.flush()

    def close(self, ended: str) -> None:
        self._writer.close()


def _steps(folder: Path) -> set[int]:
    """Returns the steps of the epochs that the files in `folder` hold and do not hide."""
    if not folder.is_dir():
        return set()
    events = EventAccumulator(str(folder), size_guidance={SCALARS: 0}).Reload()
    return {event.step for event in events.Scalars("epoch")} if "epoch" in events.Tags()[SCALARS] else set()
