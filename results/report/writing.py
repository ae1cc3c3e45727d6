"""The report of one or several grids: a page that holds all it shows, and beside it the files it is made of.

The page can be sent to anyone; tables, plots, galleries and the collected results are there to be used in other places.
What draws or runs a model is made again only when what it is made of has changed; where nothing has, nothing that draws
is even imported (no torch, no matplotlib).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pandas as pd

from mixmae.files.records import write_atomically
from mixmae.presentation.declaration import Declaration, TableSpec
from mixmae.presentation.plots import PlotModel, plot_kinds
from mixmae.runs.folder import RunFolder
from results.report import facts
from results.report.changed import ReportPart, file_hash, hashed, make_changed
from results.report.galleries import drawable_galleries, gallery_output
from results.report.page import Page, ShownFigure, ShownGrid, ShownTable, render
from results.rows import collect
from results.rows.shown import grid_runs, pretrained


def write_report(
    frame: pd.DataFrame, declarations: Sequence[Declaration], folder: Path, page: Path | None = None
) -> list[str]:
    """Writes into `folder` the collected results, the grids' tables and plots, and a gallery an encoder with a finished
    pretraining; and to `page` (default: `index.html` in it) the page. Returns the names of what was made anew.

    Of several grids each has a folder of its own in `folder`. Raises ValueError where two have one name, and what
    `results.tables.build_table` and `results.plots.drawing.draw` raise.
    """
    places = _places(declarations)
    runs = facts.runs_of_grids(frame, declarations)
    galleries, absent = drawable_galleries(runs)
    outputs = [_results_output(frame, folder)]
    for declaration, place in zip(declarations, places, strict=True):
        outputs += [_table_output(frame, spec, declaration, folder, place) for spec in declaration.tables]
        outputs += [_plot_output(frame, spec, declaration, folder, place) for spec in declaration.plots]
    outputs += [gallery_output(gallery, folder / "gallery") for gallery in galleries]
    made = make_changed(outputs, folder)
    grids = [_shown_grid(runs, *pair, folder) for pair in zip(declarations, places, strict=True)]
    shown = [ShownFigure(gallery.title, _text(folder / "gallery" / f"{gallery.name}.html")) for gallery in galleries]
    problems = _without_roots([*frame.attrs.get("problems", []), *absent], frame)
    text = render(_page(runs, declarations, grids, shown, problems))
    page = page or folder / "index.html"
    return [*made, page.name] if _write_changed(page, text) else made


def _places(declarations: Sequence[Declaration]) -> list[PurePosixPath]:
    """Where each grid's files lie in the report's folder."""
    names = Counter(declaration.name for declaration in declarations)
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise ValueError(f"two grids are called {twice[0]}; rename one of their files")
    return [PurePosixPath(name if len(names) > 1 else ".") for name in names]


def _write_changed(page: Path, text: str) -> bool:
    """A name on disk may hold bytes that are no text; they are written as their escapes."""
    content = text.encode("utf-8", "backslashreplace")
    if page.exists() and page.read_bytes() == content:
        return False
    write_atomically(page, lambda path: path.write_bytes(content))
    return True


# ------------------------------------------------------------------------------------------------------ what is shown


def _page(
    runs: pd.DataFrame,
    declarations: Sequence[Declaration],
    grids: Sequence[ShownGrid],
    galleries: Sequence[ShownFigure],
    problems: Sequence[str],
) -> Page:
    records = facts.recorded_runs(runs)
    macs = {key: count for declaration in declarations for key, count in declaration.macs.items()}
    return Page(
        grids=grids,
        galleries=galleries,
        costs=facts.costs(runs, records, macs),
        unfinished=facts.unfinished(runs),
        absent=facts.absent(runs, declarations),
        problems=problems,
        runs=facts.every_run(runs, records, declarations),
        environments=facts.environments(runs, records),
        plug_ins=facts.plug_ins(records),
        data_sets=facts.data_sets(runs),
        commits=facts.commits(records),
    )


def _shown_grid(runs: pd.DataFrame, declaration: Declaration, place: PurePosixPath, folder: Path) -> ShownGrid:
    own = facts.runs_of_grids(runs, [declaration])
    return ShownGrid(
        name=declaration.name,
        title=declaration.title or declaration.name,
        scale=declaration.scale,
        commands=declaration.commands,
        states=facts.state_counts(own, declaration),
        settings=facts.ranges(own, declaration),
        tables=[_shown_table(spec, folder / place / "tables") for spec in declaration.tables],
        plots=[_shown_plot(spec, folder / place / "plots") for spec in declaration.plots],
    )


def _shown_table(spec: TableSpec, folder: Path) -> ShownTable:
    texts = (_text(folder / f"{spec.name}.{kind}") for kind in ("html", "md", "tex"))
    return ShownTable(_title(spec), *texts)


def _shown_plot(spec: PlotModel, folder: Path) -> ShownFigure:
    return ShownFigure(_title(spec), _text(folder / f"{spec.name}.svg"))


def _title(spec: TableSpec | PlotModel) -> str:
    return spec.title or spec.name


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _without_roots(problems: Sequence[str], frame: pd.DataFrame) -> list[str]:
    """The problems without the folders in which the roots lie on this machine."""
    for root in frame["root"].unique():
        problems = [problem.replace(f"{root}/", "") for problem in problems]
    return list(problems)


# ----------------------------------------------------------------------------------------------------------- outputs


def _results_output(frame: pd.DataFrame, folder: Path) -> ReportPart:
    files = ("results.parquet", "results.csv")
    return ReportPart("results", files, hashed(_rows(frame)), lambda: collect.write(frame, folder))


def _table_output(
    frame: pd.DataFrame, spec: TableSpec, declaration: Declaration, folder: Path, place: PurePosixPath
) -> ReportPart:
    def make() -> None:
        from results.tables import build_table, write_table

        write_table(build_table(frame, spec, declaration), folder / place / "tables")

    from results.tables.equal_time import has_hours

    files = tuple(str(place / "tables" / f"{spec.name}.{kind}") for kind in ("md", "csv", "tex", "html"))
    rows = grid_runs(frame, declaration, spec.sweeps)
    inputs = [_declared(declaration, spec), _rows(rows)]
    if has_hours(declaration, zip(rows["stage"], rows["id"], strict=True)):  # runs of other lengths say what holds
        inputs.append(_rows(grid_runs(frame, declaration)))
    if spec.primary:  # with one seed its images are looked at one by one
        inputs += [file_hash(RunFolder(Path(run.root), run.stage, run.id).predictions) for run in rows.itertuples()]
    return ReportPart(str(place / "tables" / spec.name), files, hashed(*inputs), make)


def _plot_output(
    frame: pd.DataFrame, spec: PlotModel, declaration: Declaration, folder: Path, place: PurePosixPath
) -> ReportPart:
    def make() -> None:
        from results.plots.drawing import write_plots

        write_plots(frame, replace(declaration, plots=(spec,)), folder / place / "plots")

    rows = grid_runs(frame, declaration, spec.sweeps)
    inputs = [_declared(declaration, spec), _rows(rows)]
    if plot_kinds[spec.kind].reads_curves:
        pretrainings = pretrained(rows).itertuples()
        inputs += [file_hash(RunFolder(Path(run.root), run.stage, run.id).metrics) for run in pretrainings]
    files = tuple(str(place / "plots" / f"{spec.name}.{kind}") for kind in ("png", "pdf", "svg"))
    return ReportPart(str(place / "plots" / spec.name), files, hashed(*inputs), make)


def _rows(frame: pd.DataFrame) -> str:
    return frame.drop(columns=["root", "row", "trained"]).to_csv(index=False)


def _declared(declaration: Declaration, spec: TableSpec | PlotModel) -> str:
    """The parts of a grid's declaration that decide what a table or plot of it shows."""
    members = {sweep: sorted(keys) for sweep, keys in declaration.members.items()}
    return repr((replace(declaration, members={}, commands=(), tables=(), plots=()), members, spec))
