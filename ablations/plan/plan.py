"""What a grid amounts to: its stage jobs once each, what they wait for and how they stand (no torch)."""

import logging
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ablations.grid.file import Case, shipped
from ablations.plan.launched import launched_by
from mixmae.config import DataConfig, ImageFolderConfig, ImportedConfig
from mixmae.data.counts import too_few_images
from mixmae.data.fingerprint import fingerprint
from mixmae.experiment.experiment import Experiment
from mixmae.experiment.jobs import PlannedJob, PretrainJob, StageJob, stage_jobs
from mixmae.fields.documents import ConfigError, mark_of
from mixmae.fields.identity import Key
from mixmae.files.records import sha256
from mixmae.runs.folder import RunFolder
from mixmae.runs.state import RunState, run_state
from mixmae.weights.description import about

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """One stage job of a plan."""

    planned: PlannedJob
    method: str
    """The pretraining's, or what stands in its place: supervised, random init, raw pixels."""
    fingerprint: str
    sweeps: tuple[str, ...]
    run: RunFolder
    declared: tuple["Declared", ...] = ()
    """The same job of every case it belongs to, as the grid declares it: at a scale another than is run."""

    @property
    def key(self) -> Key:
        return self.planned.stage, self.planned.id

    @property
    def needs(self) -> Key | None:
        return ("pretrain", self.planned.needs) if self.planned.needs else None

    @property
    def encoder(self) -> str | None:
        return self.planned.job.encoder.name if self.planned.job.encoder else None

    @property
    def title(self) -> str:
        parts = (self.planned.stage, self.planned.id[:8], self.method, self.encoder, f"seed {self.planned.job.seed}")
        return " ".join(part for part in parts if part)


@dataclass(frozen=True)
class Declared:
    """A stage job as a grid declares it; `pretraining` is that of an evaluation that has one."""

    method: str
    job: StageJob
    pretraining: PretrainJob | None


@dataclass(frozen=True)
class Plan:
    """The stage jobs of a grid (or of one experiment), a pretraining before what needs it."""

    name: str
    root: Path
    experiments: int
    entries: tuple[Entry, ...]
    outside: tuple[RunFolder, ...]
    """Runs that this grid once launched and no longer names."""

    @property
    def members(self) -> dict[str, set[Key]]:
        """Which jobs belong to each sweep."""
        found: dict[str, set[Key]] = {}
        for entry in self.entries:
            for sweep in entry.sweeps:
                found.setdefault(sweep, set()).add(entry.key)
        return found


class ImagesNotHere(ConfigError):
    """An image folder that a grid names is not on this machine."""


def plan(name: str, cases: Iterable[Case], root: Path, elsewhere: str | None = None) -> Plan:
    """The stage jobs of `cases`. elsewhere: the fingerprint of image folders that are not here, for what only shows
    results. Raises ConfigError where a data set is too small, or, without that, not here (ImagesNotHere)."""
    root = root.resolve()
    prints: dict[DataConfig, str] = {}
    sweeps: dict[Key, dict[str, None]] = {}
    first: dict[Key, tuple[PlannedJob, str, str]] = {}
    declared: dict[Key, list[Declared]] = {}
    experiments = set()
    for case in cases:
        experiment, is_here = _placed(case, elsewhere)
        experiments.add(experiment)
        if experiment.data not in prints:
            prints[experiment.data] = fingerprint(experiment.data, root) if is_here else elsewhere
        for path, what in too_few_images(experiment) if is_here else ():
            raise mark_of(case.document, path).error(what, path)
        jobs = stage_jobs(experiment, prints[experiment.data])
        for planned, as_declared in zip(jobs, _declared(experiment, jobs, case.full), strict=True):
            key = planned.stage, planned.id
            known = declared.setdefault(key, [])
            if not known or (case.full and as_declared not in known):
                known.append(as_declared)
            first.setdefault(key, (planned, _method(experiment, planned), prints[experiment.data]))
            sweeps.setdefault(key, {})[case.sweep] = None
    entries = tuple(
        Entry(planned, method, print_, tuple(sweeps[key]), RunFolder(root, *key), tuple(declared[key]))
        for key, (planned, method, print_) in first.items()
    )
    return Plan(name, root, len(experiments), entries, _outside(root, name, set(first)))


def _declared(experiment: Experiment, jobs: list[PlannedJob], full: Experiment | None) -> list[Declared]:
    """full: the experiment that was declared, where `experiment` is what a scale made of it."""
    if full:
        experiment, jobs = full, stage_jobs(full, fingerprint="")
    pretraining = jobs[0].job if experiment.method.pretrains else None
    return [Declared(_method(experiment, one), one.job, pretraining if one.needs else None) for one in jobs]


def _method(experiment: Experiment, planned: PlannedJob) -> str:
    if planned.needs or planned.stage in ("pretrain", "finetune") or planned.job.weights:
        return experiment.method.name
    return "random init" if planned.job.encoder else "raw pixels"


def _placed(case: Case, elsewhere: str | None) -> tuple[Experiment, bool]:
    """The experiment, and whether its images are here."""
    try:
        return _on_this_machine(case), True
    except ImagesNotHere:
        if elsewhere is None:
            raise
        return _with_weights(case), False


def _on_this_machine(case: Case) -> Experiment:
    """The experiment with the path of its images made absolute. Raises ImagesNotHere where there are none."""
    experiment, data = _with_weights(case), case.experiment.data
    if not isinstance(data, ImageFolderConfig):
        return experiment
    path = Path(_expanded(data.path, case)).expanduser().resolve()
    for split in ("train", "val"):
        if not (path / split).is_dir():
            what = f"no folder {path / split}; write a path that holds train/CLASS/ and val/CLASS/ images"
            raise _not_here(case, what)
    return experiment.model_copy(update={"data": data.model_copy(update={"path": str(path)})})


def _expanded(path: str, case: Case) -> str:
    """With the environment's variables in it. Raises ImagesNotHere where one is not set."""
    if missing := [name for name in re.findall(r"\$\{?(\w+)", path) if name not in os.environ]:
        export = f"export {missing[0]}=…"
        ours = Path(mark_of(case.document, ("data", "path")).file) in shipped().values()
        at_scale = f"{export}, or run it at a scale that needs no images: --scale laptop"
        instead = at_scale if ours else f"{export} or write a path here"
        raise _not_here(case, f"the environment variable {missing[0]} is not set; {instead}")
    return os.path.expandvars(path)


def _not_here(case: Case, what: str) -> ImagesNotHere:
    path = ("data", "path")
    return ImagesNotHere([mark_of(case.document, path).complaint(what, path)])


def _with_weights(case: Case) -> Experiment:
    """The experiment with the path of its imported weights made absolute, and their checksum. Raises ConfigError where
    there are none, or where they are another encoder's."""
    method, encoder = case.experiment.method, case.experiment.encoder
    if not isinstance(method, ImportedConfig):
        return case.experiment
    path = Path(method.path).expanduser().resolve()
    try:
        found = about(path)[0].encoder
    except (FileNotFoundError, ValueError) as error:
        raise mark_of(case.document, ("method", "path")).error(str(error), ("method", "path")) from None
    for field in ("family", "patch_size", "widths", "width", "depths", "depth", "heads"):
        if vars(found).get(field) != vars(encoder).get(field):
            what = f"{path.name} holds a {found.family} with {field} {vars(found).get(field)}"
            what += f"; write an encoder that has it, not {vars(encoder).get(field)}"
            raise mark_of(case.document, ("encoder",)).error(what, ("encoder",))
    return case.experiment.model_copy(
        update={"method": method.model_copy(update={"path": str(path), "sha256": _checksum(path)})}
    )


@cache
def _checksum(path: Path) -> str:
    return sha256(path)


def states(entries: Iterable[Entry], settled: dict[Key, RunState] | None = None) -> dict[Key, RunState]:
    """How each run stands. `settled` holds, and is given, the states of runs that are done: they are not read again."""
    settled = {} if settled is None else settled
    found: dict[Key, RunState] = {}
    for entry in entries:
        if entry.key in settled:
            found[entry.key] = settled[entry.key]
            continue
        state = run_state(entry.run, found.get(entry.needs) if entry.needs else None)
        found[entry.key] = state
        if state.state == "done":
            settled[entry.key] = state
    return found


def _outside(root: Path, name: str, named: set[Key]) -> tuple[RunFolder, ...]:
    gone = sorted(launched_by(root, name) - named)
    return tuple(run for run in (RunFolder(root, *key) for key in gone) if run.path.exists())


def is_pretraining(entry: Entry) -> bool:
    return isinstance(entry.planned.job, PretrainJob)
