"""The `mixmae data` commands. Imports no torch until a command needs it."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mixmae.fields.console import AsJson, print_json

data_app = typer.Typer(no_args_is_help=True, help="Look at data sets.")


@data_app.callback()
def _data() -> None:
    """Makes it a group of commands, though there is one."""


@data_app.command("check")
def data_check(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of images: DIR/train/CLASS/… and DIR/val/….")],
    as_json: AsJson = False,
) -> None:
    """Read every image of a folder and say what is there and what cannot be read."""
    from mixmae.data.image_folder.check import check, lines
    from mixmae.data.sources import folder_of_images

    config: Any = folder_of_images(folder)
    report = check(config)
    if as_json:
        print_json(**report)
    else:
        print(*lines(report), sep="\n")
    raise typer.Exit(int(not report["trainable"]))
