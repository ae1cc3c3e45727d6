"""Grids small enough for a cluster of two cores, launched by the command line as users do."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from ablations.control.steering import status_document
from ablations.grid.file import read_grid
from ablations.plan.plan import Plan, plan
from ablations.plan.queueing import create_run
from ablations.slurm.policy import seen
from mixmae.training.resources import Resources
from mixmae.work.execution import execute
from support import started
from support.forked import program
from support.tiny_jobs import never

BASE = {
    "method": {"name": "mixmae", "decoder_depth": 1, "decoder_width": 16, "decoder_heads": 2},
    "encoder": {"family": "swin", "patch_size": 4, "widths": [16, 32], "depths": [1, 1], "heads": [1, 2]},
    "image_size": 32,
    "data": "digits",
    "pretrain": {
        "epochs": 5,
        "batch": 32,
        "chunk": 16,
        "base_batch": 32,
        "base_lr": 1e-3,
        "warmup_epochs": 1,
        "subset": {"fraction": 0.1},
    },
}
KNN = {"k": 5, "subset": {"labels_per_class": 5}}
FINETUNE = {
    **{"epochs": 2, "batch": 20, "base_lr": 2e-3, "base_batch": 20, "warmup_epochs": 1},
    "subset": {"labels_per_class": 10},
}
SLURM = {"partition": "low", "time": "10:00", "cpus_per_task": 1, "memory": "500M"}
REPEATABLE = ("metrics.jsonl", "result.json", "checkpoints/final.safetensors")
UNSETTLED = ("planned", "waiting", "pending", "running")


@dataclass(frozen=True)
class TestGrid:
    """A grid's file and root, the cluster its commands are run on, and the Python that runs its jobs."""

    __test__ = False
    cluster: object
    file: Path
    root: Path
    python: str

    def command(self, *words: str) -> list[str]:
        code = f"import sys; sys.executable = {self.python!r}; import cli; cli.main()"
        return [sys.executable, "-c", code, "--root", str(self.root), "grid", *words]

    def ask(self, *words: str, timeout: float = 600) -> subprocess.CompletedProcess:
        environment = {**self.cluster.environment, "OMP_NUM_THREADS": "1"}
        words = ("--root", str(self.root), "grid", *words)
        asked = program(*words, folder=self.file.parent, python=self.python, **environment)
        said = asked.communicate(timeout)
        return subprocess.CompletedProcess(words, asked.returncode, *said)

    def launch(self, *words: str) -> str:
        done = self.ask("run", str(self.file), *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def jobs(self) -> list[dict]:
        """What `grid status --json` says, asked in this process: waits ask often, and a program of its own for each
        would take a core from the jobs they wait for."""
        own = self.plan
        return status_document(own, seen(own))["jobs"]

    @property
    def plan(self) -> Plan:
        grid = read_grid(self.file)
        return plan(grid.name, grid.cases, self.root)

    def states(self) -> list[str]:
        return [job["state"] for job in self.jobs()]

    def settled(self, seconds: float = 120) -> list[dict]:
        """The jobs once nothing of the grid waits or runs."""

        def there() -> list[dict] | None:
            jobs = self.jobs()
            return None if any(job["state"] in UNSETTLED for job in jobs) else jobs

        return self.cluster.until(there, seconds, lambda: f"{self.jobs()}\n{self.cluster.run('squeue')}")

    def folder(self, stage: str = "pretrain") -> Path:
        (found,) = (path.parent for path in self.root.glob(f"{stage}/*/config.json"))
        return found

    def saved(self) -> bool:
        return bool(list(self.root.glob("pretrain/*/checkpoints/step-*.pt")))

    def task(self) -> str:
        """Slurm's name of the one pretraining's newest task."""
        launch = json.loads((self.folder() / "launch.json").read_text())
        record = json.loads(
            (self.root / "grids" / self.file.stem / "submissions" / f"{launch['submission']}.json").read_text()
        )
        return f"{record['job']}_{launch['task']}" if len(record["tasks"]) > 1 else record["job"]

    def left(self) -> dict[str, bytes]:
        """What every run leaves that repeats bit for bit."""
        found = {}
        for config in self.root.glob("*/*/config.json"):
            for name in REPEATABLE:
                path = config.parent / name
                found[f"{config.parent.relative_to(self.root)}/{name}"] = path.read_bytes() if path.exists() else b""
        return found


def write_grid(
    cluster,
    folder: Path,
    name: str,
    seeds=(0,),
    evaluations=None,
    slurm=None,
    root: Path | None = None,
    python: str | None = None,
    **changed,
) -> TestGrid:
    """A grid of one experiment a seed; `changed` lies over the base, `slurm` over its resources. Its jobs have torch
    loaded when they start, unless `python` runs them."""
    folder.mkdir(parents=True, exist_ok=True)
    base = folder / f"{name}-base.yaml"
    base.write_text(yaml.safe_dump({**BASE, "evaluations": evaluations or {}, **changed}))
    sweeps = [{"name": "seeds", "product": {"seed": list(seeds)}}]
    resources = {"executor": "slurm", "threads": 1, "slurm": {**SLURM, **(slurm or {})}}
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump({"base": str(base), "sweeps": sweeps, "resources": resources}))
    return TestGrid(cluster, file, root or folder / "runs", python or started.python())


def local(grid: TestGrid, root: Path) -> TestGrid:
    """The same runs, made on this machine one after another."""
    copy = replace(grid, root=root)
    for entry in copy.plan.entries:
        assert execute(create_run(root, entry.planned), Resources(threads=1), never) == "done"
    return copy


def processes_of(grid: TestGrid) -> set[int]:
    return {pid for pid in grid.cluster.processes(grid.task()) if os.path.exists(f"/proc/{pid}")}
