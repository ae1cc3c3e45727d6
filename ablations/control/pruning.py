"""What of a root may be deleted: what done runs no longer need, what dead processes left, runs of no grid (no torch).

First everything is found, then, if asked for, deleted: each run under its lease and looked at once more. Nothing of a
held run is touched. A symbolic link is never followed: what is in a linked folder is left as it is.
"""

import errno
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from ablations.control.explaining import launched
from ablations.plan.launched import grid_folder
from ablations.plan.plan import Plan
from mixmae.experiment.jobs import start_of
from mixmae.experiment.stages import stages
from mixmae.fields.identity import Key
from mixmae.runs.folder import RunFolder, all_runs
from mixmae.runs.lease import Held, server_time
from mixmae.runs.locks import is_locked
from mixmae.runs.state import run_state

DAY_S = 24 * 3600
STEP = re.compile(r"step-\d{8,}\.pt")
ASIDE = re.compile(r"set-aside-\d+")
TEMPORARY = re.compile(r"\.room|\.(lease|clock)[.-].+|\.tmp\w+|\..+\.(json|jsonl|pt|safetensors|txt)\.\w+")
"""What write_atomically, mixmae.runs.lease and safetensors call a file before it is whole, and the room that
mixmae.work.execution sets aside."""
HALF_WRITTEN = "half-written, more than a day ago"
OF_A_GRID = ("submitit", "packs", "workers")
"""Folders of ROOT/grids/NAME that only its jobs need."""
PRUNED = ".pruned"
"""Where a run goes before it is deleted, so that no half-deleted one is ever seen."""


@dataclass(frozen=True)
class Leftover:
    """path: a file, a link or a folder. run: whose it is, and whose lease is taken first."""

    path: Path
    bytes: int
    what: str
    run: RunFolder | None = None

    @property
    def is_a_run(self) -> bool:
        return self.run is not None and self.path == self.run.path


@dataclass(frozen=True)
class Found:
    """What may be deleted, and what was asked for and is kept: (path, why)."""

    root: Path
    leftovers: tuple[Leftover, ...]
    kept: tuple[tuple[Path, str], ...]

    @property
    def bytes(self) -> int:
        return sum(leftover.bytes for leftover in self.leftovers)


def find(root: Path, plans: list[Plan] | None, no_grid: bool) -> Found:
    """What may be deleted under `root`, of the runs of `plans` alone where they are given.

    no_grid: also all runs that no grid under `root` has launched. Raises ValueError for both at once, Damaged where
    what a grid has launched cannot be read.
    """
    if plans is not None and no_grid:
        raise ValueError("--no-grid is about runs of no grid; leave --grid out")
    root, grids = root.resolve(), launched(root)
    runs, kept = _runs(root), []
    asked = _of(plans, grids) if plans is not None else {(run.stage, run.id) for run in runs}
    folders = [path.name for path in _inside(root / "grids") if path.is_dir()]
    names = [plan.name for plan in plans] if plans is not None else folders
    whole = []
    if no_grid:
        named = set().union(*grids.values())
        whole, kept = _free(runs, [run for run in runs if (run.stage, run.id) not in named])
    gone = set(whole)
    left = [run for run in runs if (run.stage, run.id) in asked and run not in gone]
    now = server_time(root)
    found = [Leftover(run.path, _bytes(run.path), "a run of no grid", run) for run in whole]
    found += [leftover for run in left for leftover in _of_run(run, now)]
    found += [leftover for name in names for leftover in _of_grid(root, name, grids.get(name, set()), now)]
    if plans is None:
        found += [Leftover(path, _bytes(path), "half-deleted") for path in _inside(root / PRUNED)]
        found += [one for one in _temporary(root, now, None) if one.path.name.startswith(".clock.")]
        for name in ("grids", "bench", "fingerprints"):
            found += _temporary(root / name, now, None)
    return Found(root, tuple(found), tuple(kept))


def _of(plans: list[Plan], grids: dict[str, set[Key]]) -> set[Key]:
    return {key for plan in plans for key in {entry.key for entry in plan.entries} | grids.get(plan.name, set())}


# ---------------------------------------------------------------------------------------------------------- whole runs


def _free(runs: list[RunFolder], wanted: list[RunFolder]) -> tuple[list[RunFolder], list[tuple[Path, str]]]:
    """Those of the `wanted` runs that may go, and why the others may not."""
    kept = [(run.path, why) for run in wanted if (why := _stays(run))]
    stays = {path for path, _ in kept}
    free = [run for run in wanted if run.path not in stays]
    going = set(free)
    needed = _needed(run for run in runs if run not in going)
    kept += [(run.path, why) for run in free if (why := _why_needed(run, needed))]
    return [run for run in free if not _why_needed(run, needed)], kept


def _why_needed(run: RunFolder, needed: dict[Key | None, str]) -> str | None:
    key = (run.stage, run.id)
    if key in needed:
        return f"needed by {needed[key]}"
    return f"perhaps needed by {needed[None]}" if None in needed else None


def _stays(run: RunFolder) -> str | None:
    """Why a run folder is not to be deleted, whatever else holds."""
    if not _is_real(run.path):
        return "a link, or in a linked folder"
    try:
        if run.read("config").get("id") != run.id:
            return "its config.json is another run's"
    except ValueError:
        return "its config.json cannot be read"
    return "a process holds it" if run.is_held() else None


def _needed(runs: Iterable[RunFolder]) -> dict[Key | None, str]:
    """The runs that these start from, and a run that does; None: of a run that cannot be read."""
    found: dict[Key | None, str] = {}
    for run in runs:
        try:
            if start := start_of((run.read("config") or {})["job"]):
                found[start] = f"{run.stage}/{run.id}"
        except (ValueError, KeyError, AttributeError, TypeError):
            found[None] = f"{run.stage}/{run.id}, whose config.json cannot be read"
    return found


# -------------------------------------------------------------------------------------------------------- parts of runs


def _of_run(run: RunFolder, now: float) -> list[Leftover]:
    if not _is_real(run.path) or run.is_held():
        return []
    found = [*_temporary(run.path, now, run), *_temporary(run.checkpoints, now, run)]
    if not is_whole(run):
        return found
    for path in _inside(run.checkpoints):
        if STEP.fullmatch(path.name):
            found.append(Leftover(path, _bytes(path), "optimizer state of a done run", run))
        elif ASIDE.fullmatch(path.name):
            found.append(Leftover(path, _bytes(path), "set aside, of a done run", run))
    return found


def is_whole(run: RunFolder) -> bool:
    """Whether the run is done, and every file that its result names is there."""
    if run_state(run).state != "done":
        return False
    result = run.read("result")
    return result is not None and all((run.path / name).is_file() for name in result.get("files", {}))


def _temporary(folder: Path, now: float, run: RunFolder | None) -> list[Leftover]:
    """Of processes that ended in the middle of a write, more than a day ago."""
    old = [path for path in _inside(folder) if TEMPORARY.fullmatch(path.name) and _is_old(path, now)]
    return [Leftover(path, _bytes(path), HALF_WRITTEN, run) for path in old]


def _is_old(path: Path, now: float) -> bool:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    return not path.is_dir() and now - found.st_mtime > DAY_S


def _of_grid(root: Path, name: str, runs: set[Key], now: float) -> list[Leftover]:
    """Its half-written files, and where all its runs are done and nothing works on it, what only its jobs needed."""
    folder = grid_folder(root, name)
    found = _temporary(folder, now, None) + _temporary(folder / "submissions", now, None)
    if not runs or _is_launched(folder):
        return found
    if all(is_whole(RunFolder(root, *key)) and not RunFolder(root, *key).is_held() for key in runs):
        inner = [folder / part for part in OF_A_GRID]
        found += [Leftover(path, _bytes(path), f"of the jobs of {name}, all done") for path in inner if path.is_dir()]
    return found


def _is_launched(folder: Path) -> bool:
    """Whether a launcher or a worker of it lives on this machine."""
    return is_locked(folder / "launcher.lock") or any(is_locked(path) for path in (folder / "workers").glob("*"))


# ------------------------------------------------------------------------------------------------------------- deleting


def delete(found: Found) -> Found:
    """Deletes what was found, each thing only where it still may be; what was deleted, and what was kept and why."""
    deleted, kept = [], list(found.kept)
    for run, group in groupby((one for one in found.leftovers if not one.is_a_run), lambda one: one.run):
        parts = list(group)
        if run is None:
            _each(parts, kept, deleted, _remove)
        else:
            _of_held(run, parts, kept, deleted)
    whole = [one for one in found.leftovers if one.is_a_run]
    while whole:  # what nothing else of it starts from comes first
        needed = _needed(one.run for one in whole)
        ends = [one for one in whole if (one.run.stage, one.run.id) not in needed] or whole
        whole = [one for one in whole if one not in ends]
        others = _needed(run for run in _runs(found.root) if run not in {one.run for one in ends})
        kept += [(one.path, why) for one in ends if (why := _why_needed(one.run, others))]
        free = [one for one in ends if not _why_needed(one.run, others)]
        _each(free, kept, deleted, lambda one: _delete_run(found.root, one.run))
    with suppress(OSError):
        (found.root / PRUNED).rmdir()
    return Found(found.root, tuple(deleted), tuple(kept))


def _each(leftovers: list[Leftover], kept: list, deleted: list, remove: Callable[[Leftover], None]) -> None:
    for leftover in leftovers:
        try:
            remove(leftover)
            deleted.append(leftover)
        except Held:
            kept.append((leftover.path, "a process holds it"))
        except OSError as error:
            kept.append((leftover.path, error.strerror or str(error)))


def _of_held(run: RunFolder, leftovers: list[Leftover], kept: list, deleted: list) -> None:
    """Parts of one run, under its lease."""
    try:
        with run.lease():
            whole = is_whole(run)
            may = [leftover for leftover in leftovers if whole or leftover.what == HALF_WRITTEN]
            kept += [(leftover.path, "its run is no longer done") for leftover in leftovers if leftover not in may]
            _each(may, kept, deleted, _remove)
    except Held:
        kept += [(leftover.path, "a process holds its run") for leftover in leftovers]


def _delete_run(root: Path, run: RunFolder) -> None:
    with run.lease() as lease:
        gone = root / PRUNED / run.stage / f"{run.id}-{uuid.uuid4().hex[:8]}"
        gone.parent.mkdir(parents=True, exist_ok=True)
        run.path.rename(gone)
        lease.folder = gone
    shutil.rmtree(gone)
    with suppress(OSError):
        gone.parent.rmdir()


def _remove(leftover: Leftover) -> None:
    """Links are removed, not followed."""
    path = leftover.path
    if not _is_real(path.parent):
        raise OSError(errno.ELOOP, "in a linked folder", str(path))
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


# --------------------------------------------------------------------------------------------------------------- paths


def _runs(root: Path) -> list[RunFolder]:
    """Other folders of a root may hold a config.json too, such as exported weights."""
    return [run for run in all_runs(root) if run.stage in stages]


def _is_real(path: Path) -> bool:
    """Whether no part of it is a link; roots are resolved."""
    return path.resolve() == path


def _inside(folder: Path) -> list[Path]:
    """What lies in a folder; nothing of one that is missing or a link."""
    return sorted(folder.iterdir()) if folder.is_dir() and _is_real(folder) else []


def _bytes(path: Path) -> int:
    """Of a file, or of all files below a folder; a link counts itself alone."""
    own = path.lstat().st_size
    if path.is_symlink() or not path.is_dir():
        return own
    return sum(os.lstat(os.path.join(place, name)).st_size for place, _, names in os.walk(path) for name in names)


# --------------------------------------------------------------------------------------------------------------- lines


def lines(found: Found, applied: bool) -> list[str]:
    """What is, or would be, deleted and what is kept, by path, and the sum."""
    made = [f"{_size(one.bytes):>9}  {one.path.relative_to(found.root)}  ({one.what})" for one in found.leftovers]
    made += [f"     kept  {path.relative_to(found.root)}  ({why})" for path, why in found.kept]
    if not found.leftovers:
        return [*made, "nothing was deleted" if applied else "nothing to delete"]
    total = f"{_size(found.bytes)} in {len(found.leftovers)} places"
    return [*made, f"deleted: {total}" if applied else f"would delete {total}; add --apply to delete it"]


def _size(count: int) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
