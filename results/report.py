"""The report of a grid: one folder with an `index.html` and a `README.md` that show its tables, plots and gallery.

Every output is made again only when what it is made of has changed: the hashes of the inputs are kept in
`.inputs.json`. Where nothing has changed, nothing that draws is even imported (no torch, no matplotlib).
"""

import hashlib
import html
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path

import pandas as pd

import mixmae
from mixmae.fields import Model
from mixmae.presentation import Declaration, PlotSpec, TableSpec
from mixmae.runs import Damaged, RunFolder, read_json, sha256, write_atomically, write_json
from results import collect
from results.cells import METHOD_LABELS, STAGE_LABELS, member_ids, member_rows
from results.tables import MISSING, Table, build_table, markdown, write_table

log = logging.getLogger(__name__)

_VERSIONS = ("mixmae", "commit", "python", "torch", "timm", "numpy", "cpu", "device", "threads")
"""What decides the last bits, as environment.json has it."""

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 80rem; padding: 0 1rem; color: #222; }
h1, h2, h3 { line-height: 1.2; margin-top: 2rem; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid #ddd; padding: .25rem .8rem; text-align: left; }
th { border-bottom: 2px solid #888; }
img { max-width: 100%; height: auto; }
.note { color: #555; font-size: .9rem; }
.scroll { overflow-x: auto; }
"""


@dataclass(frozen=True)
class Output:
    """Some files of the report, what they are made of (`inputs`, hashed), and what makes them."""

    name: str
    files: tuple[str, ...]
    inputs: str
    make: Callable[[], None]


def write_report(
    frame: pd.DataFrame,
    root: Path,
    declaration: Declaration,
    folder: Path,
) -> list[str]:
    """Writes the tables, the plots, a gallery an encoder with a finished MixMAE pretraining, the collected results,
    `README.md` and `index.html` into `folder`, and returns the names of what was made anew.

    Raises what `results.tables.write_tables` and `results.plots.write_plots` raise.
    """
    tables, plots = declaration.tables, declaration.plots
    ids = member_ids(declaration.members, ())
    shown = frame[[pair in ids for pair in zip(frame["stage"], frame["id"], strict=True)]]
    built = [build_table(frame, spec, declaration) for spec in tables]
    galleries, problems = _galleries(shown, root)
    problems = [*frame.attrs.get("problems", []), *problems]
    versions = _versions(shown, root)
    outputs = [_results_output(frame, folder)]
    outputs += [_table_output(table, spec, folder) for table, spec in zip(built, tables, strict=True)]
    outputs += [_plot_output(frame, root, spec, declaration, folder) for spec in plots]
    outputs += [_gallery_output(root, encoder, id, folder) for encoder, id in galleries.items()]
    pages = {
        "README.md": _readme(built, plots, list(galleries)),
        "index.html": _index(built, plots, list(galleries), shown, problems, versions),
    }
    outputs += [_page_output(name, text, folder) for name, text in pages.items()]
    return _make_changed(outputs, folder)


def _make_changed(outputs: Sequence[Output], folder: Path) -> list[str]:
    """Makes the outputs whose inputs or files are not those of the last time; notes each as soon as it is made."""
    note = folder / ".inputs.json"

    def stamp(output: Output) -> str:
        return _hash(output.inputs, *(_file_hash(folder / file) for file in output.files))

    known = _known(note)
    made = []
    for output in outputs:
        complete = all((folder / file).exists() for file in output.files)
        if complete and known.get(output.name) == stamp(output):
            continue
        output.make()
        known[output.name] = stamp(output)
        made.append(output.name)
        write_json(note, {"inputs": known})
    current = {output.name: known[output.name] for output in outputs}
    if known != current:
        write_json(note, {"inputs": current})
    return made


def _known(note: Path) -> dict[str, str]:
    try:
        return read_json(note)["inputs"]
    except FileNotFoundError:
        return {}
    except Damaged as error:
        log.warning("%s; everything is made anew", error)
        return {}


# ----------------------------------------------------------------------------------------------------------- outputs


def _results_output(frame: pd.DataFrame, folder: Path) -> Output:
    files = ("results.parquet", "results.csv")
    return Output("results", files, _hash(_text(frame)), lambda: collect.write(frame, folder))


def _table_output(table: Table, spec: TableSpec, folder: Path) -> Output:
    files = tuple(f"tables/{spec.name}.{kind}" for kind in ("md", "csv", "tex"))
    inputs = _hash(_spec_text(spec), repr(table))
    return Output(f"tables/{spec.name}", files, inputs, lambda: write_table(table, folder / "tables"))


def _plot_output(frame: pd.DataFrame, root: Path, spec: PlotSpec, declaration: Declaration, folder: Path) -> Output:
    def draw() -> None:
        from results.plots import write_plots

        write_plots(frame, replace(declaration, plots=(spec,)), folder / "plots")

    rows = member_rows(frame, declaration.members, spec.sweeps, ["pretrain"] if spec.kind == "loss" else spec.stages)
    inputs = [_spec_text(spec), _text(rows)]
    if spec.kind == "loss":
        inputs += [_file_hash(RunFolder(root, row.stage, row.id).path / "metrics.jsonl") for row in rows.itertuples()]
    files = tuple(f"plots/{spec.name}.{kind}" for kind in ("png", "pdf"))
    return Output(f"plots/{spec.name}", files, _hash(*inputs), draw)


def _gallery_ids(shown: pd.DataFrame) -> dict[str, str]:
    """Of each encoder, the finished MixMAE pretraining to show: two images mixed, dual reconstruction, and of those the
    ratio nearest to a half, the most epochs, the lowest seed."""
    rows = shown[(shown["stage"] == "pretrain") & (shown["method"] == "mixmae") & (shown["state"] == "done")]
    rows = rows[(rows["fill"] == "image") & (rows["images"] == 2) & rows["dual"].fillna(False)]
    order = rows.assign(away=(rows["ratio"] - 0.5).abs(), fewer=-rows["pretrain_epochs"])
    order = order.sort_values(["away", "fewer", "seed", "id"])
    return {encoder: group["id"].iloc[0] for encoder, group in order.groupby("encoder", sort=True)}


def _galleries(shown: pd.DataFrame, root: Path) -> tuple[dict[str, str], list[str]]:
    """The pretrainings to show, by encoder, and why some cannot be: a root may be copied without weights or images."""
    drawable, problems = {}, []
    for encoder, id in _gallery_ids(shown).items():
        run = RunFolder(root, "pretrain", id)
        images = run.read("config")["job"]["data"].get("path")
        absent = [str(path) for path in (run.weights, images and Path(images)) if path and not path.exists()]
        if absent:
            problems.append(f"pretrain/{id}: no gallery, since {' and '.join(absent)} is not here")
        else:
            drawable[encoder] = id
    for problem in problems:
        log.warning("%s", problem)
    return drawable, problems


def _gallery_output(root: Path, encoder: str, id: str, folder: Path) -> Output:
    def draw() -> None:
        from results.gallery import write_gallery

        write_gallery(root, id, folder / "gallery")

    run = RunFolder(root, "pretrain", id)
    inputs = _hash(_file_hash(run.path / "config.json"), _file_hash(run.weights))
    return Output(f"gallery/{encoder}", tuple(f"gallery/{encoder}.{kind}" for kind in ("png", "pdf")), inputs, draw)


def _page_output(name: str, text: str, folder: Path) -> Output:
    path = folder / name
    return Output(name, (name,), _hash(text), lambda: write_atomically(path, lambda new: new.write_text(text, "utf-8")))


def _hash(*texts: str) -> str:
    """Of what an output is made of: `texts`, this package's code and its published numbers."""
    return hashlib.sha256(json.dumps([mixmae.__version__, _package_hash(), *texts]).encode()).hexdigest()


@cache
def _package_hash() -> str:
    found = [file for file in files("results").iterdir() if file.name.endswith((".py", ".csv"))]
    texts = [f"{file.name}\n{file.read_text('utf-8')}" for file in sorted(found, key=lambda file: file.name)]
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def _file_hash(path: Path) -> str:
    return sha256(path) if path.exists() else "absent"


def _text(frame: pd.DataFrame) -> str:
    return frame.drop(columns="root").to_csv(index=False)


def _spec_text(spec: Model) -> str:
    return spec.model_dump_json()


# ------------------------------------------------------------------------------------------------------------- pages


def _readme(tables: Sequence[Table], plots: Sequence[PlotSpec], galleries: Sequence[str]) -> str:
    parts = ["# Results\n", *(f"{markdown(table)}" for table in tables)]
    parts += [
        f"### {plot.title or plot.name}\n\n![{plot.title or plot.name}](plots/{plot.name}.png)\n" for plot in plots
    ]
    parts += [f"### What MixMAE sees and restores: {name}\n\n![{name}](gallery/{name}.png)\n" for name in galleries]
    parts += [
        "All runs, states and versions are in [index.html](index.html), all numbers in [results.csv](results.csv).\n"
    ]
    return "\n".join(parts)


def _index(
    tables: Sequence[Table],
    plots: Sequence[PlotSpec],
    galleries: Sequence[str],
    shown: pd.DataFrame,
    problems: Sequence[str],
    versions: Sequence[str],
) -> str:
    parts = [_heading(1, "Results"), _links(["results.csv", "results.parquet", "README.md"])]
    for table in tables:
        parts += [_heading(2, table.title or table.name), _html_table(table)]
        parts.append(_links([f"tables/{table.name}.{kind}" for kind in ("md", "csv", "tex")]))
    for plot in plots:
        parts += [_heading(2, plot.title or plot.name), _image(f"plots/{plot.name}.png", plot.title or plot.name)]
        parts.append(_links([f"plots/{plot.name}.{kind}" for kind in ("png", "pdf")]))
    for name in galleries:
        title = f"What MixMAE sees and restores: {name}"
        parts += [_heading(2, title), _image(f"gallery/{name}.png", title)]
    parts += [_heading(2, "Runs"), *(_note(problem) for problem in problems), _runs(shown)]
    parts += [
        _heading(2, "Versions"),
        *(_note(line) for line in versions),
        _note(f"report: mixmae {mixmae.__version__}"),
    ]
    body = "\n".join(parts)
    head = f'<meta charset="utf-8"><title>Results</title><style>{_STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n{body}\n</body></html>\n'


def _html_table(table: Table) -> str:
    header, body, notes = table.text()
    return _grid(header, body) + "".join(f"\n{_note(note)}" for note in notes)


def _runs(shown: pd.DataFrame) -> str:
    header = ["stage", "id", "state", "reason", "method", "encoder", "seed", "top-1 (%)", "loss"]
    body = []
    for run in shown.itertuples():
        figures = [MISSING if pd.isna(value) else f"{value:.4g}" for value in (run.top1, run.loss)]
        reason = "" if pd.isna(run.reason) else run.reason
        method = METHOD_LABELS[run.method]
        body.append([STAGE_LABELS[run.stage], run.id, run.state, reason, method, run.encoder, str(run.seed), *figures])
    return _grid(header, body)


def _versions(shown: pd.DataFrame, root: Path) -> list[str]:
    """What the runs' environments say of versions, and how many runs say so."""
    said: dict[str, int] = {}
    for run in shown.itertuples():
        environment = _environment(RunFolder(root, run.stage, run.id))
        named = [f"{name} {environment[name]}" for name in _VERSIONS if environment.get(name) is not None]
        if named:
            text = ", ".join(named)
            said[text] = said.get(text, 0) + 1
    return [f"{count} run{'s' * (count > 1)}: {text}" for text, count in sorted(said.items())]


def _environment(run: RunFolder) -> dict:
    try:
        return run.read("environment") or {}
    except Damaged as error:
        log.warning("%s; the versions of %s/%s are not shown", error, run.stage, run.id)
        return {}


def _grid(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(text)}</th>" for text in header)
    rows = "\n".join("<tr>" + "".join(f"<td>{html.escape(text)}</td>" for text in line) + "</tr>" for line in body)
    return f'<div class="scroll"><table>\n<tr>{head}</tr>\n{rows}\n</table></div>'


def _heading(level: int, text: str) -> str:
    return f"<h{level}>{html.escape(text)}</h{level}>"


def _note(text: str) -> str:
    return f'<p class="note">{html.escape(text)}</p>'


def _image(path: str, alt: str) -> str:
    return f'<p><img src="{html.escape(path)}" alt="{html.escape(alt)}"></p>'


def _links(paths: Sequence[str]) -> str:
    links = " · ".join(f'<a href="{html.escape(path)}">{html.escape(Path(path).name)}</a>' for path in paths)
    return f'<p class="note">{links}</p>'
