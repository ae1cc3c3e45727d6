"""A grid as those see it who show its results: `mixmae.presentation.declaration.Declaration` (no torch)."""

from typing import Any, get_args

from ablations.grid.file import Grid
from ablations.plan.plan import Plan
from mixmae.cost.multiply_adds import pretraining_step
from mixmae.presentation.declaration import Column, Declaration
from mixmae.presentation.row import Flat


def declare(grid: Grid, plan: Plan, commands: tuple[str, ...] = ()) -> Declaration:
    """What the grid declares of the runs of its plan. commands: that run it and show its results."""
    pretrainings = (entry for entry in plan.entries if not entry.job.spec.measures)
    steps = ((entry.key, pretraining_step(entry.job)) for entry in pretrainings)
    return Declaration(
        name=grid.name,
        title=grid.spec.title,
        scale=grid.scale,
        commands=commands,
        tables=grid.spec.tables,
        plots=grid.spec.plots,
        expected=grid.spec.expected,
        members=plan.members,
        full={entry.key: tuple(_columns(row) for row in entry.declared) for entry in plan.entries},
        planned={entry.key: _columns(entry.row) for entry in plan.entries},
        macs={key: step for key, step in steps if step},
    )


def _columns(row: Flat) -> dict[str, Any]:
    height, width = row["image_size"]
    found = {
        "method": row["method"],
        "encoder": row.get("encoder.name", "-"),
        "image_size": str(height) if height == width else f"{height}x{width}",
        "data": row["data.name"],
        "pretrain_epochs": row.get("pretrain.epochs"),
        "labels_per_class": row.get("evaluation.subset.labels_per_class"),
        "fraction": row.get("evaluation.subset.fraction"),
        "weights": None,
    }
    return {name: found.get(name, row.get(f"method.{name}")) for name in get_args(Column)}
