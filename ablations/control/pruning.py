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
from functools import partial
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
FEATURES = "features, extracted more than a day ago"
OF_A_GRID = ("submitit", "packs", "workers")
"""Folders of ROOT/grids/NAME that only its jobs need."""
PRUNED = ".pruned"
"""Where a run goes before it is deleted, so that no half-deleted one is ever seen."""


Kept = tuple[Path, str]
"""What is kept, and why."""


@dataclass(frozen=True)
class Leftover:
    """What may be deleted: a file, a link or a folder. run: the run it belongs to, whose lease is taken first."""

    path: Path
    bytes: int
    what: str
    run: RunFolder | None = None

    @property
    def is_a_run(self) -> bool:
        return self.run is not None and self.path == self.run.path


@dataclass(frozen=True)
class Leftovers:
    """What may be deleted, and what was asked for and is kept: (path, why)."""

    root: Path
    leftovers: tuple[Leftover, ...]
    kept: tuple[tuple[Path, str], ...]

    @property
    def bytes(self) -> int:
        return sum(leftover.bytes for leftover in self.leftovers)


def find(root: Path, plans: list[Plan] | None, no_grid: bool) -> Leftovers:
    """What may be deleted under `root`, of the runs of `plans` alone where they are given.

    no_grid: also all runs that no grid under `root` has launched. Raises ValueError for both at once, Damaged where
    what a grid has launched cannot be read.
    """
    if plans is not None and no_grid:
        raise ValueError("--no-grid is about runs of no grid; leave --grid out")
    root, grids = root.resolve(), launched(root)
    runs = _runs(root)
    kept: list[Kept] = []
    meant = _of_plans(plans, grids) if plans is not None else {(run.stage, run.id) for run in runs}
    folders = [path.name for path in _inside(root / "grids") if path.is_dir()]
    names = [plan.name for plan in plans] if plans is not None else folders
    whole: list[RunFolder] = []
    if no_grid:
        named = set().union(*grids.values())
        whole, kept = _free(runs, [run for run in runs if (run.stage, run.id) not in named])
    gone = set(whole)
    left = [run for run in runs if (run.stage, run.id) in meant and run not in gone]
    now = server_time(root)
    leftovers = [Leftover(run.path, _bytes(run.path), "a run of no grid", run) for run in whole]
    leftovers += [leftover for run in left for leftover in _of_run(run, now)]
    leftovers += [leftover for name in names for leftover in _of_grid(root, name, grids.get(name, set()), now)]
    if plans is None:
        leftovers += [Leftover(path, _bytes(path), "half-deleted") for path in _inside(root / PRUNED)]
        leftovers += [file for file in _temporary(root, now, None) if file.path.name.startswith(".clock.")]
        for name in ("grids", "bench", "fingerprints", "features"):
            leftovers += _temporary(root / name, now, None)
        leftovers += [Leftover(path, _bytes(path), FEATURES) for path in _features(root) if _is_old(path, now)]
    return Leftovers(root, tuple(leftovers), tuple(kept))


def _of_plans(plans: list[Plan], grids: dict[str, set[Key]]) -> set[Key]:
    return {key for plan in plans for key in {entry.key for entry in plan.entries} | grids.get(plan.name, set())}


# ---------------------------------------------------------------------------------------------------------- whole runs


def _free(runs: list[RunFolder], wanted: list[RunFolder]) -> tuple[list[RunFolder], list[Kept]]:
    """Splits the `wanted` runs into those that may be deleted and those that may not, with the reasons."""
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
        if (run.read("config") or {}).get("id") != run.id:
            return "its config.json is another run's"
    except ValueError:
        return "its config.json cannot be read"
    return "a process holds it" if run.is_held() else None


def _needed(runs: Iterable[RunFolder]) -> dict[Key | None, str]:
    """The runs that these start from, and a run that does; None: of a run that cannot be read."""
    needed: dict[Key | None, str] = {}
    for run in runs:
        try:
            if start := start_of((run.read("config") or {})["job"]):
                needed[start] = f"{run.stage}/{run.id}"
        except (ValueError, KeyError, AttributeError, TypeError):
            needed[None] = f"{run.stage}/{run.id}, whose config.json cannot be read"
    return needed


# -------------------------------------------------------------------------------------------------------- parts of runs


def _of_run(run: RunFolder, now: float) -> list[Leftover]:
    if not _is_real(run.path) or run.is_held():
        return []
    leftovers = [*_temporary(run.path, now, run), *_temporary(run.checkpoints, now, run)]
    if not is_whole(run):
        return leftovers
    for path in _inside(run.checkpoints):
        if STEP.fullmatch(path.name):
            leftovers.append(Leftover(path, _bytes(path), "optimizer state of a done run", run))
        elif ASIDE.fullmatch(path.name):
            leftovers.append(Leftover(path, _bytes(path), "set aside, of a done run", run))
    return leftovers


def is_whole(run: RunFolder) -> bool:
    """Whether the run is done, and every file that its result names is there."""
    if run_state(run).state != "done":
        return False
    result = run.read("result")
    return result is not None and all((run.path / name).is_file() for name in result.get("files", {}))


def _temporary(folder: Path, now: float, run: RunFolder | None) -> list[Leftover]:
    """The files in a folder that processes left which ended in the middle of a write, more than a day ago."""
    old = [path for path in _inside(folder) if TEMPORARY.fullmatch(path.name) and _is_old(path, now)]
    return [Leftover(path, _bytes(path), HALF_WRITTEN, run) for path in old]


def _features(root: Path) -> list[Path]:
    """The whole files of `mixmae.evaluations.kept_features`; what needs one that is gone extracts it again."""
    return [path for path in _inside(root / "features") if re.fullmatch(r"\w+\.safetensors", path.name)]


def _is_old(path: Path, now: float) -> bool:
    try:
        written_s = path.lstat().st_mtime
    except FileNotFoundError:
        return False
    return not path.is_dir() and now - written_s > DAY_S


def _of_grid(root: Path, name: str, runs: set[Key], now: float) -> list[Leftover]:
    """Its half-written files, and where all its runs are done and nothing works on it, what only its jobs needed."""
    folder = grid_folder(root, name)
    leftovers = _temporary(folder, now, None) + _temporary(folder / "submissions", now, None)
    if not runs or _is_launched(folder):
        return leftovers
    if all(is_whole(RunFolder(root, *key)) and not RunFolder(root, *key).is_held() for key in runs):
        inner = [path for part in OF_A_GRID if (path := folder / part).is_dir()]
        leftovers += [Leftover(path, _bytes(path), f"of the jobs of {name}, all done") for path in inner]
    return leftovers


def _is_launched(folder: Path) -> bool:
    """Whether a launcher or a worker of it lives on this machine."""
    return is_locked(folder / "launcher.lock") or any(is_locked(path) for path in (folder / "workers").glob("*"))


# ------------------------------------------------------------------------------------------------------------- deleting


def delete(found: Leftovers) -> Leftovers:
    """Deletes what `find` has found, each thing only where it still may be; returns what was deleted, and what was kept
    and why."""
    deleted: list[Leftover] = []
    kept = list(found.kept)
    parts_of_runs = [leftover for leftover in found.leftovers if not leftover.is_a_run]
    for run, group in groupby(parts_of_runs, lambda leftover: leftover.run):
        parts = list(group)
        if run is None:
            _remove_each(parts, kept, deleted, _remove)
        else:
            _remove_parts(run, parts, kept, deleted)
    whole = {leftover.run: leftover for leftover in found.leftovers if leftover.is_a_run and leftover.run}
    while whole:  # what nothing else of it starts from comes first
        needed = _needed(whole)
        ends = [run for run in whole if (run.stage, run.id) not in needed] or list(whole)
        ending = {run: whole.pop(run) for run in ends}
        others = _needed(run for run in _runs(found.root) if run not in ending)
        kept += [(leftover.path, why) for run, leftover in ending.items() if (why := _why_needed(run, others))]
        free = [leftover for run, leftover in ending.items() if not _why_needed(run, others)]
        _remove_each(free, kept, deleted, partial(_delete_run, found.root))
    with suppress(OSError):
        (found.root / PRUNED).rmdir()
    return Leftovers(found.root, tuple(deleted), tuple(kept))


def _remove_each(
    leftovers: list[Leftover], kept: list[Kept], deleted: list[Leftover], remove: Callable[[Leftover], None]
) -> None:
    for leftover in leftovers:
        try:
            remove(leftover)
            deleted.append(leftover)
        except Held:
            kept.append((leftover.path, "a process holds it"))
        except OSError as error:
            kept.append((leftover.path, error.strerror or str(error)))


def _remove_parts(run: RunFolder, leftovers: list[Leftover], kept: list[Kept], deleted: list[Leftover]) -> None:
    """Removes parts of one run, under its lease."""
    try:
        with run.lease():
            whole = is_whole(run)
            may = [leftover for leftover in leftovers if whole or leftover.what == HALF_WRITTEN]
            kept += [(leftover.path, "its run is no longer done") for leftover in leftovers if leftover not in may]
            _remove_each(may, kept, deleted, _remove)
    except Held:
        kept += [(leftover.path, "a process holds its run") for leftover in leftovers]


def _delete_run(root: Path, leftover: Leftover) -> None:
    run = leftover.run
    assert run is not None
    with run.lease() as lease:
        gone = root / PRUNED / run.stage / f"{run.id}-{uuid.uuid4().hex[:8]}"
        gone.parent.mkdir(parents=True, exist_ok=True)
        run.path.rename(gone)
        lease.folder = gone
    shutil.rmtree(gone)
    with suppress(OSError):
        gone.parent.rmdir()


def _remove(leftover: Leftover) -> None:
    """Removes a file or a folder; a link is removed, not followed."""
    path = leftover.path
    if not _is_real(path.parent):
        raise OSError(errno.ELOOP, "in a linked folder", str(path))
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


# --------------------------------------------------------------------------------------------------------------- paths


def _runs(root: Path) -> list[RunFolder]:
    """The run folders; other folders of a root may hold a config.json too, such as exported weights."""
    return [run for run in all_runs(root) if run.stage in stages]


def _is_real(path: Path) -> bool:
    """Whether no part of it is a link; roots are resolved."""
    return path.resolve() == path


def _inside(folder: Path) -> list[Path]:
    """What lies in a folder; nothing of one that is missing or a link."""
    return sorted(folder.iterdir()) if folder.is_dir() and _is_real(folder) else []


def _bytes(path: Path) -> int:
    """The size of a file, or of all files below a folder, in bytes; a link counts itself alone."""
    own = path.lstat().st_size
    if path.is_symlink() or not path.is_dir():
        return own
    return sum(os.lstat(os.path.join(place, name)).st_size for place, _, names in os.walk(path) for name in names)


# --------------------------------------------------------------------------------------------------------------- lines


def lines(found: Leftovers, applied: bool) -> list[str]:
    """What is, or would be, deleted and what is kept, by path, and the sum."""
    made = [f"{_size(left.bytes):>9}  {left.path.relative_to(found.root)}  ({left.what})" for left in found.leftovers]
    made += [f"     kept  {path.relative_to(found.root)}  ({why})" for path, why in found.kept]
    if not found.leftovers:
        return [*made, "nothing was deleted" if applied else "nothing to delete"]
    total = f"{_size(found.bytes)} in {len(found.leftovers)} places"
    return [*made, f"deleted: {total}" if applied else f"would delete {total}; add --apply to delete it"]


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
