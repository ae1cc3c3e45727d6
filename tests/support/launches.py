"""A tiny grid that is really launched, by the program, in a folder of its own."""

import os
import signal
import subprocess
import time
from pathlib import Path

from ablations.grid.file import read_grid
from ablations.local.launching import signal_workers
from ablations.plan.launched import grid_folder
from ablations.plan.plan import Plan, plan, states
from mixmae.runs.locks import is_locked
from mixmae.runs.state import RunState
from support import started
from support.forked import Forked, program
from support.program import COMMAND

GRID = """\
base: digits_nano
set:
  encoder: {name: swin_nano, depths: [1, 1, 1]}
  pretrain: {epochs: EPOCHS, warmup_epochs: 0, batch: 20, subset: {labels_per_class: 4}}
  evaluations: {finetune: null, linear: null, knn: {subset: {labels_per_class: 20}}}
sweeps:
  - {name: all, product: {seed: SEEDS}}
resources: {slots: 2, track: [tensorboard]}
"""
ENVIRONMENT = {"SLURM_JOB_ID": "7", "PMIX_RANK": "0", "PYTHONSAFEPATH": "1"}
PATIENCE_S = 300


class Launch:
    """A grid file in a folder of its own, and the command run on it."""

    def __init__(self, folder: Path, epochs: int, seeds: list[int]):
        self.folder = folder
        self.file = folder / "tiny.yaml"
        self.file.write_text(GRID.replace("EPOCHS", str(epochs)).replace("SEEDS", str(seeds)))
        (folder / "timm.py").write_text("raise ImportError('the user has a file of that name')")
        self.processes: list[subprocess.Popen | Forked] = []

    @property
    def plan(self) -> Plan:
        grid = read_grid(self.file)
        return plan(grid.name, grid.cases, self.folder / "runs")

    @property
    def control(self) -> Path:
        return grid_folder(self.folder / "runs", "tiny")

    def start(self, *words: str) -> Forked:
        """The command, in an environment as of a job on a cluster; its workers have torch loaded when they start."""
        words = ("--root", "runs", *words)
        return self._keep(program(*words, folder=self.folder, python=started.python(), **ENVIRONMENT))

    def start_anew(self, *words: str) -> subprocess.Popen:
        """The command as a shell starts it, and its workers as the command does."""
        command, environment = [*COMMAND, "--root", "runs", *words], {**os.environ, **ENVIRONMENT}
        said = {"text": True, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return self._keep(subprocess.Popen(command, cwd=self.folder, env=environment, start_new_session=True, **said))

    def _keep(self, process):
        self.processes.append(process)
        return process

    def finish(self, *words: str) -> tuple[int, str, str]:
        return ended(self.start(*words))

    def states(self) -> list[tuple[str, int, str]]:
        """(stage, seed, state) of every job."""
        found = states(self.plan.entries)
        return sorted((e.planned.stage, e.planned.job.seed, found[e.key].state) for e in self.plan.entries)

    def wait_for_epoch(self, epoch: int, tries: int = 1) -> None:
        """Waits until a pretraining is that far in that try: its record is the earlier one's until it has begun."""
        entries = [entry for entry in self.plan.entries if entry.planned.stage == "pretrain"]

        def is_there(one: RunState) -> bool:
            return one.state == "running" and one.tries >= tries and (one.epoch or 0) >= epoch

        until(lambda: any(map(is_there, states(entries).values())))

    def end(self) -> None:
        """Leaves no process behind."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()
        signal_workers(self.control, signal.SIGKILL)

    def workers(self) -> list[int]:
        return [int(path.name) for path in (self.control / "workers").glob("*") if is_locked(path)]


def until(holds) -> None:
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def ended(process: subprocess.Popen | Forked) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=PATIENCE_S)
    return process.returncode, out, err
