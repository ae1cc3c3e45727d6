"""How well a classifier from a file does on a data set's validation images."""

from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track

from mixmae.data.batches import Samples, evaluation_keys, load_batches, open_split
from mixmae.data.sources import DataModel
from mixmae.data.transforms import evaluation_transform
from mixmae.evaluations.accuracy import scores
from mixmae.training.session import computation
from mixmae.weights import stored


@torch.no_grad()
def evaluate(path: Path, data: DataModel, eval_crop: float, batch: int, workers: int) -> dict:
    """{"top1", "top5" (percent), "loss", "images", "image_size"} of the val split, at the size the weights are for.

    eval_crop: side of the central crop as a share of the resized image. Raises ValueError where the file is no
    classifier, or one of another number of classes.
    """
    model: Any
    model, description = stored.load(path)
    if description.classes is None:
        raise ValueError(f"{path}: an {description.part}, not a classifier; fine-tune it (mixmae run)")
    split = open_split(data, "val")
    if description.classes != len(split.classes):
        raise ValueError(f"{path}: a classifier of {description.classes} classes; the data have {len(split.classes)}")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    samples = Samples(split, evaluation_transform(description.image_size, eval_crop), seed=0)
    keys = list(evaluation_keys(list(range(len(split))), batch))
    logits, labels = [], []
    progress = Console(stderr=True)
    for images, targets in track(
        load_batches(samples, keys, workers),
        "evaluating",
        len(keys),
        console=progress,
        disable=not progress.is_terminal,
    ):
        with computation(device, "auto"):
            logits.append(model.to(device).logits(images.to(device)).float().cpu())
        labels.append(targets)
    found = scores(torch.cat(logits), torch.cat(labels))
    rest = {"loss": found["val_loss"], "images": len(split), "image_size": list(description.image_size)}
    return {"top1": found["top1"], "top5": found["top5"], **rest}
