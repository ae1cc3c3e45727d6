"""What a grid amounts to: its stage jobs once each, what they wait for and how they stand (no torch)."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from ablations.grid.file import Case, shipped
from ablations.grid.scale import scale_names
from ablations.plan.budgets import Arm, step_hours, step_records, within_budget, without_budget
from ablations.plan.launched import launched_by
from mixmae.cost.step_records import StepRecord
from mixmae.data.sources import DataModel, DataNotHere, sources
from mixmae.experiment.experiment import Experiment, too_few_images
from mixmae.experiment.jobs import PlannedJob, StageJob, stage_jobs
from mixmae.fields.documents import ConfigError, mark_of
from mixmae.fields.identity import Key
from mixmae.files.records import sha256
from mixmae.presentation.columns import value
from mixmae.presentation.declaration import StepHours
from mixmae.presentation.row import Flat, chain_of, computed_of, row_of, stage_label
from mixmae.runs.folder import RunFolder
from mixmae.runs.state import RunState, run_state
from mixmae.weights.description import about

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """One stage job of a plan."""

    planned: PlannedJob
    row: Flat
    """What is run, by dotted path."""
    sweeps: tuple[str, ...]
    run: RunFolder
    config: str = ""
    """All that is computed, but for the seed."""
    names: tuple[str, ...] = ()
    """The names that the grid gives the evaluation."""
    arms: tuple[Arm, ...] = ()
    """Of a pretraining, the budgets that came to its epochs."""
    cases: tuple[tuple[str, Flat], ...] = ()
    """At a scale, and where some case has a budget: of every case it belongs to, the sweep and the row as the grid
    declares it."""

    @property
    def key(self) -> Key:
        return self.planned.key

    @property
    def needs(self) -> Key | None:
        """The run that it starts from."""
        return self.planned.needs

    @property
    def job(self) -> StageJob:
        return self.planned.job

    @property
    def method(self) -> str:
        """The method of the pretraining, or what stands in its place."""
        return str(self.row["method"])

    @property
    def encoder(self) -> str | None:
        return self.row.get("encoder.name")

    @property
    def stage(self) -> str:
        """Its stage, and in brackets what the grid calls it where that is another name."""
        own = [name for name in self.names if name != self.planned.stage]
        return f"{self.planned.stage} ({', '.join(own)})" if own else self.planned.stage

    @property
    def title(self) -> str:
        parts = (self.stage, self.planned.id[:8], self.method, self.encoder, f"seed {self.job.seed}")
        return " ".join(part for part in parts if part)


@dataclass(frozen=True)
class Plan:
    """The stage jobs of a grid (or of one experiment), each after the one it starts from."""

    name: str
    root: Path
    experiments: int
    entries: tuple[Entry, ...]
    outside: tuple[RunFolder, ...]
    """Runs that this grid once launched and no longer names."""
    hours: dict[Key, StepHours] = field(default_factory=dict)
    """What the steps of pretrainings take, by the records that budgets name."""

    @property
    def members(self) -> dict[str, set[Key]]:
        """Which jobs belong to each sweep."""
        members: dict[str, set[Key]] = {}
        for entry in self.entries:
            for sweep in entry.sweeps:
                members.setdefault(sweep, set()).add(entry.key)
        return members


class ImagesNotHere(ConfigError):
    """An image folder that a grid names is not on this machine."""


@dataclass
class _Draft:
    """What is known of a job while a plan is made."""

    planned: PlannedJob
    row: Flat
    config: str
    sweeps: dict[str, None] = field(default_factory=dict)
    names: dict[str, None] = field(default_factory=dict)
    arms: dict[Arm, None] = field(default_factory=dict)
    cases: list[tuple[str, Flat]] = field(default_factory=list)
    at_a_scale: bool = False
    of_speed: Mapping[str, Any] = field(default_factory=dict)
    """The resources on which the time of a step depends."""


def plan(name: str, cases: Iterable[Case], root: Path, elsewhere: str | None = None) -> Plan:
    """The stage jobs of `cases`. elsewhere: the fingerprint of data that are not here, for what only shows results.
    Raises ConfigError where a data set is too small, or, without that, not here (ImagesNotHere)."""
    root = root.resolve()
    prints: dict[DataModel, str] = {}
    drafts: dict[Key, _Draft] = {}
    experiments = set()
    cases = list(cases)
    for case in cases:
        experiment, is_here = placed(case, elsewhere)
        data = experiment.data
        if data not in prints:
            prints[data] = sources[data.name].fingerprint(data, root) if is_here else elsewhere or ""
        for path, what in too_few_images(experiment) if is_here else ():
            raise mark_of(case.document, path).error(what, path)
        experiment, arm = within_budget(case, experiment, prints[data], root, is_here)
        experiments.add(experiment)
        jobs = stage_jobs(experiment, prints.__getitem__)
        rows = _rows(jobs)
        declared = _rows(stage_jobs(without_budget(case.full), lambda data: "")) if case.full else rows
        for planned, (row, config), (as_declared, _) in zip(jobs, rows, declared, strict=True):
            draft = drafts.setdefault(planned.key, _Draft(planned, row, config, of_speed=case.resources.of_speed()))
            draft.sweeps[case.sweep] = None
            within = arm.columns if arm and "pretrain.epochs" in row else {}
            draft.cases.append((case.sweep, as_declared | within))
            draft.at_a_scale |= case.full is not None
            if arm is not None and planned.job.trained_by is not None:
                draft.arms[arm] = None
            if planned.name is not None:
                draft.names[planned.name] = None
    entries = tuple(
        Entry(
            draft.planned,
            draft.row,
            tuple(draft.sweeps),
            RunFolder(root, *key),
            draft.config,
            tuple(draft.names),
            tuple(draft.arms),
            tuple(draft.cases) if draft.at_a_scale or _any_budget(draft) else (),
        )
        for key, draft in drafts.items()
    )
    hours = _hours(drafts.values(), step_records(cases))
    return Plan(name, root, len(experiments), entries, _outside(root, name, set(drafts)), hours)


def _hours(drafts: Iterable[_Draft], records: Sequence[StepRecord]) -> dict[Key, StepHours]:
    pretrainings = [draft for draft in drafts if draft.planned.job.trained_by is not None] if records else []
    found = {one.planned.key: step_hours(one.planned.job, one.of_speed, records) for one in pretrainings}
    return {key: hours for key, hours in found.items() if hours}


def _any_budget(draft: _Draft) -> bool:
    return any(value(row, "budget") for _, row in draft.cases)


def _rows(jobs: list[PlannedJob]) -> list[tuple[Flat, str]]:
    """The row of each job, and all that it computes."""
    plain = {planned.key: planned.job.model_dump(mode="json") for planned in jobs}
    prints = {id(plain[planned.key]): planned.fingerprint for planned in jobs}
    chains = [chain_of(job, plain.get) for job in plain.values()]
    return [(row_of(chain), computed_of(chain, [prints[id(job)] for job in chain])) for chain in chains]


def placed(case: Case, elsewhere: str | None) -> tuple[Experiment, bool]:
    """The experiment with all that depends on this machine made out, and whether its images are here."""
    experiment = _with_weights(case)
    data = experiment.data
    try:
        return experiment.model_copy(update={"data": sources[data.name].placed(data)}), True
    except DataNotHere as error:
        if elsewhere is None:
            raise _not_here(case, error) from None
        return experiment, False


def _not_here(case: Case, error: DataNotHere) -> "ImagesNotHere":
    path, what = ("data", *error.path), error.what
    mark = mark_of(case.document, path)
    if error.variable:
        export = f"export {error.variable}=…"
        at_scale = f"{export}, or run it at a scale that needs no images: --scale {scale_names()[0]}"
        what += f"; {at_scale if Path(mark.file) in shipped().values() else f'{export} or write a path here'}"
    return ImagesNotHere([mark.complaint(what, path)])


def _with_weights(case: Case) -> Experiment:
    """The experiment with the path of its imported weights made absolute, and their checksum. Raises ConfigError where
    there are none, or where they are another encoder's."""
    experiment, encoder = case.experiment, case.experiment.encoder
    if not experiment.spec.reads_weights:
        return experiment
    method: Any = experiment.method
    path = Path(method.path).expanduser().resolve()
    try:
        held = about(path)[0].encoder
    except (FileNotFoundError, ValueError) as error:
        raise mark_of(case.document, ("method", "path")).error(str(error), ("method", "path")) from None
    wanted = encoder.shape
    for name, size in held.shape.items():
        if size != wanted.get(name):
            what = f"{path.name} holds a {held.family} with {name} {size}"
            what += f"; write an encoder that has it, not {wanted.get(name)}"
            raise mark_of(case.document, ("encoder",)).error(what, ("encoder",))
    given = method.model_copy(update={"path": str(path), "sha256": _checksum(path)})
    return experiment.model_copy(update={"method": given})


@cache
def _checksum(path: Path) -> str:
    return sha256(path)


def states(entries: Iterable[Entry], settled: dict[Key, RunState] | None = None) -> dict[Key, RunState]:
    """How each run stands. `settled` holds, and is given, the states of runs that are done: they are not read again."""
    settled = {} if settled is None else settled
    run_states: dict[Key, RunState] = {}
    for entry in entries:
        if entry.key in settled:
            run_states[entry.key] = settled[entry.key]
            continue
        needs = (run_states.get(entry.needs), stage_label(entry.needs[0])) if entry.needs else (None,)
        state = run_state(entry.run, *needs)
        run_states[entry.key] = state
        if state.state == "done":
            settled[entry.key] = state
    return run_states


def _outside(root: Path, name: str, named: set[Key]) -> tuple[RunFolder, ...]:
    gone = sorted(launched_by(root, name) - named)
    return tuple(run for run in (RunFolder(root, *key) for key in gone) if run.path.exists())
