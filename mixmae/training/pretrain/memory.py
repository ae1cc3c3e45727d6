"""The most memory that torch allocates while something runs, counted alike on a GPU and on a CPU."""

import gc
import json
import os
import tempfile
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile


def peak_allocated(run: Callable[[], object]) -> int:
    """Bytes: the most that torch has allocated at once while `run()` runs, on the GPU where there is one, else on the
    CPU.

    Counted from what there was before: on a GPU by torch.cuda.max_memory_allocated, on a CPU by torch's profiler, which
    tells of every allocation of `run`, so that the figure is the same each time; the peak resident set differs by up to
    a tenth between fresh processes, and counts torch's own code, too. Left out is what Python, NumPy and the libraries
    of kernels allocate for themselves, and other processes, such as those that load images.
    """
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return torch.cuda.max_memory_allocated() - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # else the profiler writes to the terminal when it starts and stops
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        run()
    return max(accumulate(_changes(profiled)), default=0)


def _changes(profiled: profile) -> list[int]:
    """Bytes that were allocated, or freed where they are negative, in the order of time."""
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profiled.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text("utf-8"))["traceEvents"]
    found = [event for event in events if event.get("name") == "[memory]"]
    return [event["args"]["Bytes"] for event in sorted(found, key=lambda event: float(event["ts"]))]
