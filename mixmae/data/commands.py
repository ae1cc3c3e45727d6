"""The `mixmae data` commands. Imports no torch until a command needs it."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mixmae.data.torchvision_sets.sets import SETS, missing
from mixmae.fields.console import AsJson, print_json

data_app = typer.Typer(no_args_is_help=True, help="Fetch data sets and look at them.")


@data_app.command("check")
def data_check(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of images: DIR/train/CLASS/… and DIR/val/….")],
    as_json: AsJson = False,
) -> None:
    """Read every image of a folder and say what is there and what cannot be read.

    A folder that `mixmae data fetch` has filled is read as torchvision reads it.
    """
    from mixmae.data.image_folder.check import check, lines
    from mixmae.data.sources import SPLITS, folder_of_images

    sets = [name for name in SETS if not missing(name, folder)]
    if sets and not any((folder / split).is_dir() for split in SPLITS):
        raise typer.Exit(_check_sets(sets, folder, as_json))
    config: Any = folder_of_images(folder)
    report = check(config)
    if as_json:
        print_json(**report)
    else:
        print(*lines(report), sep="\n")
    raise typer.Exit(int(not report["trainable"]))


def _check_sets(sets: list[str], folder: Path, as_json: bool) -> int:
    """Says what sets of torchvision's are in a folder and how configs name them; 1 where one cannot be trained on."""
    from mixmae.data.torchvision_sets.fetch import check_set

    lines: list[str] = []
    problems: list[str] = []
    for dataset in sets:
        try:
            lines += check_set(dataset, folder)
        except ValueError as error:
            problems.append(str(error))
    if as_json:
        print_json(path=str(folder), trainable=not problems, problems=problems, sets=sets)
    else:
        print(*lines, *(f"problem: {problem}" for problem in problems), sep="\n")
    return int(bool(problems))


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
