"""Real processes killed with SIGKILL at random moments, again and again: nothing of what they compute is lost."""

import json
import os
import random
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from support import several
from support.forked import Forked, program

SMALL = {"decoder_depth": 1, "decoder_width": 16, "decoder_heads": 2}
METHODS = {
    "mixmae": {"name": "mixmae", **SMALL},
    "simmim": {"name": "simmim"},
    "mae": {"name": "mae", **SMALL},
    "supervised": {"name": "supervised"},
}
ENCODER = {"family": "swin", "patch_size": 4, "widths": [16, 32], "depths": [1, 1], "heads": [1, 2]}
TRAINING = {
    "epochs": 12,
    "batch": 12,
    "chunk": 4,
    "base_batch": 12,
    "base_lr": 1e-3,
    "drop_path": 0.1,
    "subset": {"labels_per_class": 6},
}
REPEATABLE = ("metrics.jsonl", "result.json", "checkpoints/final.safetensors")
MINUTE_S = 60
SHORT = [("simmim", 1), ("mae", 2), ("mixmae", 3)]
"""Three sum in an order that two do not have: theirs must not change from one start to the next."""
LONG = [(method, count) for method in METHODS for count in (1, 2, 3)]


@dataclass
class Tally:
    kills: int = 0
    starts: int = 0
    longest_s: float = 0.0
    """From a kill to the end of the last of its run's processes."""


def start(count: int, root: Path, file: Path, save_steps: int) -> list[Forked]:
    words = ("--root", root, "run", file, "--save-steps", save_steps)
    return several.start(count, program, *words) if count > 1 else [program(*map(str, words), OMP_NUM_THREADS="1")]


def wait(processes: list, seconds: float) -> bool:
    """Whether all end within so long."""
    end = time.monotonic() + seconds
    for process in processes:
        process.join(max(0.0, end - time.monotonic()))
    return all(process.returncode is not None for process in processes)


def case_file(folder: Path, method: str) -> Path:
    case = {"method": METHODS[method], "encoder": ENCODER, "image_size": 32, "data": "digits", "seed": 3}
    case |= {"evaluations": {"finetune": TRAINING}} if method == "supervised" else {"pretrain": TRAINING}
    path = folder / "case.yaml"
    path.write_text(yaml.safe_dump(case))
    return path


def left(root: Path) -> dict[str, bytes]:
    (run,) = (path.parent for path in root.glob("*/*/config.json"))
    return {name: (run / name).read_bytes() for name in REPEATABLE}


def meetings(root: Path) -> int:
    """How often all processes of the run have met and begun to compute."""
    return sum(path.read_text().count("on cpu, 1 threads") for path in root.glob("*/*/log.txt"))


def run_under_fire(count: int, root: Path, file: Path, span_s: float, rng: random.Random, tally: Tally):
    """Starts the run until it ends by itself; a start is killed within span_s, the first early, unless it ends before.

    Of several processes one is killed when all have met (who started them must tell who is dead before), or all are.
    """
    part = 0.6
    while True:
        before, alone = meetings(root), count > 1 and rng.random() < 0.7
        processes = start(count, root, file, save_steps=rng.choice([1, 2, 5]))
        tally.starts += 1
        while alone and meetings(root) == before and not wait(processes, 0.02):
            pass
        if wait(processes, rng.uniform(0.0, part * span_s)):
            several.finish(processes)
            return
        for victim in [rng.choice(processes)] if alone else processes:
            victim.kill()
        killed_at = time.monotonic()
        tally.kills, part = tally.kills + 1, 1.0
        assert wait(processes, MINUTE_S), "the others hang"
        tally.longest_s = max(tally.longest_s, time.monotonic() - killed_at)
        for path in root.glob("*/*/*.json"):
            assert json.loads(path.read_text()), path


def test_killed_runs_lose_nothing(tmp_path, rounds, report):
    rng, tally, runs = random.Random(0), Tally(), 0
    for method, count in rounds(SHORT, LONG):
        folder = tmp_path / f"{method}{count}"
        folder.mkdir()
        file, began = case_file(folder, method), time.monotonic()
        straight = start(count, folder / "straight", file, save_steps=1)
        assert wait(straight, 300) and not any(process.returncode for process in straight)
        span_s, wanted = time.monotonic() - began, left(folder / "straight")
        for number in range(rounds(1, 5)):
            root = folder / f"killed{number}"
            run_under_fire(count, root, file, span_s * rounds(0.8, 0.6), rng, tally)
            assert left(root) == wanted, (method, count, number)
            shutil.rmtree(root)
            runs += 1
    what = f"{runs} runs of {tally.starts} starts, all equal to undisturbed ones"
    report(f"kills: {tally.kills} with SIGKILL, {what}; others ended within {tally.longest_s:.1f} s; 0 losses")


@pytest.mark.long
def test_a_process_that_stands_still_is_found_out(tmp_path, report):
    """Its connections stay open, so only its silence tells."""
    for silent in (0, 1):
        folder = tmp_path / str(silent)
        folder.mkdir()
        processes = start(2, folder / "runs", case_file(folder, "mixmae"), save_steps=1)
        while not meetings(folder / "runs"):
            time.sleep(0.02)
        os.kill(processes[silent].pid, signal.SIGSTOP)
        began = time.monotonic()
        assert wait([processes[1 - silent]], MINUTE_S), "the other hangs"
        report(f"silence: the other process ended {time.monotonic() - began:.0f} s after process {silent} stood still")
        assert processes[1 - silent].returncode == 75
        processes[silent].kill()
        processes[silent].wait()
        again = start(2, folder / "runs", folder / "case.yaml", save_steps=1)
        assert wait(again, 300) and not any(process.returncode for process in again)
