"""The command `mixmae weights evaluate`. Imports no torch until it runs."""

from pathlib import Path
from typing import Annotated

import typer

from mixmae.fields.console import print_json


def evaluate_weights(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A classifier's weights file.")],
    data: Annotated[Path, typer.Option(help="Folder of images: DIR/train/CLASS/… and DIR/val/CLASS/….")],
    eval_crop: Annotated[
        float, typer.Option(min=0.01, max=1, help="Central crop's share of the image's side.")
    ] = 0.875,
    batch: Annotated[int, typer.Option(min=1, help="Images at once.")] = 64,
    workers: Annotated[int, typer.Option(min=0, help="Data loading processes.")] = 0,
) -> None:
    """Measure a classifier's accuracy on the val images of a folder; prints JSON."""
    from mixmae.data.sources import folder_of_images
    from mixmae.evaluations.stored import evaluate

    print_json(**evaluate(file, folder_of_images(data), eval_crop, batch, workers))
