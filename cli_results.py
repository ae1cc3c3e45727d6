"""The `mixmae results` commands. Imports no torch."""

from pathlib import Path
from typing import Annotated

import typer

from cli_grid import AtScale, GridPath, planned

Out = Annotated[Path | None, typer.Option(help="Folder to write to; default: ROOT/report-NAME.")]
Collected = Annotated[Path | None, typer.Option("--out", help="Folder to write to; default: results/ in the root.")]
Roots = Annotated[
    list[Path] | None, typer.Option("--root", help="Where runs lie, the first before the others; default: ROOT.")
]

results_app = typer.Typer(no_args_is_help=True, help="Collect finished runs into tables, plots and pictures.")


@results_app.command("collect")
def results_collect(context: typer.Context, root: Roots = None, out: Collected = None) -> None:
    """Gather all runs under ROOT, or of several roots, into results.parquet and results.csv.

    A run that lies in several is taken from where it is done.
    """
    from results.collect import collect, write

    roots = [path.resolve() for path in root or [context.obj]]
    folder = out or roots[0] / "results"
    frame = collect(*roots)
    write(frame, folder)
    print(f"{len(frame)} runs: {folder / 'results.parquet'}, {folder / 'results.csv'}")


@results_app.command("table")
def results_table(context: typer.Context, file: GridPath, scale: AtScale = None, out: Out = None) -> None:
    """Write the grid's tables as Markdown, CSV and LaTeX, and print them."""
    from results.collect import collect
    from results.tables import write_tables

    declaration = _asked("tables", file, context.obj, scale)
    paths = write_tables(collect(context.obj), declaration, out or context.obj / f"report-{declaration.name}")
    for path in paths:
        if path.suffix == ".md":
            print(path.read_text(encoding="utf-8"))
    print(*paths, sep="\n")


@results_app.command("plot")
def results_plot(context: typer.Context, file: GridPath, scale: AtScale = None, out: Out = None) -> None:
    """Draw the grid's plots as PNG and PDF."""
    from results.collect import collect
    from results.plots import write_plots

    declaration = _asked("plots", file, context.obj, scale)
    folder = out or context.obj / f"report-{declaration.name}"
    print(*write_plots(collect(context.obj), declaration, folder), sep="\n")


@results_app.command("gallery")
def results_gallery(
    context: typer.Context,
    run_id: Annotated[str, typer.Argument(metavar="ID", help="The beginning of a MixMAE pretraining's id.")],
    out: Annotated[Path | None, typer.Option(help="Folder to write to; default: ROOT/gallery/ID.")] = None,
) -> None:
    """Draw images, their mix and both reconstructions of a finished MixMAE pretraining."""
    from ablations.steering import find_run
    from results.gallery import write_gallery

    id = find_run(context.obj, run_id).id
    print(*write_gallery(context.obj, id, out or context.obj / "gallery" / id), sep="\n")


# ------------------------------------------------------------------------------------------------------------- shared


def _asked(block: str, file: Path, root: Path, scale: str | None):
    """What the grid declares. Raises ConfigError where it has no such block."""
    from ablations.declaring import declare

    grid, plan = planned(file, root, scale)
    declaration = declare(grid, plan)
    if not getattr(declaration, block):
        raise grid.document.mark.error(f"names no {block}; write {block}: [{{name: …}}]")
    return declaration
