"""The environment without the variables that a Slurm allocation sets (no torch).

submitit's `clean_env` would not do: it leaves PMIX_* and PMI_* in place, and takes SLURM_CONF away, by which sbatch
finds its cluster.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

ALLOCATION_VARIABLES = ("SLURM_", "SBATCH_", "PMIX_", "PMI_")
"""Prefixes of what an allocation sets: a process started inside it, or another job, would take them for its own."""


def without_allocation(*kept: str) -> dict[str, str]:
    """This process's environment without what an allocation sets, apart from the variables in `kept`."""
    return {
        name: value for name, value in os.environ.items() if name in kept or not name.startswith(ALLOCATION_VARIABLES)
    }


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Within, this process's environment is `variables` and nothing else."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
