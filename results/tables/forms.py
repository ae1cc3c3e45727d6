"""A table as Markdown, CSV, LaTeX and HTML, each with its footnotes, and the files (no torch)."""

import re
from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from mixmae.files.records import write_atomically
from mixmae.presentation.columns import MISSING, shown
from mixmae.presentation.declaration import Declaration
from results.tables.building import build_table
from results.tables.layout import Head, ShownCell, TableLayout, laid_out
from results.tables.table import SCALED, Cell, Difference, Figures, Label, Table, Twins

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
"""Characters that end a line or that a form cannot hold."""
_RULE = "\N{BOX DRAWINGS LIGHT HORIZONTAL}" * 3
"""What stands in every cell of a line that is a rule, where a form has none within a table."""
FOLDED = "How it was compared, and all else there is to know"
"""What stands for notes that are folded away."""


def write_tables(frame: pd.DataFrame, declaration: Declaration, folder: Path) -> list[Path]:
    """Writes every table declared into `folder`, in every form; returns the paths. Raises what `build_table` raises."""
    tables = [build_table(frame, spec, declaration) for spec in declaration.tables]
    return [path for table in tables for path in write_table(table, folder)]


def write_table(table: Table, folder: Path) -> list[Path]:
    """Writes NAME.md, NAME.csv, NAME.tex and NAME.html."""
    texts = {folder / f"{table.name}.{SUFFIXES.get(kind, kind)}": form(table) for kind, form in FORMS.items()}
    for path, text in texts.items():
        _write(path, text)
    return list(texts)


def _write(path: Path, text: str) -> None:
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


# ----------------------------------------------------------------------------------------------------------- Markdown


def markdown(table: Table) -> str:
    layout = laid_out(table)
    lines = [f"### {_marked_down(table.title)}", ""] if table.title else []
    header = [_marked_down(text) for text in layout.flat_header()]
    lines += [_piped(header), _piped(["---"] * len(header))]
    body = [_piped([_in_markdown(cell) for cell in line]) for line in layout.body]
    lines += _ruled(body, layout, [_piped([_RULE] * len(header))])
    shown, rest = [*map(_marked_down, layout.general)], [*map(_marked_down, layout.folded)]
    referred = [f"[{mark}] {_marked_down(text)}" for mark, text in _referred(layout)]
    if rest:
        # With an empty line above and below, what is folded is Markdown within the HTML.
        notes = [*shown, f"<details>\n<summary>{FOLDED}</summary>", *rest, *referred, "</details>"]
    else:
        notes = [*shown, *referred]
    return "\n".join([*lines, *(line for note in notes for line in ("", note))]) + "\n"


def _ruled(body: Sequence[str], layout: TableLayout, rule: Sequence[str]) -> list[str]:
    """The lines of the body, with a rule where there is one."""
    if layout.above is None:
        return list(body)
    return [*body[: layout.above], *rule, *body[layout.above :]]


def _in_markdown(cell: ShownCell) -> str:
    text = _marked_down(cell.text)
    marks = cell.plain().removeprefix(cell.text)
    return f"**{text}**{marks}" if cell.bold else text + marks


def _piped(line: Sequence[str]) -> str:
    return "| " + " | ".join(line) + " |"


def _marked_down(text: str) -> str:
    """The text with what Markdown would take for markup escaped; an underscore within a word is none."""
    text = re.sub(r"([\\`*<&~|\[])", r"\\\1", _CONTROL.sub(" ", text))
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)


# --------------------------------------------------------------------------------------------------------------- LaTeX

_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}", "_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}",
        "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
        "|": r"\textbar{}", '"': "{''}", "`": r"\textasciigrave{}", "[": "{[}", "]": "{]}", "*": "{*}",
        "±": r"$\pm$", "α": r"$\alpha$", "≤": r"$\le$", "×": r"$\times$", "…": r"\ldots{}", SCALED: r"\dag{}",
        MISSING: "--", "\N{MINUS SIGN}": "$-$",
    }
)  # fmt: skip


def latex(table: Table) -> str:
    """A `table` with its title as caption, booktabs rules, and the notes as text below. Compiles with pdfLaTeX and the
    package booktabs; names in other than Latin letters need LuaLaTeX or XeLaTeX and a font that has them."""
    layout = laid_out(table)
    alignment = "l" * layout.labels + "r" * (len(layout.header) - layout.labels)
    lines = [r"% \usepackage{booktabs}", r"\begin{table}", r"\centering"]
    lines += [rf"\caption{{{_in_latex(table.title)}}}"] if table.title else []
    lines += [rf"\begin{{tabular}}{{{alignment}}}", r"\toprule"]
    lines += [*_header_in_latex(layout), r"\midrule"]
    body = [_ampersands([_cell_in_latex(cell) for cell in line]) for line in layout.body]
    lines += _ruled(body, layout, [r"\midrule"])
    lines += [r"\bottomrule", r"\end{tabular}", r"\par\medskip"]
    lines += [r"\begin{minipage}{\linewidth}\footnotesize\raggedright"]
    lines += [rf"{_in_latex(note)}\par" for note in (*layout.general, *layout.folded)]
    lines += [rf"\textsuperscript{{{mark}}}~{_in_latex(note)}\par" for mark, note in _referred(layout)]
    return "\n".join([*lines, r"\end{minipage}", r"\end{table}"]) + "\n"


def _header_in_latex(layout: TableLayout) -> list[str]:
    """Groups with a rule below them, then the innermost heading of every column."""
    lines = []
    for heads in layout.levels()[:-1]:
        groups = {head.start: head for head in heads if not head.leaf}
        cells, place = [], 0
        while place < len(layout.header):
            head = groups.get(place)
            cells.append(rf"\multicolumn{{{head.end - place}}}{{c}}{{{_in_latex(head.text)}}}" if head else "")
            place = head.end if head else place + 1
        rules = "".join(rf"\cmidrule(lr){{{head.start + 1}-{head.end}}}" for head in groups.values())
        lines += [_ampersands(cells), rules]
    return [*lines, _ampersands([_in_latex(path[-1]) for path in layout.header])]


def _cell_in_latex(cell: ShownCell) -> str:
    text = rf"\textbf{{{_in_latex(cell.text)}}}" if cell.bold else _in_latex(cell.text)
    marks = ",".join(_in_latex(mark) for mark in cell.marks)
    return rf"{text}\textsuperscript{{{marks}}}" if marks else text


def _in_latex(text: str) -> str:
    return _CONTROL.sub(" ", text).translate(_LATEX)


def _ampersands(line: Sequence[str]) -> str:
    return " & ".join(line) + r" \\"


def _referred(layout: TableLayout) -> list[tuple[str, str]]:
    return [*layout.settings.items(), *((str(number), text) for number, text in enumerate(layout.sources, 1))]


# ---------------------------------------------------------------------------------------------------------------- HTML


def html(table: Table) -> str:
    """A fragment: a `<table>` with its title as caption, `data-sort` on every cell (a number or text, empty where there
    is nothing), then the notes, some folded away; numbers and letters refer to ordered lists."""
    layout = laid_out(table)
    lines = ["<table>"] + [f"<caption>{_in_html(table.title)}</caption>"] * bool(table.title)
    levels = layout.levels()
    heads = (
        "".join(_head_in_html(head, layout, len(levels) - depth) for head in line) for depth, line in enumerate(levels)
    )
    lines += ["<thead>", *(f"<tr>{line}</tr>" for line in heads), "</thead>", "<tbody>"]
    cells = (
        "".join(_cell_in_html(cell, heads=place < layout.labels) for place, cell in enumerate(line))
        for line in layout.body
    )
    lines += _ruled([f"<tr>{line}</tr>" for line in cells], layout, ["</tbody>", "<tbody>"])
    shown, rest = ([f'<p class="note">{_in_html(note)}</p>' for note in of] for of in (layout.general, layout.folded))
    referred = _list_in_html("a", layout.settings.values()) + _list_in_html("1", layout.sources)
    if rest:
        rest = ['<details class="note">', f"<summary>{FOLDED}</summary>", *rest, *referred, "</details>"]
    else:
        rest = referred
    return "\n".join([*lines, "</tbody>", "</table>", *shown, *rest]) + "\n"


def _head_in_html(head: Head, layout: TableLayout, levels: int) -> str:
    """levels: from the heading's line down to the body."""
    figure = ' class="figure"' if head.start >= layout.labels else ""
    down = f' rowspan="{levels}"' if head.leaf and levels > 1 else ""
    if head.leaf:
        return f'<th scope="col"{down}{figure}>{_in_html(head.text)}</th>'
    return f'<th scope="colgroup" colspan="{head.end - head.start}"{figure}>{_in_html(head.text)}</th>'


def _cell_in_html(cell: ShownCell, heads: bool) -> str:
    text = f"<strong>{_in_html(cell.text)}</strong>" if cell.bold else _in_html(cell.text)
    marks = f"<sup>{_in_html(', '.join(cell.marks))}</sup>" if cell.marks else ""
    sort = _in_html(f"{cell.sort:.10g}" if isinstance(cell.sort, float) else cell.sort)
    name, scope = ("th", ' scope="row"') if heads else ("td", "")
    return f'<{name}{scope}{_class(cell)} data-sort="{sort}">{text}{marks}</{name}>'


def _class(cell: ShownCell) -> str:
    return ' class="figure"' if cell.figure else ""


def _list_in_html(kind: str, notes: Iterable[str]) -> list[str]:
    items = "".join(f"<li>{_in_html(note)}</li>" for note in notes)
    return [f'<ol class="note" type="{kind}">{items}</ol>'] if items else []


def _in_html(text: str) -> str:
    return escape(_CONTROL.sub(" ", text))


# ----------------------------------------------------------------------------------------------------------------- CSV


def comma_separated(table: Table) -> str:
    return numeric(table).to_csv(index=False, lineterminator="\n")


def numeric(table: Table) -> pd.DataFrame:
    """The table as numbers: mean, std, n and whether it is best for each column of figures, and where there are
    published numbers these, their source, the difference and what differs in the setting. At a scale, a column says so
    and what was run stands in NAME_run beside what the grid declares."""
    lines = []
    for row in table.rows:
        line: dict[str, Any] = {"scale": table.scale} if table.scale else {}
        for label in row.labels:
            line[label.column] = _plain(label)
            if table.scale:
                line[f"{label.column}_run"] = _was(label)
        if table.above < len(table.rows):
            line["standing"] = ", ".join(row.standings) or None
        for place, (figures, cell) in enumerate(zip(table.figures, row.cells, strict=True)):
            cell = cell or Cell(figures.of.metric)
            numbers = _numbers(cell, table.has_published(place))
            numbers |= _compared_numbers(cell.compared) if table.has_compared(place) else {}
            numbers |= _of_twins(cell.twins) if table.has_twins(place) else {}
            numbers |= {"unconverged": cell.unconverged} if table.has_unconverged(place) else {}
            line |= {f"{_prefix(figures)}_{name}": number for name, number in numbers.items()}
        for estimated, found in zip(table.estimates, row.estimates, strict=True):
            bounds = (found.value, found.low, found.high) if found else (None, None, None)
            names = (estimated.name, f"{estimated.name}_low", f"{estimated.name}_high")
            line.update(zip(names, bounds, strict=True))
        lines.append(line)
    return pd.DataFrame(lines, dtype=object)


def _numbers(cell: Cell, with_published: bool) -> dict[str, Any]:
    numbers: dict[str, Any] = {"mean": cell.mean, "std": cell.std, "n": cell.n, "best": cell.best}
    if with_published:
        numbers |= {
            "published": cell.published and cell.published.value,
            "source": cell.published and cell.published.cited(),
            "difference": None if cell.difference is None else round(cell.difference, 6),
            "differs": "; ".join(cell.differs) or None,
        }
    return numbers


def _compared_numbers(found: Difference | None) -> dict[str, Any]:
    """The difference to the row that it is compared with and its interval, the matched seeds and the correlation over
    them, p after correction, and whether that decides."""
    if found is None:
        return dict.fromkeys(("minus", "minus_low", "minus_high", "pairs", "correlation", "corrected_p", "decided"))
    compared = found.comparison
    mean, half = compared.difference, compared.half
    return {
        "minus": mean,
        "minus_low": None if mean is None or half is None else mean - half,
        "minus_high": None if mean is None or half is None else mean + half,
        "pairs": compared.pairs,
        "correlation": compared.correlation,
        "corrected_p": found.corrected,
        "decided": found.decided,
    }


def _of_twins(found: Twins | None) -> dict[str, Any]:
    return {"twins_std": found and found.std, "twins_n": found and found.n}


def _prefix(figures: Figures) -> str:
    """NAME, NAME_METRIC or NAME_VALUE."""
    name = figures.of.text.replace(".", "_")
    if figures.across is None:
        return name
    value = figures.across.value
    return f"{name}_{'none' if value is None else shown(figures.across.column, value)}"


def _plain(label: Label) -> Any:
    return shown(label.column, label.value) if isinstance(label.value, tuple) else label.value


def _was(label: Label) -> Any:
    was = [_plain(Label(label.column, value)) for value in label.ran]
    return _plain(label) if not was else was[0] if len(was) == 1 else " or ".join(map(str, was))


# --------------------------------------------------------------------------------------------------------------- forms

FORMS: dict[str, Callable[[Table], str]] = {"md": markdown, "csv": comma_separated, "latex": latex, "html": html}
SUFFIXES = {"latex": "tex"}
"""The suffix of a form's files, where it is not the form's name."""
