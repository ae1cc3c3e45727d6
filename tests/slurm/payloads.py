"""What the jobs of the tests run: importable in a job whose PYTHONPATH holds this folder."""

import os
import time


def nap(seconds: float) -> tuple[float, float, str]:
    """Its start, its end and its node."""
    start = time.time()
    time.sleep(seconds)
    return start, time.time(), os.environ["SLURMD_NODENAME"]
