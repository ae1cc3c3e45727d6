"""Writes to Weights & Biases: a run with our id, online where the user is logged in, else kept in the run folder.

W&B's own environment variables count, WANDB_MODE, WANDB_PROJECT (default: mixmae), WANDB_ENTITY and WANDB_DIR among
them. W&B takes only steps larger than the last. An epoch that is computed again after a kill (to the same bits on a
CPU) therefore stays as it was first added.
"""

import os
from pathlib import Path
from typing import Literal

import wandb

from mixmae.tracking.tracker import Tracked

FINISH_S = 50.0
"""How long W&B may upload at the end; `wandb sync` uploads the rest."""


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
        """Whether the server has the step; an offline run begins empty and gets every epoch."""
        return step < self._run.starting_step

    def add(self, step: int, figures: dict[str, float]) -> None:
        self._run.log(figures, step=step, commit=True)

    def close(self, ended: str) -> None:
        if ended == "stopped":
            self._run.mark_preempting()
        self._run.finish(exit_code=0 if ended == "done" else 1)


def _mode() -> Literal["offline"] | None:
    """Returns "offline" where W&B would go online but the user is not logged in, since a job cannot ask for a key."""
    mode = wandb.setup().settings.mode
    return "offline" if mode == "online" and not wandb.login(prompt=False, verify=False) else None


def _set_aside(folder: Path, id: str) -> None:
    """Renames earlier offline starts of the run, so that `wandb sync` uploads only the last, which holds the whole
    curve. They are numbered, since W&B gives two starts within one second the same name."""
    for path in folder.glob(f"offline-run-*-{id}"):
        number = 1 + sum(1 for _ in folder.glob(f"set-aside-*-{id}"))
        path.rename(path.with_name(f"set-aside-{number}-{path.name}"))
