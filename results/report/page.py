"""The report's page: one HTML file that holds all it shows, and asks nothing of any network (no torch).

Jinja escapes every value; markup comes in only as what `results.tables.html`, `results.plots` and the galleries made.
The page's policy forbids every request, and every script but its own.
"""

import hashlib
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files

from jinja2 import Environment, StrictUndefined, Template

import mixmae
from results.report.facts import Listing

INSTALL = ("python3 -m venv .venv", ".venv/bin/pip install -c constraints.txt .", ". .venv/bin/activate")


@dataclass(frozen=True)
class ShownTable:
    """A declared table: its fragment of HTML, and as text to copy."""

    title: str
    html: str
    markdown: str
    latex: str


@dataclass(frozen=True)
class ShownFigure:
    title: str
    element: str
    """An `<svg>` or an `<img>` of a data URI."""


@dataclass(frozen=True)
class ShownGrid:
    """A grid's own part of the page; `states` counts its runs, `settings` names what they range over."""

    name: str
    title: str
    scale: str | None
    commands: tuple[str, ...]
    states: dict[str, int]
    settings: dict[str, str]
    tables: Sequence[ShownTable]
    plots: Sequence[ShownFigure]


@dataclass(frozen=True)
class Page:
    """All that the page shows; of several grids, what they share is here once."""

    grids: Sequence[ShownGrid]
    galleries: Sequence[ShownFigure]
    costs: Sequence[Listing]
    unfinished: Listing
    absent: Sequence[str]
    problems: Sequence[str]
    runs: Listing
    environments: Listing
    plug_ins: Listing
    data_sets: Listing
    commits: Sequence[str]
    """The commits that the runs were made with, where known."""

    @property
    def scales(self) -> list[str]:
        return list(dict.fromkeys(grid.scale for grid in self.grids if grid.scale))

    @property
    def commands(self) -> list[str]:
        """The commands that install the program, those that run the grids, and last those that show them."""
        runs = [command for grid in self.grids for command in grid.commands[:-1]]
        shows = [command for grid in self.grids for command in grid.commands[-1:]]
        return list(dict.fromkeys((*INSTALL, *runs, *shows)))


def render(page: Page) -> str:
    script = _asset("page.js")
    values = {field: getattr(page, field) for field in (*(field.name for field in fields(page)), "scales", "commands")}
    return _template().render(
        **values,
        version=mixmae.__version__,
        policy=_policy(script),
        style=_asset("page.css"),
        script_text=script,
    )


def _policy(script: str) -> str:
    """Styles stand in the attributes of SVG, so any is let in; a style can ask for nothing, since nothing may be."""
    digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allowed = f"script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:"
    return f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'"


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True)
    return environment.from_string(_asset("page.html"))


@cache
def _asset(name: str) -> str:
    return files("results.report").joinpath(name).read_text(encoding="utf-8")
