"""What a trained method makes of images: what its encoder is shown of them, and what it reconstructs.

Reconstructions keep the units that the encoder was shown. torch is imported inside the functions.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mixmae.methods.methods import methods
from results.gallery.inputs import Images, Source

if TYPE_CHECKING:
    from torch import Tensor

HIDDEN = -1
GREY, WHITE = 0.5, 1.0
"""What hidden units are shown as: replaced by something, and absent."""
GIVEN_BACK = "*: hidden units are given the true unit's mean and contrast, which a normalised target leaves out"


@dataclass(frozen=True)
class Column:
    """pictures: (rows, H, W, 3) in 0 … 1. shown: (rows, n, m) ints on the grid of the mask, of which image the encoder
    was shown the pixels: 0 the row's own, 1 … those mixed with it, HIDDEN of none; None where no mask applies. note:
    for the caption."""

    title: str
    pictures: np.ndarray
    shown: np.ndarray | None = None
    note: str = ""


@dataclass(frozen=True)
class Group:
    """The columns of one source under its label; originals are a group without one. mixed: how many images."""

    label: str
    columns: tuple[Column, ...]
    mixed: int = 1


def reconstructions(sources: Sequence[Source], images: Images, seed: int) -> list[Group]:
    """The same images through every source, each at its own size; the originals come before the first source, and again
    where the size changes. Masks, and noise for hidden units, are drawn by (seed, "gallery").

    Row i shows image i; where k images are mixed, i is mixed with the k - 1 after it (after the last comes the first).
    """
    import torch

    from mixmae.data.transforms import evaluation_transform

    groups, size = [], None
    for source, label in zip(sources, _labels(sources), strict=True):
        transform = evaluation_transform(source.description.image_size, 1.0)
        batch = torch.stack([transform(picture) for picture in images.pictures])
        if source.description.image_size != size:
            size = source.description.image_size
            groups.append(Group("", (Column("original", _pictures(batch[: images.rows])),)))
        columns = (_mixed if source.mixed > 1 else _masked)(source, batch, images.rows, seed)
        groups.append(Group(label, tuple(columns), source.mixed))
    return groups


def _labels(sources: Sequence[Source]) -> list[str]:
    """The labels of the sources, with the name too where several have one label."""
    count = Counter(source.label for source in sources)
    return [source.label if count[source.label] == 1 else f"{source.label} · {source.name}" for source in sources]


# ----------------------------------------------------------------------------------------------------------- methods


def _mixed(source: Source, images: "Tensor", rows: int, seed: int) -> list[Column]:
    """The columns of a method that mixes images: the mix and what is reconstructed, of two images for both, of more for
    the row's own image alone."""
    from mixmae.methods.mixmae.model import members_of

    count = source.mixed
    shown_in_slot = (np.arange(rows) + np.arange(count)[:, None]) % len(images)
    chunk = np.empty(count * rows, dtype=np.int64)
    chunk[members_of(len(chunk), count)[:, :rows]] = shown_in_slot
    slots, prediction = _predicted(source, images[chunk], seed)
    slots = slots.expand(rows, -1, -1)
    decodings = prediction.unflatten(0, (-1, len(chunk)))[:, :rows]
    members = [images[index] for index in shown_in_slot]
    mix = members[0]
    for slot in range(1, count):
        mix = _laid_over(mix, members[slot], slots == slot)
    columns = [Column("mixed input" if count == 2 else f"mix of {count}", _pictures(mix), slots.numpy())]
    columns.append(_reconstruction("reconstruction", source, decodings[0], members[0], slots == 0, 0))
    if count == 2:
        columns.insert(0, Column("partner", _pictures(members[1])))
    if count == 2 and len(decodings) == 2:
        title = "partner's reconstruction"
        columns.append(_reconstruction(title, source, decodings[1], members[1], slots == 1, 1))
    return columns


def _masked(source: Source, images: "Tensor", rows: int, seed: int) -> list[Column]:
    """The columns of a method that masks: what is left of the image, and what is reconstructed from that."""
    own, method = images[:rows], source.description.method
    assert method is not None  # `open_source` refuses what has none
    mask, prediction = _predicted(source, own, seed)
    visible = (mask == 0).expand(rows, -1, -1)
    hidden = methods[method.name].hidden_as(method)
    shade = WHITE if hidden.left_out else GREY
    pixels = _pixels(visible, own).permute(0, 2, 3, 1).numpy()
    left = Column(hidden.title, np.where(pixels, _pictures(own), shade), _shown(visible, 0), hidden.note)
    return [left, _reconstruction("reconstruction", source, prediction, own, visible, 0)]


def _predicted(source: Source, chunk: "Tensor", seed: int) -> tuple["Tensor", "Tensor"]:
    """The mask, as the method draws it, and the method's prediction for the chunk."""
    import torch

    from mixmae.data.draws import generator, seed_everything

    model: Any = source.model
    mask = model.draw_mask(len(chunk), generator(seed, "gallery"))
    seed_everything(seed, "gallery")
    with torch.no_grad():
        return mask, model(chunk, mask).prediction


# ------------------------------------------------------------------------------------------------------------ pixels


def _reconstruction(
    title: str, source: Source, prediction: "Tensor", truth: "Tensor", visible: "Tensor", slot: int
) -> Column:
    """The prediction, with the true pixels where they were visible. visible: (rows, n, m) bool."""
    predicts_images = prediction.ndim == truth.ndim
    guess = prediction if predicts_images else _as_images(prediction, truth, source)
    title, note = (f"{title}*", GIVEN_BACK) if source.normalised else (title, "")
    return Column(title, _pictures(_laid_over(guess, truth, visible)), _shown(visible, slot), note)


def _as_images(prediction: "Tensor", truth: "Tensor", source: Source) -> "Tensor":
    """(rows, units, unit² * 3) -> (rows, 3, H, W). A normalised target's are given back the true unit's mean and
    unbiased variance, eps 1e-6."""
    from mixmae.methods.target import unit_pixels

    model: Any = source.model
    unit = model.encoder.unit
    if source.normalised:
        true = unit_pixels(truth, unit)
        prediction = prediction * (true.var(-1, keepdim=True) + 1e-6).sqrt() + true.mean(-1, keepdim=True)
    rows, _, height, width = truth.shape
    cut = prediction.reshape(rows, height // unit, width // unit, unit, unit, 3)
    return cut.permute(0, 5, 1, 3, 2, 4).reshape(truth.shape)


def _laid_over(images: "Tensor", others: "Tensor", cells: "Tensor") -> "Tensor":
    """The pixels of `others` where `cells` is true, else those of `images`."""
    import torch

    return torch.where(_pixels(cells, images), others, images)


def _pixels(cells: "Tensor", images: "Tensor") -> "Tensor":
    """(rows, n, m) on a grid over the images -> (rows, 1, H, W)."""
    (rows, columns), (height, width) = cells.shape[1:], images.shape[2:]
    return cells.repeat_interleave(height // rows, 1).repeat_interleave(width // columns, 2).unsqueeze(1)


def _shown(visible: "Tensor", slot: int) -> np.ndarray:
    return np.where(visible.numpy(), slot, HIDDEN)


def _pictures(images: "Tensor") -> np.ndarray:
    """(rows, 3, H, W) normalised -> (rows, H, W, 3) in 0 … 1."""
    from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

    pixels = images.permute(0, 2, 3, 1).numpy()
    return np.clip(pixels * np.array(IMAGENET_DEFAULT_STD) + np.array(IMAGENET_DEFAULT_MEAN), 0, 1)
