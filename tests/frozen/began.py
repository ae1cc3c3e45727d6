"""Leaves a run folder as a process does that begins the run and is killed: began.py FOLDER STEPS, 0 for none."""

import sys
from pathlib import Path

from mixmae.runs.folder import RunFolder
from mixmae.training.resources import Resources
from mixmae.work.execution import execute

path, steps = Path(sys.argv[1]), int(sys.argv[2])
run = RunFolder(path.parents[1], path.parent.name, path.name)
asked = iter(range(steps))
before = run.recovered("state").get("tries", 0)
if steps:
    execute(run, Resources(), lambda: next(asked, None) is None)
run.write("state", {"state": "running", "tries": before + 1, "epoch": 1, "epochs": 4, "node": "n1"})
