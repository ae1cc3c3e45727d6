"""The steps of a grid's pretrainings that a record for budgets in hours is made of (no torch)."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ablations.grid.file import Case
from ablations.plan.budgets import pretraining, without_budget
from ablations.plan.plan import placed
from mixmae.cost.step_records import step_name
from mixmae.data.sources import sources
from mixmae.fields.documents import ConfigError
from mixmae.presentation.columns import canonical, named, shown


def to_measure(cases: Iterable[Case], root: Path) -> list[Any]:
    """One job of each step that pretrainings of `cases` take, for the epochs that are written. Raises ConfigError where
    their images are not here, or nothing is pretrained."""
    found: dict[str, Any] = {}
    for case in cases:
        experiment, _ = placed(case, None)
        if experiment.pretrain is None or not experiment.spec.pretrains:
            continue
        job = pretraining(without_budget(experiment))
        found.setdefault(step_name(job, case.resources.of_speed()), job)
    if not found:
        raise ConfigError(["the grid pretrains nothing; name one that does"])
    for data in dict.fromkeys(job.data for job in found.values()):
        sources[data.name].fingerprint(data, root)  # by which a source knows its images
    return list(found.values())


def told_apart(jobs: Sequence[Any]) -> list[str]:
    """Each job in words: method, encoder and batch, and what of the method tells it from those of which that is the
    same."""
    return [
        ", ".join([_head(job), *_of_method(job, [one for one in jobs if _head(one) == _head(job)])]) for job in jobs
    ]


def _head(job: Any) -> str:
    return f"{job.method.name} {job.encoder.label}, batch {job.recipe.batch}"


def _of_method(job: Any, others: Sequence[Any]) -> Iterator[str]:
    """Yields the fields of its method in which one of the others is another."""
    for name, value in job.method.model_dump(mode="json").items():
        if any(getattr(other.method, name) != getattr(job.method, name) for other in others):
            column = canonical(f"method.{name}")
            yield named(column, shown(column, value))
