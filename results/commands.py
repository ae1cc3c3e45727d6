"""The `mixmae results` commands. Imports no torch."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ablations.commands import GridPath, GridPaths, ScaleName, command_line
from mixmae.fields.console import AsJson, print_json
from mixmae.runs.folder import RunFolder

if TYPE_CHECKING:
    import pandas as pd

    from ablations.grid.file import Grid
    from ablations.grid.trials import Draw
    from mixmae.presentation.declaration import Declaration

Out = Annotated[Path | None, typer.Option(help="Folder to write to; default: ROOT/report-NAME.")]
Collected = Annotated[
    Path | None, typer.Option("--out", help="Folder to write to; default: results/ in the first root.")
]
_SOURCE = "The beginning of a pretraining's id, a run folder, a weights file, or a step checkpoint (step-N.pt)."
_RUNS = "A root, or a results.parquet that mixmae results collect wrote."
_IMAGES = "Folder of images to show; default: validation images of what the first SOURCE was trained on."
Roots = Annotated[list[Path] | None, typer.Option("--root", help="Where runs lie; several are merged. Default: ROOT.")]
Form = Annotated[
    Literal["md", "csv", "latex", "html"] | None, typer.Option("--format", help="Print this form and write nothing.")
]
Format = StrEnum("Format", ["png", "pdf", "svg"])
Formats = Annotated[
    list[Format] | None,
    typer.Option("--format", help="Only this format; can be given several times. Default: all."),
]

results_app = typer.Typer(no_args_is_help=True, help="Collect finished runs into tables, plots and pictures.")


@results_app.command("collect")
def results_collect(context: typer.Context, roots: Roots = None, out: Collected = None) -> None:
    """Gather all runs under ROOT, or of several roots, into results.parquet and results.csv.

    A run that lies in several is taken from where it is done.
    """
    from results.rows.collect import collect, write

    _check_out(out)
    places = _places(roots, context.obj)
    folder = out or places[0] / "results"
    frame = collect(*places)
    write(frame, folder)
    print(f"{len(frame)} runs: {folder / 'results.parquet'}, {folder / 'results.csv'}")


@results_app.command("table")
def results_table(
    context: typer.Context,
    file: GridPath,
    scale: ScaleName = None,
    form: Form = None,
    out: Out = None,
    roots: Roots = None,
) -> None:
    """Write the grid's tables as Markdown, CSV, LaTeX and HTML, and print them as Markdown."""
    from results.tables import FORMS, build_table, write_tables

    if form and out:
        raise ValueError("--format prints and writes nothing; leave out one of --format and --out")
    _check_out(out)
    places = _places(roots, context.obj)
    frame, declaration = _collected("tables", file, scale, places)
    if form:
        print(*(FORMS[form](build_table(frame, spec, declaration)) for spec in declaration.tables), sep="\n", end="")
        return
    paths = write_tables(frame, declaration, out or places[0] / f"report-{declaration.name}")
    for path in paths:
        if path.suffix == ".md":
            print(path.read_text(encoding="utf-8"))
    print(*paths, sep="\n")


@results_app.command("check")
def results_check(
    context: typer.Context, file: GridPath, scale: ScaleName = None, as_json: AsJson = False, roots: Roots = None
) -> None:
    """Compare finished runs with what the grid expects of them. Exits with 1 where a mean is off or none finished."""
    from results.check import check

    expectations = check(*_collected("expected", file, scale, _places(roots, context.obj)))
    if as_json:
        print_json(checked=[checked.document() for checked in expectations])
    else:
        print(*(checked.line() for checked in expectations), sep="\n")
    raise typer.Exit(int(any(checked.verdict != "ok" for checked in expectations)))


@results_app.command("best")
def results_best(
    context: typer.Context,
    file: GridPath,
    by: Annotated[str, typer.Option(help="What decides: an evaluation, or EVALUATION.METRIC.")],
    within: Annotated[list[str] | None, typer.Option(help="Columns of the groups; default: method, encoder.")] = None,
    sweep: Annotated[list[str] | None, typer.Option(help="Only this sweep; can be given several times.")] = None,
    top: Annotated[int, typer.Option(min=1, help="Settings to show of each group.")] = 3,
    as_list: Annotated[bool, typer.Option("--list", help="Print them as the list of a sweep, in YAML.")] = False,
    as_json: AsJson = False,
    scale: ScaleName = None,
    roots: Roots = None,
) -> None:
    """Say which of the settings that a grid tried did best, within each method and encoder."""
    from mixmae.presentation.checks import check_asked
    from results import best as choosing
    from results.rows.collect import collect

    if as_list and as_json:
        raise ValueError("--list prints YAML and --json JSON; leave out one of them")
    grid, places = _grid(file, scale), _places(roots, context.obj)
    frame = collect(*places)
    declaration = _declared(grid, places[0], frame)
    asked = [each for each in grid.spec.sweeps if not sweep or each.name in sweep]
    blocks = (block for each in asked for block in (each.product, each.zip, *each.list))
    tried: dict[str, Draw | None] = dict.fromkeys(path for block in blocks for path in block)
    tried |= {path: draw for each in asked if each.trials for path, draw in each.trials.draw.items()}
    within = within or ["method", "encoder"]
    check_asked(declaration, [by], within)
    selected = declaration.select(by)
    groups = choosing.best(frame, declaration, selected, within, sweep or [], tried)
    if as_list:
        print(choosing.as_list(groups, selected, top), end="")
    elif as_json:
        print_json(groups=choosing.document(groups, selected, top))
    else:
        print(*choosing.lines(groups, selected, top), sep="\n")


@results_app.command("diff")
def results_diff(
    a: Annotated[Path, typer.Argument(metavar="A", help=_RUNS)],
    b: Annotated[Path, typer.Argument(metavar="B", help=_RUNS)],
    as_json: AsJson = False,
) -> None:
    """Say how the runs of B differ from those of A: configs, figures, and whether that is significant."""
    from results.difference import compare, document, lines, read_runs

    difference = compare(read_runs(a), read_runs(b))
    if as_json:
        print_json(a=str(a), b=str(b), **document(difference))
    else:
        print(*lines(difference), sep="\n")


@results_app.command("plot")
def results_plot(
    context: typer.Context,
    file: GridPath,
    scale: ScaleName = None,
    out: Out = None,
    formats: Formats = None,
    roots: Roots = None,
) -> None:
    """Draw the grid's plots as PNG, PDF and SVG."""
    from results.plots.drawing import write_plots
    from results.plots.files import FORMATS

    _check_out(out)
    places = _places(roots, context.obj)
    frame, declaration = _collected("plots", file, scale, places)
    folder = out or places[0] / f"report-{declaration.name}"
    print(*write_plots(frame, declaration, folder, formats or FORMATS), sep="\n")


@results_app.command("gallery")
def results_gallery(
    context: typer.Context,
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE…", help=_SOURCE)],
    images: Annotated[Path | None, typer.Option(metavar="DIR", help=_IMAGES)] = None,
    rows: Annotated[int, typer.Option(min=1, help="Images to show.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Draws the masks, and the images where there are more.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder to write to; default: ROOT/gallery/SOURCE.")] = None,
) -> None:
    """Draw what pretrainings reconstruct of the same images, side by side, as PNG, PDF and SVG."""
    from results.gallery.gallery import draw_gallery
    from results.gallery.inputs import open_images, open_source
    from results.plots.files import save

    _check_out(out)
    opened = [open_source(_place(source, context.obj)) for source in sources]
    figure = draw_gallery(opened, open_images(opened, images, rows, seed), seed)
    folder = out or context.obj / "gallery" / "-".join(source.name for source in opened)
    print(*save(figure, "gallery", folder), sep="\n")


@results_app.command("report")
def results_report(
    context: typer.Context,
    files: GridPaths,
    scale: ScaleName = None,
    out: Annotated[
        Path | None, typer.Option(metavar="PAGE.html", help="The page; default: ROOT/report-NAME/index.html.")
    ] = None,
    roots: Roots = None,
) -> None:
    """Write one HTML page that holds all there is to show of the grids, to open from disk or to send.

    The tables, plots and galleries it is made of are kept in ROOT/report-NAME.
    """
    from results.report.writing import write_report
    from results.rows.collect import collect

    if out and out.is_dir():
        raise ValueError(f"--out {out}: is a folder; name the page in it, {out / 'index.html'}")
    _check_out(out, page=True)
    places = _places(roots, context.obj)
    opened = [_grid(file, scale) for file in files]
    frame = collect(*places)
    shows = " ".join(["mixmae results report", *map(str, files), *(["--scale", scale] if scale else [])])
    grids = []
    for file, grid in zip(files, opened, strict=True):
        runs = f"mixmae grid run {command_line(file, scale)}"
        grids.append(_declared(grid, places[0], frame, (runs, shows)))
    folder = places[0] / f"report-{'+'.join(grid.name for grid in grids)}"
    page = out or folder / "index.html"
    made = write_report(frame, grids, folder, page)
    print(f"{page}: {page.stat().st_size / 1e6:.2f} MB; made anew: {', '.join(made) or 'nothing'}")


# ------------------------------------------------------------------------------------------------------------- shared


def _places(roots: list[Path] | None, root: Path) -> list[Path]:
    """Where runs are looked for."""
    return [place.resolve() for place in roots or [root]]


def _check_out(out: Path | None, page: bool = False) -> None:
    """Raises ValueError where a file lies where the folder `out` would, or that of the page `out`."""
    folder = out.parent if out and page else out
    there = next((place for place in (folder, *folder.parents) if place.exists()), None) if folder else None
    if there and not there.is_dir():
        raise ValueError(f"--out {out}: {'' if there == out else f'{there} '}is a file; name a folder")


def _grid(file: Path, scale: str | None) -> "Grid":
    from ablations.grid.file import grid_path, read_grid

    return read_grid(grid_path(file), scale)


def _collected(block: str, file: Path, scale: str | None, places: list[Path]) -> "tuple[pd.DataFrame, Declaration]":
    """The collected runs, and what the grid declares. Raises ConfigError where the grid file has no such block."""
    from results.rows.collect import collect

    grid = _grid(file, scale)
    blocks = {"tables": grid.spec.tables, "plots": grid.spec.plots, "expected": grid.spec.expected}
    if not blocks[block]:
        entry = "where: …, top1: …" if block == "expected" else "name: …"
        raise grid.document.mark.error(f"names no {block}; write {block}: [{{{entry}}}]")
    frame = collect(*places)
    return frame, _declared(grid, places[0], frame)


def _declared(grid: "Grid", root: Path, frame: "pd.DataFrame", commands: tuple[str, ...] = ()) -> "Declaration":
    from ablations.plan.declaring import declare
    from ablations.plan.elsewhere import plan_to_show
    from results.rows.collect import keys_by_images

    return declare(grid, plan_to_show(grid, root, keys_by_images(frame)), commands)


def _place(source: str, root: Path) -> Path | RunFolder:
    """The path that `source` is, else the run whose id begins so. Raises FileNotFoundError or NoSuchRun."""
    from mixmae.runs.find import find_run

    path = Path(source)
    if path.exists():
        return path
    if len(path.parts) > 1 or path.suffix:
        raise FileNotFoundError(f"{path}: no such file or folder")
    return find_run(root, source)
