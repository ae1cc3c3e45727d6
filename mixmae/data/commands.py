"""The `mixmae data` commands. Imports no torch until a command needs it."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mixmae.data.torchvision_sets.sets import SETS
from mixmae.fields.console import AsJson, print_json

data_app = typer.Typer(no_args_is_help=True, help="Fetch data sets and look at them.")


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


@data_app.command("fetch")
def data_fetch(
    dataset: Annotated[
        str, typer.Argument(metavar="DATASET", help=f"A set as torchvision calls it: {', '.join(SETS)}.")
    ],
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="The folder to fill; write it as `path` of the data in a grid.")
    ],
    originals: Annotated[
        Path | None,
        typer.Option("--from", metavar="FOLDER", help="Take the authors' files from here and download nothing."),
    ] = None,
) -> None:
    """Fill a folder with a set of torchvision's, downloaded or from files that you have.

    Files are checked by md5 or sha256, unpacked and read once; DIR holds the set when it is whole, not before.

    Nothing else downloads: grids and runs use what lies there.

    Debian has FashionMNIST in its package dataset-fashion-mnist: --from /usr/share/datasets/fashion-mnist.
    """
    from mixmae.data.torchvision_sets.fetch import fetch

    fetch(dataset, folder, originals, say=print)
