"""Makes the root of root.tar.gz, once, with the code of c6eac5b: PYTHONPATH=OLD:tests python -P make_root.py PLACE.

Run it under `unshare --uts`, so that the folders name no machine. On a scripted Slurm: two tasks end in every way
that a submission can, two are left in the queue.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

from frozen.images import write_images
from frozen.recording import COMMAND, HERE, OWN, bits

sys.path.insert(0, str(HERE.parent / "slurm"))
from scripted import Scripted

BROKEN = ("train/class1/0002.ppm",)


def main(place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    os.environ["OMP_NUM_THREADS"] = "1"
    subprocess.run(["hostname", "laptop"], check=True)
    root, export = place / "root", place / "export"
    os.environ["FROZEN_BROKEN"] = str(write_images(place / "broken", classes=3, train=24, val=8, side=16, bad=BROKEN))
    local(root)
    cluster(root, place)
    asks(root, export, place)
    shutil.rmtree(place / "broken")
    with tarfile.open(HERE / "root.tar.gz", "w:gz", compresslevel=9) as archive:
        for name in ("root", "export", "said"):
            archive.add(place / name, name, filter=_anonymous)


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Without owners; submitit's links from one name of a script to another are left out."""
    if entry.issym():
        return None
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "user"
    return entry


def mixmae(root: Path, *words, code: int = 0) -> str:
    done = subprocess.run([*COMMAND, "--root", str(root), *map(str, words)], capture_output=True, text=True)
    assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def local(root: Path) -> None:
    """A grid of which one run is stopped while it trains, one has failed and three are blocked by it."""
    grid = [*COMMAND, "--root", str(root), "grid", "run", str(OWN / "local.yaml")]
    mixmae(root, "grid", "run", OWN / "local.yaml", code=1)
    (said := root.parent / "said").mkdir()
    (said / "whole.json").write_text(json.dumps(bits(root)))
    stopped = next(
        config.parent
        for config in root.glob("pretrain/*/config.json")
        if json.loads(config.read_text())["job"]["seed"] == 2
    )
    after = [run for run in root.glob("*/*") if run.parent.name in ("linear", "knn") and _needs(run) == stopped.name]
    for run in (stopped, *after):
        shutil.rmtree(run)
    launcher = subprocess.Popen(grid, stderr=subprocess.PIPE)
    while not list(stopped.glob("checkpoints/step-*.pt")):
        time.sleep(0.001)
    launcher.send_signal(signal.SIGTERM)
    launcher.wait()
    assert json.loads((stopped / "state.json").read_text())["state"] == "stopped"


def _needs(run: Path) -> str | None:
    return json.loads((run / "config.json").read_text())["job"].get("pretraining")


def cluster(root: Path, place: Path) -> None:
    """Ten runs in five tasks: one is done, one was killed for memory once and then done, one for a time limit that got
    further, one has failed by itself; of the last nothing was ever heard."""
    (place / "slurm").mkdir()
    slurm = Scripted(place / "slurm")
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{slurm.programs}:{before}"
    mixmae(root, "grid", "run", OWN / "cluster.yaml")
    pretraining, evaluation = slurm.jobs()
    assert slurm.run(pretraining, 0).returncode == 0
    assert slurm.run(evaluation, 0).returncode == 0
    end(slurm, root, pretraining, 1, "OUT_OF_MEMORY", steps=0)
    end(slurm, root, pretraining, 2, "TIMEOUT", steps=8)
    mixmae(root, "grid", "run", OWN / "cluster.yaml")
    end(slurm, root, slurm.jobs()[-1], 0, "OUT_OF_MEMORY", steps=0)
    mixmae(root, "grid", "run", OWN / "cluster.yaml")
    os.environ["PATH"] = before
    shutil.rmtree(place / "slurm")


def end(slurm: Scripted, root: Path, job: int, element: int, state: str, steps: int) -> None:
    """The first run of the task begins, takes so many steps and is ended; it could say nothing."""
    record = next(
        json.loads(path.read_text())
        for path in root.glob("grids/cluster/submissions/*.json")
        if json.loads(path.read_text())["job"] == str(job)
    )
    stage, id = record["tasks"][element][0]
    run = root / stage / id
    slurm.set(job, element, "RUNNING")
    subprocess.run([sys.executable, "-P", HERE / "began.py", run, str(steps)], check=True)
    slurm.set(job, element, state)


def asks(root: Path, export: Path, place: Path) -> None:
    """What is kept beside the runs, and what the commands say of them."""
    mixmae(root, "bench", "step", "mixmae", "swin_nano", "--image-size", 32, "--repeats", 1, "--record")
    export.mkdir()
    first = next(run for run in root.glob("pretrain/*") if (run / "result.json").exists())
    name = first.name
    mixmae(
        root,
        "weights",
        "export",
        name,
        "--to",
        "safetensors",
        "--encoder-only",
        "--out",
        export / "encoder.safetensors",
    )
    said = place / "said"
    mixmae(root, "results", "collect", "--out", said)
    for grid in ("local", "cluster"):
        file = OWN / f"{grid}.yaml"
        (said / f"{grid}-status.json").write_text(mixmae(root, "grid", "status", file, "--json"))
        (said / f"{grid}-table.md").write_text(mixmae(root, "results", "table", file, "--format", "md"))
        (said / f"{grid}-table.csv").write_text(mixmae(root, "results", "table", file, "--format", "csv"))
    (said / "check.json").write_text(mixmae(root, "results", "check", OWN / "local.yaml", "--json"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
