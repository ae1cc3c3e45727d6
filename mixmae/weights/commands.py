"""The `mixmae weights` commands. Imports no torch until a command needs it."""

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from mixmae.fields.console import AsJson, print_json
from mixmae.weights.kinds import kinds

_OUT = "FILE.safetensors, of mmdet-keys FILE.pth, of hf a folder; default: named after RUN, here."

weights_app = typer.Typer(no_args_is_help=True, help="Official weights in, weights for other programs out.")


@weights_app.command("import")
def weights_import(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An official checkpoint or state dict.")],
    kind: Annotated[str, typer.Option("--as", metavar="KIND", help=f"What it is: {', '.join(kinds())}.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The weights file to write.")],
    config: Annotated[Path | None, typer.Option(help="YAML of what the official constructor took.")] = None,
    encoder_only: Annotated[bool, typer.Option(help="Leave decoder or head behind.")] = False,
) -> None:
    """Turn an official checkpoint into a weights file of ours, every tensor accounted for. Executes nothing in it."""
    from mixmae.weights.importing import import_file, summary

    _log_to_stderr()
    imported = import_file(file, kind, out, config, encoder_only)
    print(*summary(imported), out, sep="\n")


@weights_app.command("export")
def weights_export(
    context: typer.Context,
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="The beginning of a run's id, or a weights file.")],
    to: Annotated[str, typer.Option(metavar="FORMAT", help="safetensors, timm, hf or mmdet-keys.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help=_OUT)] = None,
    encoder_only: Annotated[bool, typer.Option(help="Leave decoder or head behind.")] = False,
) -> None:
    """Write a finished run's weights in a form that others read, with a model card."""
    from mixmae.runs.find import find_run
    from mixmae.weights.export import default_out, export
    from mixmae.weights.opened import open_file, open_run

    _log_to_stderr()
    path = Path(run_id)
    if out and path.is_file() and out.resolve() == path.resolve():
        raise ValueError(f"{out}: the file that is read; write another file's path")
    opened = open_file(path) if path.is_file() else open_run(find_run(context.obj, run_id))
    name = path.stem if path.is_file() else str(opened.facts.run)
    print(*export(opened, to, out or default_out(name, to), encoder_only).paths, sep="\n")


@weights_app.command("inspect")
def weights_inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Any weights file or checkpoint.")],
    as_json: AsJson = False,
) -> None:
    """Say what a weights file is. Executes nothing in it."""
    from mixmae.weights.inspection import inspect, lines

    report = inspect(file)
    if as_json:
        print_json(**report)
    else:
        print(*lines(report), sep="\n")


@weights_app.command("published")
def weights_published(as_json: AsJson = False) -> None:
    """List the published checkpoints: where they are, how to import and evaluate them, what they should score."""
    from mixmae.weights.published import checkpoints, lines

    if as_json:
        print_json(checkpoints=checkpoints())
    else:
        print(*lines(), sep="\n")


def _log_to_stderr() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
