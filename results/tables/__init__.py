"""Tables of figures, mean ± std over seeds beside what was published: Markdown, CSV, LaTeX and HTML (no torch).

building: a grid's runs as a table of figures. significance: what may be said of the best of a column. layout: a table
as text, with its footnotes. forms: the text in each form, and the files.
"""

from results.tables.building import Cell, Figures, Label, Row, Table, build_table, label_of
from results.tables.forms import FORMS, comma_separated, html, latex, markdown, numeric, write_table, write_tables

__all__ = [
    "FORMS", "Cell", "Figures", "Label", "Row", "Table", "build_table", "comma_separated", "html", "label_of", "latex",
    "markdown", "numeric", "write_table", "write_tables",
]  # fmt: skip
