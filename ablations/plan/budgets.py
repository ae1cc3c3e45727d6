"""Budgets of a grid's pretrainings: what each comes to, kept under the root and used again (no torch).

ROOT/budgets/ID.json holds a resolution, its id being a hash of all that it follows from. So a grid names the same runs
after the costs of a method have been counted anew, and also where its images are not.
"""

import errno
import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ablations.grid.file import Case
from mixmae.cost.budgets import (
    SPEEDS,
    OutOfBudget,
    Resolution,
    epoch_hours,
    epochs_in_words,
    hours_in_words,
    of_epochs,
    of_hours,
    of_multiply_adds,
)
from mixmae.cost.step_records import NoRecord, StepRecord, read_step_record
from mixmae.experiment.experiment import Experiment
from mixmae.experiment.jobs import StageJob, stage_jobs
from mixmae.fields.documents import mark_of
from mixmae.fields.identity import canonical, computed
from mixmae.fields.texts import bytes_of, many
from mixmae.files.records import Damaged, read_json, write_json
from mixmae.presentation.columns import ALIASES
from mixmae.presentation.declaration import StepHours
from mixmae.presentation.row import Flat

log = logging.getLogger(__name__)

READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
"""Errors of a root that cannot be written to: budgets are then resolved anew each time."""
PATH = ("pretrain", "budget")


@dataclass(frozen=True)
class Arm:
    """A pretraining's budget and what it comes to. notes: what is to be known of where it comes from. peak_memory:
    bytes of a step, None where no record tells them."""

    resolution: Resolution
    method: str
    encoder: str
    notes: tuple[str, ...] = ()
    peak_memory: int | None = None

    @property
    def columns(self) -> Flat:
        """What a row of the case has beside that of its run."""
        of, reached, memory = (ALIASES[name].path for name in ("budget", "budget_reached", "budget_memory"))
        found = self.resolution
        takes = {} if self.peak_memory is None else {memory: self.peak_memory}
        between = dict(zip((f"{of}_slower", f"{of}_faster"), found.between or (), strict=False))
        return {of: found.of, reached: round(found.reached, 1), **takes, **between}

    def text(self) -> str:
        found = self.resolution
        text = f"{self.method} {self.encoder} {many(found.epochs, 'epoch')} ({found.reached:.1f} %)"
        text += "" if self.peak_memory is None else f", {bytes_of(self.peak_memory)} a step"
        if found.between is None:
            return text
        spans = " and ".join(f"{epochs} at {speed:g}" for epochs, speed in zip(found.between, SPEEDS, strict=True))
        return f"{text}, {spans} of the measured speed"


def within_budget(
    case: Case, experiment: Experiment, fingerprint: str, root: Path, is_here: bool
) -> tuple[Experiment, Arm | None]:
    """The experiment with its budget resolved to epochs, and how; as it is where it has none. fingerprint: of its data,
    which may not be here.

    Raises ConfigError where the budget is below an epoch, or the cost is not known.
    """
    recipe: Any = experiment.pretrain
    if recipe is None or recipe.budget is None:
        return experiment, None
    if not experiment.spec.pretrains:
        return _lasting(experiment, recipe.epochs), None
    try:
        arm = _arm(case, experiment, fingerprint, root, is_here)
    except (OutOfBudget, NoRecord, UnknownCost) as error:
        raise mark_of(case.document, PATH).error(str(error), PATH) from None
    return _lasting(experiment, arm.resolution.epochs), arm


class UnknownCost(ValueError):
    """The budget cannot be said in this method's epochs."""


def _lasting(experiment: Experiment, epochs: int) -> Experiment:
    recipe: Any = experiment.pretrain
    return experiment.model_copy(update={"pretrain": recipe.lasting(epochs)})


def without_budget(experiment: Experiment) -> Experiment:
    """The experiment with the epochs that are written."""
    recipe: Any = experiment.pretrain
    return experiment if recipe is None or recipe.budget is None else _lasting(experiment, recipe.epochs)


def _arm(case: Case, experiment: Experiment, fingerprint: str, root: Path, is_here: bool) -> Arm:
    recipe: Any = experiment.pretrain
    budget = recipe.budget
    job = pretraining(experiment)
    other = None
    if case.reference is not None:
        other = pretraining(case.reference.model_copy(update={"data": experiment.data}))
    record = None if budget.measured_on is None else read_step_record(_beside(case, budget.measured_on))
    seconds = record.seconds(job, case.resources.of_speed()) if record and budget.hours is not None else None
    follows_from = {
        "budget": budget.model_dump(mode="json", exclude={"measured_on"}),
        "data": fingerprint,
        "job": _counts(job),
        "reference": other and _counts(other),
        "seconds": seconds,
    }
    digits = hashlib.sha256(canonical(follows_from).encode()).hexdigest()[:16]
    path = root / "budgets" / f"{digits}.json"
    found = _kept(path, is_here, lambda: _resolved(budget, job, other, seconds))
    if budget.hours is not None:  # earlier versions kept "1 hours"
        found = replace(found, of=hours_in_words(budget.hours))
    arm = Arm(found, job.method.name, job.encoder.label)
    if record is None:
        return arm
    peak = record.peak_memory(job, case.resources.of_speed())
    of_hours = () if seconds is None else record.of_hours()
    of_memory = () if peak is None and case.full else (record.of_memory(peak),)  # at a scale nothing is measured
    return replace(arm, notes=(*of_hours, *of_memory), peak_memory=peak)


def pretraining(experiment: Experiment) -> Any:
    """The job of its pretraining for the epochs that are written."""
    jobs = stage_jobs(without_budget(experiment), lambda data: "")
    return next(planned.job for planned in jobs if planned.job.trained_by is not None)


def step_records(cases: Iterable[Case]) -> list[StepRecord]:
    """The records that budgets of the cases name, in the order of the cases. What cannot be read is left out: a case
    that needs it is refused."""
    records: dict[Path, StepRecord] = {}
    for case in cases:
        recipe: Any = case.experiment.pretrain
        if recipe is None or recipe.budget is None or recipe.budget.measured_on is None:
            continue
        path = _beside(case, recipe.budget.measured_on)
        if path not in records:
            with suppress(NoRecord):
                records[path] = read_step_record(path)
    return list(records.values())


def step_hours(job: Any, resources: Mapping[str, Any], records: Sequence[StepRecord]) -> StepHours | None:
    """What the steps of a pretraining's job take with such resources by the first of the records that has them; None
    where none has."""
    for record in records:
        try:
            hours = job.recipe.epochs * epoch_hours(record.seconds(job, resources), job)
        except NoRecord:
            continue
        return StepHours(hours, record.of_hours()[0])
    return None


def _counts(job: StageJob) -> dict[str, Any]:
    return computed(type(job), job.model_dump(mode="json", exclude={"seed"}))


def _beside(case: Case, name: str) -> Path:
    """A path from the folder of the file that writes it."""
    return Path(mark_of(case.document, (*PATH, "measured_on")).file).parent / Path(name).expanduser()


def _resolved(budget: Any, job: Any, other: Any, seconds: float | None) -> Resolution:
    if budget.hours is not None:
        assert seconds is not None
        return of_hours(budget.hours, seconds, job)
    if budget.multiply_adds is not None:
        return _known(of_multiply_adds(budget.multiply_adds, job), job)
    if other is None:
        return Resolution(job.recipe.epochs, 100.0, epochs_in_words(job))
    return _known(of_epochs(other, job), job)


def _known(found: Resolution | None, job: Any) -> Resolution:
    if found is None:
        what = f"the multiply-adds of {job.method.name} on {job.encoder.label} are not known"
        raise UnknownCost(f"{what}; write epochs, or hours with a record of its step")
    return found


def _kept(path: Path, is_here: bool, resolve: Callable[[], Resolution]) -> Resolution:
    """What the file at `path` holds, else what is resolved, which is written there. is_here: the data are."""
    kept = _read(path)
    if not is_here:
        if kept is None:
            raise UnknownCost(f"cannot be resolved where the images are not; copy {path.parent} from where they are")
        return kept
    found = resolve()
    if kept is None:
        _write(path, found)
    elif kept.epochs != found.epochs:
        what = f"{many(kept.epochs, 'epoch')} as first planned; they would now be {found.epochs}"
        log.warning("the budget of %s stays at %s (remove %s to resolve it anew)", found.of, what, path)
    return found if kept is None else kept


def _read(path: Path) -> Resolution | None:
    try:
        held = read_json(path)
        between = held["between"] and tuple(held["between"])
        return Resolution(held["epochs"], held["reached"], held["of"], between)
    except FileNotFoundError:
        return None
    except (Damaged, KeyError, TypeError) as error:
        log.warning("%s: %s; resolved anew", path, error)
        return None


def _write(path: Path, found: Resolution) -> None:
    try:
        write_json(path, asdict(found))
    except OSError as error:
        if error.errno not in READ_ONLY:
            raise


def lines(arms: Iterable[Arm]) -> list[str]:
    """What budgets come to, a line each, and what is to be known of where that comes from."""
    by_budget: dict[str, dict[str, None]] = {}
    notes: dict[str, None] = {}
    for arm in arms:
        by_budget.setdefault(arm.resolution.of, {})[arm.text()] = None
        notes |= dict.fromkeys(arm.notes)
    return [f"budget of {of}: {'; '.join(texts)}" for of, texts in by_budget.items()] + list(notes)
