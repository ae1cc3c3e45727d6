"""MixMAE at a glance: two images, their mix, and both restored from it, for a finished pretraining.

The only part of the results that runs a model: torch is imported inside the functions.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mixmae import names
from mixmae.config import MixmaeConfig
from mixmae.jobs import STAGE_JOB, PretrainJob
from mixmae.runs import RunFolder

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROWS = 4
TITLES = ("image A", "image B", "mix", "A restored", "B restored")
COLOURS = {"A": "#0173b2", "B": "#de8f05"}
OUTLINED = "outlined: the units that the encoder was shown, blue of A, orange of B"
GIVEN_BACK = "restored units are given the true unit's mean and contrast, which a normalised target leaves out"
SIDE = 1.5
"""Inches an image takes."""


@dataclass(frozen=True)
class Restored:
    """Images as (rows, H, W, 3) in 0 … 1; `shows_b`: (G, G) bool on the unit grid, True where the mix shows B."""

    a: np.ndarray
    b: np.ndarray
    mix: np.ndarray
    a_restored: np.ndarray
    b_restored: np.ndarray
    shows_b: np.ndarray
    unit: int


def write_gallery(root: Path, pretrain_id: str, folder: Path) -> list[Path]:
    """Draws ENCODER.png and ENCODER.pdf, named after the pretraining's encoder, into `folder`; returns their paths.

    Raises ValueError where there is no such finished pretraining, or where it does not restore two mixed images.
    """
    from results.plots import save

    run = RunFolder(root, "pretrain", pretrain_id)
    job = _finished_job(run)
    title = f"MixMAE · {job.encoder.name} · {job.recipe.epochs} epochs · validation images"
    caption = OUTLINED + (f"\n{GIVEN_BACK}" if job.method.normalised_target else "")
    return save(draw(restore(run, job), title, caption), job.encoder.name, folder)


def _finished_job(run: RunFolder) -> PretrainJob:
    config, name = run.read("config"), f"pretrain/{run.id}"
    if config is None:
        raise ValueError(f"no run {name}; write the id of a finished mixmae pretraining")
    job = STAGE_JOB.validate_python(config["job"])
    method = job.method
    if not isinstance(method, MixmaeConfig) or method.images != 2 or method.fill != "image" or not method.dual:
        raise ValueError(f"{name} does not restore two mixed images; write the id of a mixmae pretraining that does")
    if not run.weights.exists():
        raise ValueError(f"{name} has no final weights; finish it first, or write the id of a finished pretraining")
    run.check(run.weights)
    return job


# ---------------------------------------------------------------------------------------------------------- restoring


def restore(run: RunFolder, job: PretrainJob) -> Restored:
    """Mixes a chunk of validation images by reversal (the partner of i is C-1-i) and restores both of every mix."""
    import torch
    from safetensors.torch import load_file

    from mixmae.data.draws import generator
    from mixmae.models import build_encoder, build_method

    method = build_method(job.method, build_encoder(job.encoder, job.image_size))
    method.load_state_dict(load_file(run.weights))
    method.eval()
    images = _validation_images(job, 2 * ROWS)
    with torch.no_grad():
        output = method(images, method.draw_mask(len(images), generator(job.seed, "gallery")))
    unit = method.encoder.unit
    return compose(images.numpy(), output.prediction.numpy(), output.mask.numpy(), unit, job.method.normalised_target)


def compose(images: np.ndarray, prediction: np.ndarray, shows_b: np.ndarray, unit: int, normalised: bool) -> Restored:
    """What is shown of a chunk of C normalised images (C, 3, H, W) and its prediction (2C, units, unit² * 3), of which
    row i restores image i and row C + i restores image C-1-i. Visible units are kept, hidden ones predicted."""
    count = len(images)
    own = _units(images, unit)
    partner = own[::-1]
    hidden = shows_b.reshape(1, -1, 1)
    decoded_own, decoded_partner = prediction[:count], prediction[count:]
    if normalised:
        decoded_own, decoded_partner = _denormalised(decoded_own, own), _denormalised(decoded_partner, partner)
    parts = {
        "a": own,
        "b": partner,
        "mix": np.where(hidden, partner, own),
        "a_restored": np.where(hidden, decoded_own, own),
        "b_restored": np.where(hidden, partner, decoded_partner),
    }
    shown = {name: _pictures(units[: count // 2], shows_b.shape, unit) for name, units in parts.items()}
    return Restored(**shown, shows_b=shows_b, unit=unit)


def _validation_images(job: PretrainJob, wanted: int):
    """An even number of validation images, of as many classes as there are: (C, 3, H, W) normalised."""
    import torch

    from mixmae.data.transforms import evaluation_transform

    dataset = names.resolve(names.DATASETS[job.data.name])(job.data, "val")
    count = min(wanted, len(dataset.labels) // 2 * 2)
    if count == 0:
        raise ValueError("fewer than two validation images; a mix needs two")
    transform = evaluation_transform(job.image_size, 1.0)
    labels = pd.Series(dataset.labels)
    by_turns = np.lexsort((labels, labels.groupby(labels).cumcount()))
    return torch.stack([transform(dataset.image(int(index))) for index in by_turns[:count]])


def _units(images: np.ndarray, unit: int) -> np.ndarray:
    """(C, 3, H, W) -> (C, units, unit² * 3): units row-major, a unit's pixels (row, column, channel)."""
    count, channels, height, width = images.shape
    cut = images.reshape(count, channels, height // unit, unit, width // unit, unit)
    return cut.transpose(0, 2, 4, 3, 5, 1).reshape(count, -1, unit * unit * channels)


def _pictures(units: np.ndarray, grid: tuple[int, int], unit: int) -> np.ndarray:
    """The inverse of `_units`, as pictures (C, H, W, 3) in 0 … 1."""
    from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

    rows, columns = grid
    cut = units.reshape(len(units), rows, columns, unit, unit, 3).transpose(0, 1, 3, 2, 4, 5)
    pixels = cut.reshape(len(units), rows * unit, columns * unit, 3)
    return np.clip(pixels * np.array(IMAGENET_DEFAULT_STD) + np.array(IMAGENET_DEFAULT_MEAN), 0, 1)


def _denormalised(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Undoes the target's normalisation with the true mean and unbiased variance of each unit, eps 1e-6."""
    mean = truth.mean(-1, keepdims=True)
    variance = truth.var(-1, keepdims=True, ddof=1)
    return prediction * np.sqrt(variance + 1e-6) + mean


# ------------------------------------------------------------------------------------------------------------ drawing


def draw(restored: Restored, title: str, caption: str) -> "Figure":
    """A row a pair, a column a picture; a coloured outline marks the units that the encoder was shown."""
    from matplotlib.figure import Figure

    columns = (restored.a, restored.b, restored.mix, restored.a_restored, restored.b_restored)
    outlines = ("", "", "AB", "A", "B")
    count = len(restored.a)
    aspect = restored.a.shape[1] / restored.a.shape[2]
    figure = Figure(figsize=(SIDE * len(columns), SIDE * aspect * count + 0.8), layout="constrained")
    axes = figure.subplots(count, len(columns), squeeze=False)
    for column, (pictures, sources) in enumerate(zip(columns, outlines, strict=True)):
        for row in range(count):
            ax = axes[row][column]
            ax.imshow(pictures[row], interpolation="nearest")
            _outline_units(ax, restored, sources)
            ax.set_axis_off()
        axes[0][column].set_title(TITLES[column], fontsize=10)
    figure.suptitle(title, fontsize=11)
    figure.supxlabel(caption, fontsize=9)
    return figure


def _outline_units(ax: "Axes", restored: Restored, sources: str) -> None:
    """The unit grid in thin grey, and the units shown of `sources` in their colours."""
    from matplotlib.patches import Rectangle

    unit = restored.unit
    for (row, column), is_b in np.ndenumerate(restored.shows_b):
        corner = (column * unit - 0.5, row * unit - 0.5)
        ax.add_patch(Rectangle(corner, unit, unit, fill=False, edgecolor="0.6", linewidth=0.3))
        source = "B" if is_b else "A"
        if source in sources:
            inset = unit * 0.03
            inner = (corner[0] + inset, corner[1] + inset)
            side = unit - 2 * inset
            ax.add_patch(Rectangle(inner, side, side, fill=False, edgecolor=COLOURS[source], linewidth=1.1))
