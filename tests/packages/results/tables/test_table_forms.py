"""The forms of a table: LaTeX, HTML and CSV by hand, and names that hold what a form would take for markup."""

import csv
import io
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixmae.experiment.metric import TOP1
from mixmae.presentation.declaration import Declaration
from results.published import Published
from results.tables import Cell, Figures, Label, Row, Table, comma_separated, html, latex, markdown

DAGGER = "\N{DAGGER}"
PUBLISHED = Published(85.1, "FT 100 ep", "a_b README", "Swin-B/W14", "600", 100, 224, "ImageNet-1K", True)
FINETUNED, KNN = Declaration("epochs").selected(("finetune", "knn"))
FIGURES = (
    Figures(FINETUNED, Label("pretrain_epochs", 300, (10,))),
    Figures(FINETUNED, Label("pretrain_epochs", 600, (20,))),
    Figures(KNN, Label("pretrain_epochs", 600, (20,))),
)
TABLE = Table(
    "epochs",
    "Laptop scale: epochs",
    "laptop",
    ("method", "image_size"),
    FIGURES,
    (
        Row(
            (Label("method", "mixmae"), Label("image_size", 224, (32,))),
            (
                Cell(TOP1, 2, 84.5, 0.25),
                Cell(TOP1, 3, 86.0, 0.5, PUBLISHED, ("20 epochs", "32 px"), comparable=True, best=True),
                Cell(TOP1, 0, None, None),
            ),
        ),
        Row((Label("method", "raw pixels"), Label("image_size", None)), (None, None, Cell(TOP1, 1, 95.0, None))),
    ),
    ("Top-1 in %, α = 0.05.", f"{DAGGER} Laptop scale."),
)


def test_latex_by_hand():
    assert latex(TABLE) == (
        "% \\usepackage{booktabs}\n"
        "\\begin{table}\n"
        "\\centering\n"
        "\\caption{Laptop scale: epochs}\n"
        "\\begin{tabular}{llrrrrr}\n"
        "\\toprule\n"
        " &  & \\multicolumn{4}{c}{fine-tuning} & \\multicolumn{1}{c}{kNN} \\\\\n"
        "\\cmidrule(lr){3-6}\\cmidrule(lr){7-7}\n"
        " &  &  & \\multicolumn{3}{c}{epochs 20 for 600} &  \\\\\n"
        "\\cmidrule(lr){4-6}\n"
        "method & image size & epochs 10 for 300 & ours & published & difference & epochs 20 for 600 \\\\\n"
        "\\midrule\n"
        "MixMAE & 32 for 224 & 84.50 $\\pm$ 0.25 (n=2)\\textsuperscript{\\dag{}} & \\textbf{86.00 $\\pm$ 0.50 (n=3)}"
        "\\textsuperscript{\\dag{},a} & 85.1\\textsuperscript{1} & +0.90\\textsuperscript{a} & -- \\\\\n"
        "raw pixels & -- & -- & -- & -- & -- & 95.00 (n=1)\\textsuperscript{\\dag{}} \\\\\n"
        "\\bottomrule\n"
        "\\end{tabular}\n"
        "\\par\\medskip\n"
        "\\begin{minipage}{\\linewidth}\\footnotesize\\raggedright\n"
        "Top-1 in \\%, $\\alpha$ = 0.05.\\par\n"
        "\\dag{} Laptop scale.\\par\n"
        "\\textsuperscript{a}~20 epochs; 32 px\\par\n"
        "\\textsuperscript{1}~a\\_b README: FT 100 ep\\par\n"
        "\\end{minipage}\n"
        "\\end{table}\n"
    )


def test_html_by_hand():
    assert html(TABLE) == (
        "<table>\n"
        "<caption>Laptop scale: epochs</caption>\n"
        "<thead>\n"
        '<tr><th scope="col" rowspan="3">method</th><th scope="col" rowspan="3">image size</th>'
        '<th scope="colgroup" colspan="4" class="figure">fine-tuning</th>'
        '<th scope="colgroup" colspan="1" class="figure">kNN</th></tr>\n'
        '<tr><th scope="col" rowspan="2" class="figure">epochs 10 for 300</th>'
        '<th scope="colgroup" colspan="3" class="figure">epochs 20 for 600</th>'
        '<th scope="col" rowspan="2" class="figure">epochs 20 for 600</th></tr>\n'
        '<tr><th scope="col" class="figure">ours</th><th scope="col" class="figure">published</th>'
        '<th scope="col" class="figure">difference</th></tr>\n'
        "</thead>\n"
        "<tbody>\n"
        '<tr><th scope="row" data-sort="MixMAE">MixMAE</th><th scope="row" data-sort="224">32 for 224</th>'
        f'<td class="figure" data-sort="84.5">84.50 ± 0.25 (n=2)<sup>{DAGGER}</sup></td>'
        f'<td class="figure" data-sort="86"><strong>86.00 ± 0.50 (n=3)</strong><sup>{DAGGER}, a</sup></td>'
        '<td class="figure" data-sort="85.1">85.1<sup>1</sup></td>'
        '<td class="figure" data-sort="0.9">+0.90<sup>a</sup></td><td class="figure" data-sort="">–</td></tr>\n'
        '<tr><th scope="row" data-sort="raw pixels">raw pixels</th><th scope="row" data-sort="">–</th>'
        + '<td class="figure" data-sort="">–</td>'
        * 4
        + f'<td class="figure" data-sort="95">95.00 (n=1)<sup>{DAGGER}</sup></td></tr>\n'
        "</tbody>\n"
        "</table>\n"
        '<p class="note">Top-1 in %, α = 0.05.</p>\n'
        f'<p class="note">{DAGGER} Laptop scale.</p>\n'
        '<ol class="note" type="a"><li>20 epochs; 32 px</li></ol>\n'
        '<ol class="note" type="1"><li>a_b README: FT 100 ep</li></ol>\n'
    )


def test_markdown_has_one_line_of_headings():
    assert markdown(TABLE).splitlines()[2] == (
        "| method | image size | fine-tuning, epochs 10 for 300 | fine-tuning, epochs 20 for 600 | "
        "fine-tuning, epochs 20 for 600, published | fine-tuning, epochs 20 for 600, difference | "
        "kNN, epochs 20 for 600 |"
    )


def test_csv_by_hand():
    rows = list(csv.DictReader(io.StringIO(comma_separated(TABLE))))
    assert rows[0] == {
        "scale": "laptop", "method": "mixmae", "method_run": "mixmae", "image_size": "224", "image_size_run": "32",
        "finetune_300_mean": "84.5", "finetune_300_std": "0.25", "finetune_300_n": "2", "finetune_300_best": "False",
        "finetune_600_mean": "86.0", "finetune_600_std": "0.5", "finetune_600_n": "3", "finetune_600_best": "True",
        "finetune_600_published": "85.1", "finetune_600_source": "a_b README: FT 100 ep",
        "finetune_600_difference": "0.9", "finetune_600_differs": "20 epochs; 32 px",
        "knn_600_mean": "", "knn_600_std": "", "knn_600_n": "0", "knn_600_best": "False",
    }  # fmt: skip
    assert (rows[1]["method"], rows[1]["image_size"], rows[1]["knn_600_mean"]) == ("raw pixels", "", "95.0")


def test_footnotes_are_numbered_and_lettered_in_the_order_of_reference():
    cells = [Cell(TOP1, 1, 80.0, None, PUBLISHED, (f"{place} epochs",)) for place in range(28)]
    rows = tuple(Row((Label("ratio", 0.5),), (cell,)) for cell in [*cells, cells[0]])
    _, body, notes = Table("t", "", None, ("ratio",), (Figures(FINETUNED),), rows, ("General.",)).text()
    assert [line[1].split(" ")[-1] for line in body[:2]] == ["[a]", "[b]"]
    assert [line[1].split(" ")[-1] for line in body[25:]] == ["[z]", "[aa]", "[ab]", "[a]"]
    assert notes[:3] == ["General.", "[a] 0 epochs", "[b] 1 epochs"] and notes[-2:] == [
        "[ab] 27 epochs",
        "[1] a_b README: FT 100 ep",
    ]


# ---------------------------------------------------------------------------------------------------- names as they are


def named(name: str) -> Table:
    """A table whose title, row and note hold the name."""
    row = Row((Label("weights", name),), (Cell(TOP1, 1, 80.0, None),))
    return Table("named", name, None, ("weights",), (Figures(FINETUNED),), (row,), (name,))


class _Texts(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.texts = set(), []

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.texts += [value for name, value in attributes if name == "data-sort"]

    def handle_data(self, data):
        self.texts.append(data)


ANY = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1).filter(lambda name: name != "-")


@given(ANY.filter(lambda name: name not in ("weights", "fine-tuning")))  # headings of the table
def test_html_holds_any_name_as_text(name):
    parser = _Texts()
    parser.feed(html(named(name)))
    assert parser.tags == {"table", "caption", "thead", "tbody", "tr", "th", "td", "p"}
    assert parser.texts.count(name) == 4


@given(ANY)
def test_markdown_has_as_many_cells_whatever_the_name(name):
    lines = markdown(named(name)).split("\n")
    assert len(lines) == 8
    assert [len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in lines[2:5]] == [3, 3, 3]


@given(ANY)
def test_latex_has_balanced_braces_and_no_bare_special_character(name):
    text = latex(named(name))
    bare = re.sub(r"\\[\\%&_#${}]", "", text.removeprefix("% \\usepackage{booktabs}\n"))
    assert not set('#_~^|<>"`') & set(bare.replace("}~", ""))
    assert bare.count("{") == bare.count("}") and "%" not in bare


@pytest.mark.parametrize("form", [markdown, latex, html])
@pytest.mark.parametrize("name", ["a\nb", "a\r\nb", "a\x1b\x00b", "a\u2028b"])
def test_no_name_ends_a_line(form, name):
    assert form(named(name)).count("\n") == form(named("a b")).count("\n")
    assert "a b" in form(named(name)) and not re.search(r"[\x00-\x09\x0b-\x1f\u2028]", form(named(name)))


def test_markup_in_a_name_is_shown():
    assert r"| \*a\* \<b> \`c\` \_d\_ e_f \|g \\ \~h \[i](j) \&k; |" in markdown(
        named(r"*a* <b> `c` _d_ e_f |g \ ~h [i](j) &k;")
    )
    assert "[x]{*}" not in latex(named("[x]*")) and "\n{[}x{]}{*} & " in latex(named("[x]*"))
