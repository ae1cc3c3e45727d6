"""Tables of top-1 accuracy: mean ± std over seeds, a column a stage, as Markdown, CSV and LaTeX (no torch)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mixmae.presentation import Declaration, TableSpec
from mixmae.runs import write_atomically
from results.cells import (
    MISSING,
    REFERENCES,
    STAGE_LABELS,
    cells,
    member_ids,
    member_rows,
    separating_columns,
    shown,
)
from results.published import Published, published_for

COLUMN_LABELS = {
    "pretrain_epochs": "epochs",
    "masked_attention": "masked attention",
    "mix_embedding": "mix embedding",
    "normalised_target": "normalised target",
    "decoder_depth": "decoder depth",
    "decoder_width": "decoder width",
    "labels_per_class": "labels a class",
    "fraction": "share of labels",
    "image_size": "image size",
}


@dataclass(frozen=True)
class Cell:
    """Top-1 in percent over the `n` seeds that are done; std has n - 1 and is None for one seed."""

    n: int
    mean: float | None
    std: float | None
    published: Published | None


@dataclass(frozen=True)
class Table:
    """`rows`: the values of `columns`, and a cell a stage (None where the grid has no such run)."""

    name: str
    title: str
    columns: tuple[str, ...]
    stages: tuple[str, ...]
    rows: list[tuple[tuple, dict[str, Cell | None]]]
    notes: list[str]

    def published_stages(self) -> list[str]:
        """The stages for which some row has a published number."""
        return [stage for stage in self.stages if any(cell[stage] and cell[stage].published for _, cell in self.rows)]

    def text(self) -> tuple[list[str], list[list[str]], list[str]]:
        """Header, body and footnotes as text; published numbers carry the number of their source's footnote."""
        published = self.published_stages()
        header = [COLUMN_LABELS.get(column, column) for column in self.columns]
        for stage in self.stages:
            header += [STAGE_LABELS[stage]] + [f"{STAGE_LABELS[stage]}, published"] * (stage in published)
        sources: list[str] = []
        body = []
        for values, by_stage in self.rows:
            line = [shown(column, value) for column, value in zip(self.columns, values, strict=True)]
            for stage in self.stages:
                line.append(_figure(by_stage[stage]))
                if stage in published:
                    line.append(_published(by_stage[stage], sources))
            body.append(line)
        numbered = [f"[{number}] {source}" for number, source in enumerate(sources, 1)]
        return header, body, self.notes + numbered


def write_tables(frame: pd.DataFrame, declaration: Declaration, folder: Path) -> list[Path]:
    """Writes NAME.md, NAME.csv and NAME.tex of every table declared into `folder`; returns their paths.

    Raises ValueError for an unknown sweep and `results.cells.MixedCell` where a cell would average runs that differ in
    more than their seed and no column tells them apart.
    """
    tables = [build_table(frame, spec, declaration) for spec in declaration.tables]
    return [path for table in tables for path in write_table(table, folder)]


def write_table(table: Table, folder: Path) -> list[Path]:
    numbers = numeric(table).to_csv(index=False, lineterminator="\n")
    texts = {"md": markdown(table), "csv": numbers, "tex": latex(table)}
    for kind, text in texts.items():
        _write_text(folder / f"{table.name}.{kind}", text)
    return [folder / f"{table.name}.{kind}" for kind in texts]


def build_table(frame: pd.DataFrame, spec: TableSpec, declaration: Declaration) -> Table:
    """A row for each distinct value of the spec's columns, and of those that must be added to average over seeds only;
    what was not pretrained comes last."""
    members = declaration.members
    rows = member_rows(frame, members, spec.sweeps, spec.stages)
    keys = spec.rows
    if "method" not in keys and rows["method"].isin(REFERENCES).any():
        keys = ("method", *keys)
    columns = separating_columns(rows, keys, ["stage"])
    body = []
    for values, group in cells(rows, columns):
        by_stage = {stage: _cell(group[group["stage"] == stage]) for stage in spec.stages}
        body.append((values, by_stage))
    if "method" in columns:
        place = columns.index("method")
        body.sort(key=lambda line: _rank(line[0][place]))
    notes = _notes(rows, {pair for pair in member_ids(members, spec.sweeps) if pair[0] in spec.stages})
    return Table(spec.name, spec.title, columns, spec.stages, body, notes)


def markdown(table: Table) -> str:
    header, body, notes = table.text()
    lines = [f"### {table.title}", ""] if table.title else []
    lines += [_piped(header), _piped(["---"] * len(header)), *map(_piped, body)]
    return "\n".join([*lines, *(line for note in notes for line in ("", note))]) + "\n"


def latex(table: Table) -> str:
    """A `tabular` with booktabs rules; the notes are comments below it, for the caption."""
    header, body, notes = table.text()
    alignment = "l" * len(table.columns) + "r" * (len(header) - len(table.columns))
    lines = [rf"\begin{{tabular}}{{{alignment}}}", r"\toprule", _ampersands(header), r"\midrule"]
    lines += [*map(_ampersands, body), r"\bottomrule", r"\end{tabular}"]
    title = [f"% {table.title}"] if table.title else []
    return "\n".join([*title, *lines, *(f"% {note}" for note in notes)]) + "\n"


def numeric(table: Table) -> pd.DataFrame:
    """The table as numbers: mean, std and n a stage, and the published number and its source where there is one."""
    published = table.published_stages()
    lines = []
    for values, by_stage in table.rows:
        line = dict(zip(table.columns, values, strict=True))
        for stage in table.stages:
            cell = by_stage[stage] or Cell(0, None, None, None)
            line |= {f"{stage}_mean": cell.mean, f"{stage}_std": cell.std, f"{stage}_n": cell.n}
            if stage in published:
                line[f"{stage}_published"] = cell.published and cell.published.value
                line[f"{stage}_source"] = cell.published and cell.published.source
        lines.append(line)
    return pd.DataFrame(lines, dtype=object)


# ------------------------------------------------------------------------------------------------------------- cells


def _cell(runs: pd.DataFrame) -> Cell | None:
    if runs.empty:
        return None
    top1 = runs.loc[runs["state"] == "done", "top1"]
    mean = float(top1.mean()) if len(top1) else None
    std = float(top1.std(ddof=1)) if len(top1) > 1 else None
    return Cell(len(top1), mean, std, published_for(runs.iloc[0].to_dict()))


def _figure(cell: Cell | None) -> str:
    if cell is None or cell.mean is None:
        return MISSING
    spread = "" if cell.std is None else f" ± {cell.std:.2f}"
    return f"{cell.mean:.2f}{spread} (n={cell.n})"


def _published(cell: Cell | None, sources: list[str]) -> str:
    if cell is None or cell.published is None:
        return MISSING
    published = cell.published
    source = f"{published.source}: {published.setting}" if published.setting else published.source
    if source not in sources:
        sources.append(source)
    return f"{published.value:g} [{sources.index(source) + 1}]"


def _rank(method: str) -> int:
    return REFERENCES.index(method) + 1 if method in REFERENCES else 0


def _notes(rows: pd.DataFrame, planned: set[tuple[str, str]]) -> list[str]:
    notes = ["Top-1 accuracy in %, mean ± std (n - 1) over n seeds."]
    unfinished = rows[rows["state"] != "done"]
    for state, runs in unfinished.groupby("state", sort=True):
        names = ", ".join(f"{run.stage}/{run.id}" for run in runs.itertuples())
        notes.append(f"Not counted, {state}: {names}.")
    absent = sorted(planned - set(zip(rows["stage"], rows["id"], strict=True)))
    if absent:
        notes.append(f"Not counted, no readable run folder: {', '.join('/'.join(pair) for pair in absent)}.")
    return notes


# -------------------------------------------------------------------------------------------------------------- text


def _piped(line: Sequence[str]) -> str:
    return "| " + " | ".join(text.replace("|", r"\|") for text in line) + " |"


_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "_": r"\_",
        "%": r"\%",
        "&": r"\&",
        "#": r"\#",
        "$": r"\$",
        "±": r"$\pm$",
        MISSING: "--",
    }
)


def _ampersands(line: Sequence[str]) -> str:
    return " & ".join(text.translate(_LATEX) for text in line) + r" \\"


def _write_text(path: Path, text: str) -> None:
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
