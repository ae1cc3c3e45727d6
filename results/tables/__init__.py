"""Tables of figures, mean ± std over seeds beside what was published: Markdown, CSV, LaTeX and HTML (no torch).

table: a table as figures. building: a grid's runs as a table. significance: what may be said of the best of a column.
comparing: rows against those that the grid says; single_models: what can be said of one seed. families: means over
families. controls: what was not pretrained, and whether pretraining pays; equal_time: what holds at other speeds.
layout: a table as text, with its footnotes. forms: the text in each form, and the files.
"""

from results.tables.building import build_table
from results.tables.forms import FORMS, comma_separated, html, latex, markdown, numeric, write_table, write_tables
from results.tables.table import Cell, Figures, Label, Row, Table, label_of

__all__ = [
    "FORMS", "Cell", "Figures", "Label", "Row", "Table", "build_table", "comma_separated", "html", "label_of", "latex",
    "markdown", "numeric", "write_table", "write_tables",
]  # fmt: skip
