"""Finds a run by the beginning of its id (no torch)."""

from pathlib import Path

from mixmae.runs.folder import RunFolder, all_runs


class NoSuchRun(ValueError):
    """No run, or more than one, has an id that begins so."""


def find_run(root: Path, prefix: str) -> RunFolder:
    """Returns the run whose id begins with `prefix`. Raises NoSuchRun."""
    runs = [run for run in all_runs(root) if run.id.startswith(prefix)]
    if len(runs) == 1:
        return runs[0]
    if not runs:
        what = f"no run under {root} has an id that begins with {prefix!r}"
        raise NoSuchRun(f"{what}; mixmae grid status FILE lists them")
    names = ", ".join(f"{run.stage}/{run.id}" for run in runs[:5])
    raise NoSuchRun(f"{len(runs)} runs have ids that begin with {prefix!r} ({names}…); write more of the id")
