"""Grids whose images are not on this machine: their runs were made elsewhere and copied here to be shown (no torch)."""

import logging
from collections.abc import Mapping, Set
from pathlib import Path

from ablations.grid.file import Grid
from ablations.plan.plan import ImagesNotHere, Plan, plan
from mixmae.fields.identity import Key

log = logging.getLogger(__name__)


def plan_to_show(grid: Grid, root: Path, runs: Mapping[str, Set[Key]]) -> Plan:
    """The plan of a grid whose results are to be shown. Where its images are not here they are taken to be those of its
    runs, which the log says. runs: those that are here, by the fingerprint of the image folder each was made of.

    Raises ConfigError as `plan` does; of images that are not here where none of the runs is of the grid, or where some
    are of one data set and some of another.
    """
    try:
        return plan(grid.name, grid.cases, root)
    except ImagesNotHere as error:
        plans = {fingerprint: plan(grid.name, grid.cases, root, fingerprint) for fingerprint in runs}
        fitting = [name for name, made in plans.items() if any(entry.key in runs[name] for entry in made.entries)]
        if len(fitting) > 1:
            what = f"{grid.name} was run on several data sets ({', '.join(fitting)}); the images tell which is meant"
            raise ImagesNotHere([*error.lines, what]) from None
        if not fitting:
            raise
        log.warning("%s: its images are not here; taken to be those of its runs, %s", grid.name, fitting[0])
        return plans[fitting[0]]
