"""What collecting costs: seconds and peak memory on a made-up root of many runs, read for the first time and again.

From the project's folder: python -m benchmarks.collecting [RUNS [EPOCHS]], by default 10000 runs of 300 epochs each.
Prints JSON.
"""

import json
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from hashlib import sha256
from itertools import count, islice
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mixmae.cost.measured import processor
from mixmae.experiment.experiment import Experiment
from mixmae.experiment.jobs import PlannedJob, stage_jobs
from mixmae.files.records import document_of, line_of
from mixmae.runs.folder import RunFolder
from results.rows.cache import YOUNG_S

_FINGERPRINT = "f" * 16
_PEAK = Path("/proc/self/status")


def collecting(runs: int, epochs: int = 300) -> dict[str, Any]:
    """Measures `results.rows.collect.collect` on `runs` runs that are done, with as many lines in metrics.jsonl and
    timing.jsonl as `epochs`; plain numbers, for JSON.

    Every fourth run is a pretraining, the others are its evaluations. The root lies in a temporary folder, where it was
    just written, so that its files are read from memory rather than from a disk. bytes: of all files. first, again,
    after_one_change: {"seconds", "cpu_seconds", "writing_seconds" (of results.parquet and results.csv), "peak_memory"
    (bytes; None where only Linux would tell)}, of a new process each, its start and imports left out of the seconds.
    """
    with TemporaryDirectory() as place:
        root = Path(place) / "runs"
        start = time.perf_counter()
        size, changed = _make(root, runs, epochs)
        result: dict[str, Any] = {
            "runs": runs,
            "epochs": epochs,
            "bytes": size,
            "making_seconds": time.perf_counter() - start,
        }
        time.sleep(YOUNG_S)
        result |= {"first": _measured(root), "again": _measured(root)}
        state = changed.read("state") or {}
        changed.write("state", {**state, "tries": state["tries"] + 1})
        return {**result, "after_one_change": _measured(root), "processor": processor()}


def _measured(root: Path) -> dict[str, Any]:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_collect, root).result()


def _collect(root: Path) -> dict[str, Any]:
    from results.rows.collect import collect, write

    start, start_cpu = time.perf_counter(), time.process_time()
    frame = collect(root)
    spent = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - start_cpu}
    start = time.perf_counter()
    write(frame, root / "results")
    spent["writing_seconds"] = time.perf_counter() - start
    if not (frame["state"] == "done").all() or frame.attrs["problems"]:
        raise AssertionError(f"the made-up runs are not as runs are: {frame.attrs['problems'][:3]}")
    return {**spent, "peak_memory": _peak_memory()}


def _peak_memory() -> int | None:
    if not _PEAK.exists():
        return None
    # getrusage's ru_maxrss would not do: a new process starts with that of the one that made it.
    lines = _PEAK.read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


# -------------------------------------------------------------------------------------------------------------- making


def _make(root: Path, runs: int, epochs: int) -> tuple[int, RunFolder]:
    """Bytes written, and the last run."""
    journal, size = _journal(epochs), 0
    jobs = (job for seed in count() for job in stage_jobs(_experiment(epochs, seed), lambda data: _FINGERPRINT))
    for planned in islice(jobs, runs):
        run = RunFolder(root, planned.stage, planned.id)
        run.path.mkdir(parents=True)
        for name, content in {**_documents(planned, epochs, journal["metrics.jsonl"]), **journal}.items():
            size += (run.path / name).write_bytes(content)
    return size, run


def _experiment(epochs: int, seed: int) -> Experiment:
    recipe = {"epochs": epochs, "batch": 64, "base_lr": 1e-3}
    fields = {
        "method": "mixmae",
        "encoder": "swin_nano",
        "image_size": 32,
        "pretrain": recipe,
        "evaluations": {"finetune": recipe, "linear": {"epochs": epochs}, "knn": {}},
        "seed": seed,
    }
    return Experiment.model_validate(fields)


def _journal(epochs: int) -> dict[str, bytes]:
    metrics, timing = [], []
    for epoch in range(1, epochs + 1):
        rates = {"lr": 1e-3 / epoch, "grad_norm": epoch**-0.5, "skipped_steps": 0, "restores": 0}
        metrics.append({"epoch": epoch, "step": 45 * epoch, "loss": 1 / (epoch + 2), **rates})
        speed = {"seconds": round(14 + 1 / epoch, 3), "images_per_s": 96.2}
        timing.append({"epoch": epoch, **speed, "data_wait_s": 0.805, "peak_memory_gb": 1.044})
    lines = {"metrics.jsonl": metrics, "timing.jsonl": timing}
    return {name: "".join(map(line_of, entries)).encode() for name, entries in lines.items()}


def _documents(planned: PlannedJob, epochs: int, metrics: bytes) -> dict[str, bytes]:
    figures = {"loss": 0.5} if planned.stage == "pretrain" else {"top1": 80.0, "top5": 95.0, "loss": 0.9}
    job = planned.job.model_dump(mode="json")
    documents: dict[str, dict[str, Any]] = {
        "config": {"id": planned.id, "data_fingerprint": _FINGERPRINT, "job": job},
        "environment": {"threads": 1, "workers": 0, "processes": 1, "device": "cpu", "earlier": []},
        "launch": {"tries": 1, "cancelled": False},
        "state": {"state": "done", "reason": None, "epoch": epochs, "epochs": epochs, "loss": 0.5, "tries": 1},
        "result": {**figures, "epochs": epochs, "files": {"metrics.jsonl": sha256(metrics).hexdigest()}},
    }
    return {f"{name}.json": document_of(data).encode() for name, data in documents.items()}


if __name__ == "__main__":
    print(json.dumps(collecting(*map(int, sys.argv[1:] or (10_000, 300))), indent=1))
