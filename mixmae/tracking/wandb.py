"""Weights & Biases: a run with our id, online where the user is logged in, else kept in the run folder.

W&B's own variables hold, WANDB_MODE, WANDB_PROJECT (default: mixmae), WANDB_ENTITY and WANDB_DIR among them. It takes
no step that is not larger than the last, so an epoch that is computed anew after a kill, to the same bits on a CPU,
stays as it was told first.
"""

import os
from pathlib import Path
from typing import Literal

import wandb

from mixmae.tracking.tracker import Tracked

FINISH_S = 50.0
"""How long W&B may go on sending at the end; what is not sent by then `wandb sync` sends."""


class WeightsAndBiases:
    def __init__(self, tracked: Tracked, steps: list[int]):
        folder = Path(os.environ.get("WANDB_DIR") or tracked.run.path)
        _set_aside(folder / "wandb", tracked.run.id)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or "mixmae",
            id=tracked.run.id,
            name=tracked.name,
            group=tracked.experiment,
            job_type=tracked.run.stage,
            config=tracked.config,
            allow_val_change=True,
            dir=str(folder),
            mode=_mode(),
            resume="allow",
            reinit="create_new",
            settings=wandb.Settings(silent=True, console="off", finish_timeout=FINISH_S),
        )
        online = self._run.settings.mode == "online"
        self.where = self._run.url if online else f"{Path(self._run.dir).parent}, which wandb sync sends"

    def holds(self, step: int) -> bool:
        """What the server has of the run; a new one kept here holds nothing and is told all."""
        return step < self._run.starting_step

    def add(self, step: int, figures: dict[str, float]) -> None:
        self._run.log(figures, step=step, commit=True)

    def close(self, ended: str) -> None:
        if ended == "stopped":
            self._run.mark_preempting()
        self._run.finish(exit_code=0 if ended == "done" else 1)


def _mode() -> Literal["offline"] | None:
    """Of a user who said none and is not logged in: offline, for a job cannot ask."""
    said = wandb.setup().settings.mode
    return "offline" if said == "online" and not wandb.login(prompt=False, verify=False) else None


def _set_aside(folder: Path, id: str) -> None:
    """Of the starts of a run only the last is sent by `wandb sync`: it holds the whole curve. The others are numbered,
    for W&B calls two starts within one second the same."""
    for path in folder.glob(f"offline-run-*-{id}"):
        number = 1 + sum(1 for _ in folder.glob(f"set-aside-*-{id}"))
        path.rename(path.with_name(f"set-aside-{number}-{path.name}"))
