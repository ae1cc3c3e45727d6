"""The `mixmae runs` commands. Imports no torch."""

from pathlib import Path
from typing import Annotated

import typer

from cli_grid import planned

Grids = Annotated[
    list[Path] | None, typer.Option("--grid", metavar="FILE", help="Only runs of this grid; may be given again.")
]

runs_app = typer.Typer(no_args_is_help=True, help="Look after the run folders under ROOT.")


@runs_app.callback()
def _runs() -> None:
    """A group, though it has one command."""


@runs_app.command("prune")
def runs_prune(
    context: typer.Context,
    grid: Grids = None,
    no_grid: Annotated[
        bool, typer.Option("--no-grid", help="Also whole runs that no grid under ROOT has launched.")
    ] = False,
    apply: Annotated[bool, typer.Option("--apply", help="Delete it; else it is only shown.")] = False,
) -> None:
    """Show, or delete, what is no longer needed: optimizer state of done runs, what dead processes and jobs left.

    A done run keeps its weights, result, metrics and config; a run that a process holds is left alone.
    """
    from ablations.control.pruning import delete, find, lines

    found = find(context.obj, [planned(file, context.obj)[1] for file in grid] if grid else None, no_grid)
    print(*lines(delete(found) if apply else found, apply), sep="\n")
