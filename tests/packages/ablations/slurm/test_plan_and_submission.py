"""The sbatch lines that a plan shows are those that the submission makes."""

import json
import re

import pytest

from support.program import mixmae

SBATCH = 'for last; do :; done; cat "$last" >> "$SENT"; echo "Submitted batch job $(($(wc -l < "$SENT") + 1))"'
GRID = """\
base: digits_nano
sweeps: [{name: all, product: {seed: [0, 1, 2, 3, 4, 5, 6]}}]
set: {evaluations.linear: null, pretrain.chunk: 16}
resources:
  executor: slurm
  slurm:
    time: 1-00
    memory: 4G
    nodes: 2
    partition: low
    directives: {mail-type: FAIL, exclusive: true}
    overrides:
      - {stage: finetune, set: {nodes: 1}}
      - {stage: knn, set: {nodes: 1, pack: 4, time: 30, setup: [module load fast]}}
"""


@pytest.fixture
def sent(tmp_path, monkeypatch):
    """Programs that take every job and never start one; what sbatch was given lies in the file."""
    folder = tmp_path / "bin"
    folder.mkdir()
    config = 'case "$*" in "show config") echo "MaxArraySize = 5";; esac'
    for name, answer in {"sbatch": SBATCH, "scontrol": config, "squeue": "", "sacct": "", "srun": ""}.items():
        (folder / name).write_text(f"#!/bin/sh\n{answer}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("SENT", str(tmp_path / "sent"))
    (tmp_path / "sent").touch()
    return tmp_path / "sent"


def test_the_plan_shows_what_is_sent(tmp_path, sent, called):
    (tmp_path / "grid.yaml").write_text(GRID)
    plan, _ = called("grid", "plan", "grid.yaml", "--json", folder=tmp_path)
    assert sent.read_text() == "", "a plan submits nothing"
    mixmae("grid", "run", "grid.yaml", folder=tmp_path, check=0)
    shown = [script for array in json.loads(plan)["arrays"] for script in array["sbatch"]]
    made = [script.splitlines() for script in sent.read_text().split("#!/bin/bash\n") if script]
    assert [len(shown), len(made)] == [2 + 2 + 1] * 2, "of 7, 7 and 2 tasks, of which 5 fit into an array"
    assert sorted(map(directives, made)) == sorted(map(directives, shown))
    assert sorted(map(steps, made)) == sorted(map(steps, shown))


def directives(script: list[str]) -> list[str]:
    return [re.sub(r"(--job-name=mixmae-grid-)[0-9a-f]{8}$", r"\1ID", line) for line in script if line[:7] == "#SBATCH"]


def steps(script: list[str]) -> list[str]:
    """The setup lines of the file, and how srun is called, but for the command of submitit's."""
    return [line.split("log.out")[1].partition(" /")[0].removesuffix(" …") for line in script if line[:4] == "srun"] + [
        line for line in script if line.startswith("module")
    ]
