"""A grid as those see it who show its results: `mixmae.presentation.declaration.declaration.Declaration` (no torch)."""

from typing import Any, get_args

from ablations.grid.file import Grid
from ablations.plan.plan import Declared, Entry, Plan
from mixmae.cost.multiply_adds import pretraining_step
from mixmae.experiment.jobs import StageJob
from mixmae.fields.identity import Key
from mixmae.presentation.declaration import Column, Declaration


def declare(grid: Grid, plan: Plan, commands: tuple[str, ...] = ()) -> Declaration:
    """What the grid declares of the runs of its plan. commands: that run it and show its results."""
    jobs = {entry.key: entry.planned.job for entry in plan.entries}
    pretrainings = (entry for entry in plan.entries if entry.planned.stage == "pretrain")
    steps = ((entry.key, pretraining_step(entry.planned.job)) for entry in pretrainings)
    return Declaration(
        name=grid.name,
        title=grid.spec.title,
        scale=grid.scale,
        commands=commands,
        tables=grid.spec.tables,
        plots=grid.spec.plots,
        expected=grid.spec.expected,
        members=plan.members,
        full={entry.key: tuple(_columns(one) for one in entry.declared) for entry in plan.entries},
        planned={entry.key: _columns(_planned(entry, jobs)) for entry in plan.entries},
        macs={key: step for key, step in steps if step},
    )


def _planned(entry: Entry, jobs: dict[Key, StageJob]) -> Declared:
    """The job that is run, in place of the one that is declared."""
    return Declared(entry.method, entry.planned.job, jobs[entry.needs] if entry.needs else None)


def _columns(declared: Declared) -> dict[str, Any]:
    """The values that `results.collect` would read of such a run, by `Column`; None where one does not apply."""
    job, pretraining = declared.job, declared.pretraining
    trained = pretraining or (job if job.stage == "pretrain" else None)
    subset = getattr(job.recipe, "subset", None)
    height, width = job.image_size
    found = {
        "method": declared.method,
        "encoder": job.encoder.name if job.encoder else "-",
        "image_size": str(height) if height == width else f"{height}x{width}",
        "data": job.data.name,
        "pretrain_epochs": trained and trained.recipe.epochs,
        "labels_per_class": subset and subset.labels_per_class,
        "fraction": subset and subset.fraction,
    }
    return {name: found.get(name, getattr(trained and trained.method, name, None)) for name in get_args(Column)}
