"""What a grid has submitted to Slurm: a record of each job array, and which of its tasks a run is (no torch).

A record, ROOT/grids/NAME/submissions/ID.json, is written before sbatch is called.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ablations.plan.launched import grid_folder
from ablations.plan.plan import Plan
from mixmae.fields.identity import Key
from mixmae.files.records import Damaged, read_json, write_json
from mixmae.runs.folder import RunFolder
from mixmae.runs.lease import Held, Lease, take
from mixmae.runs.scheduler import PREFIX, listed


@dataclass(frozen=True)
class Submission:
    """A job array. id: the stem of its record's file. tasks: the runs of each task, by stage and id. job: its number in
    Slurm, None before sbatch has answered."""

    folder: Path
    id: str
    grid: str
    tasks: tuple[tuple[Key, ...], ...]
    job: str | None = None
    released: bool = False

    @property
    def name(self) -> str:
        """What the job is called in the queue."""
        return f"{PREFIX}{self.grid}-{self.id}"

    def task(self, number: int) -> str:
        """The task as squeue and scontrol name it: submitit makes no array of a single task."""
        return f"{self.job}_{number}" if len(self.tasks) > 1 else f"{self.job}"

    def write(self) -> "Submission":
        record = {"grid": self.grid, "tasks": self.tasks, "job": self.job, "released": self.released}
        write_json(self.folder / f"{self.id}.json", record)
        return self


def submissions(root: Path) -> dict[str, Submission]:
    """The submissions of all grids under the root, which may share runs, by id."""
    known = {}
    for path in sorted(root.glob("grids/*/submissions/*.json")):
        record = read_json(path)
        tasks = tuple(tuple((stage, id) for stage, id in runs) for runs in record["tasks"])
        known[path.stem] = Submission(path.parent, path.stem, record["grid"], tasks, record["job"], record["released"])
    return known


def records(plan: Plan) -> Path:
    return grid_folder(plan.root, plan.name) / "submissions"


def task_of(run: RunFolder, known: dict[str, Submission]) -> str | None:
    """The task that the run was last submitted as, such as "17_3"; None where it was not, or not to the end."""
    try:
        launch = run.read("launch") or {}
    except Damaged:
        return None
    submission = known.get(launch.get("submission", ""))
    return submission.task(launch["task"]) if submission and submission.job else None


@contextmanager
def alone(plan: Plan, patience_s: float) -> Iterator[Lease]:
    """Holds the grid's lease, so that one command at a time submits its runs or takes them out of the queue. Raises
    Held where another still holds it after `patience_s` seconds."""
    end = time.monotonic() + patience_s
    while True:
        try:
            lease = take(grid_folder(plan.root, plan.name), listed)
            break
        except Held:
            if time.monotonic() > end:
                raise
            time.sleep(0.5)
    try:
        yield lease
    finally:
        lease.release()
