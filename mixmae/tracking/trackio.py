"""Writes to Trackio, project "mixmae": to TRACKIO_DIR, TRACKIO_SPACE_ID or TRACKIO_SERVER_URL, else to Trackio's own
folder, where `trackio show` looks.

Trackio finds a run by its name, which therefore holds our whole id.
"""

import trackio

from mixmae.tracking.tracker import Tracked


class Trackio:
    def __init__(self, tracked: Tracked, steps: list[int]):
        self._run = trackio.init(
            project="mixmae",
            name=f"{tracked.run.stage}-{tracked.run.id}",
            group=tracked.experiment,
            config=tracked.config,
            resume="allow",
            embed=False,
        )
        # Private, but the only attribute that is right for a folder, a server and a Space alike.
        self._next = self._run._next_step
        self.where = f"project {self._run.project}, run {self._run.name}"

    def holds(self, step: int) -> bool:
        return step < self._next

    def add(self, step: int, figures: dict[str, float]) -> None:
        self._run.log(figures, step=step)

    def close(self, ended: str) -> None:
        self._run.finish()
