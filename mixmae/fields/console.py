"""What commands print (no torch)."""

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]


def print_json(**document: Any) -> None:
    """Prints one JSON document, with the schema's number, on standard output."""
    print(json.dumps({"schema": 1, **document}, indent=1, ensure_ascii=False))


def show(table: Table) -> None:
    """Prints a table, as wide as the terminal, or 200 columns where there is none."""
    console = Console()
    console.width = console.width if console.is_terminal else 200
    console.print(table)
