"""A real Slurm for tests: `daemons.py` starts and ends it, `handle.py` is what tests hold of it."""

from cluster.handle import Cluster, missing_for_tests

__all__ = ["Cluster", "missing_for_tests"]
