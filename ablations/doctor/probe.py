"""A small job on a compute node that says what it sees there (no torch here; the job looks for it)."""

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ablations.doctor.findings import CLOCKS_S, Finding, fail, ok, warn
from ablations.slurm.allocation import without_allocation
from ablations.slurm.resources import Slurm, sbatch_text

MINUTES = 5
PATIENCE_S = 480
"""How long the job is waited for, in the queue and at work."""
SEEN = """
import importlib.util, json, os, pathlib, platform, sys, time
folder = pathlib.Path(sys.argv[1])
seen = {"node": os.environ.get("SLURMD_NODENAME", platform.node()), "python": platform.python_version()}
seen["mixmae"] = importlib.util.find_spec("mixmae") is not None
seen["word"] = (folder / "word").read_text()
try:
    import torch
    seen["torch"], seen["gpus"] = torch.__version__, torch.cuda.device_count()
    seen["device"] = torch.cuda.get_device_name() if seen["gpus"] else None
except Exception as error:
    seen["torch"], seen["error"] = None, str(error)
(folder / "clock").write_text("now")
seen["off"] = (folder / "clock").stat().st_mtime - time.time()
(folder / "answer.part").write_text(json.dumps(seen))
(folder / "answer.part").rename(folder / "answer.json")
"""


def run_test_job(folder: Path, slurm: Slurm) -> Iterator[Finding]:
    """Submits one process with what the site profile asks for (but MINUTES and one GPU), waits, and says what it saw.

    folder: on the file system that jobs will share; emptied by the caller.
    """
    word = os.urandom(8).hex()
    (folder / "word").write_text(word)
    (folder / "seen.py").write_text(SEEN)
    asked = {"time": MINUTES, "nodes": 1, "gpus_per_node": min(slurm.gpus_per_node, 1), "tasks_per_node": 1}
    asked |= {"cpus_per_task": slurm.cpus_per_task or slurm.cpus_per_gpu or 1, "signal_seconds": 30}
    command = shlex.join([sys.executable, str(folder / "seen.py"), str(folder)])
    script = folder / "job.sh"
    script.write_text(sbatch_text(slurm.model_copy(update=asked), folder, 1, "mixmae-doctor", command))
    failed = _submitted(script)
    if failed:
        yield fail("test job", failed, _advice(folder))
        return
    answer = _answer(folder / "answer.json")
    if answer is None:
        yield fail(
            "test job",
            "it ended, but what it wrote is not seen here",
            f"{_advice(folder)}; is {folder.parent} on a file system that all nodes share?",
        )
        return
    yield from _read(answer, word, asked["gpus_per_node"])


def _read(answer: dict[str, Any], word: str, gpus: int) -> Iterator[Finding]:
    node = answer["node"]
    if answer["word"] != word:
        yield fail("shared folder", f"{node} sees an older file", "its cache is stale; ask the administrators")
    else:
        yield ok("shared folder", f"{node} reads and writes the root")
    if not answer["mixmae"]:
        advice = "install it there, or name the environment in the profile's setup lines"
        yield fail("mixmae there", f"not importable on {node}", advice)
    if answer["torch"] is None:
        yield fail("torch there", f"not importable on {node}: {answer['error']}", "install it there, or in setup lines")
    elif gpus and not answer["gpus"]:
        yield fail("GPU", f"torch {answer['torch']} sees none on {node}", "is the driver new enough for that torch?")
    elif gpus:
        yield ok("GPU", f"{answer['device']} on {node}, python {answer['python']}, torch {answer['torch']}")
    else:
        yield ok("node", f"{node}: python {answer['python']}, torch {answer['torch']}; the profile asks for no GPU")
    seen = f"the file server's differs from that of {node} by {answer['off']:+.1f} s"
    fine = abs(answer["off"]) <= CLOCKS_S
    yield ok("clock there", seen) if fine else warn("clock there", seen, "times in logs disagree; ask for NTP")


def _submitted(script: Path) -> str | None:
    """Waits for the job in `script` to end; returns what went wrong, None where nothing did."""
    with subprocess.Popen(
        ["sbatch", "--parsable", "--wait", str(script)],
        env=without_allocation("SLURM_CONF"),
        cwd=script.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as waiting:
        try:
            output, errors = waiting.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            waiting.kill()
            job = waiting.communicate()[0].split(";")[0].strip()
            if job:
                subprocess.run(["scancel", job], check=False)
            return f"job {job or '(without a number)'} did not end within {PATIENCE_S} s; it was cancelled"
    if waiting.returncode == 0:
        return None
    lines = errors.strip().splitlines()
    return lines[-1] if lines else f"job {output.split(';')[0].strip()} ended with {waiting.returncode}"


def _answer(path: Path) -> dict[str, Any] | None:
    """What the job wrote, None where it is not seen; files take a moment to show on NFS."""
    for _ in range(10):
        os.listdir(path.parent)
        if path.exists():
            answer: dict[str, Any] = json.loads(path.read_text())
            return answer
        time.sleep(1)
    return None


def _advice(folder: Path) -> str:
    """The end of what the job wrote, since its log goes with the folder."""
    logs = sorted(folder.glob("*_log.out"))
    lines = [line for log in logs for line in log.read_text(errors="replace").strip().splitlines()]
    return f"its log ends: {lines[-1]}" if lines else "it wrote no log"
