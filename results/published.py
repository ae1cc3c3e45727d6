"""The published numbers, to stand beside ours: `published.csv`, a row a number with its source (no torch)."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import pandas as pd

from mixmae.methods.methods import methods
from mixmae.presentation.declaration import Expected, PublishedRow

IMAGENET = "ImageNet-1K"
"""What `image_folder` is taken to hold where published numbers stand beside it."""

_METHODS = {"mixmae": "MixMAE", "simmim": "SimMIM", "mae": "MAE", "supervised": "supervised"}
_TASKS = {"finetune": "finetune", "linear": "linear_probe", "knn": "knn"}
_EVALUATIONS = {"finetune": "fine-tuning", "linear": "linear probing", "knn": "kNN"}

_ENCODERS = {
    ("mixmae", "swin_base_w14"): ("Swin-B/W14", "Swin-B/W16", "MixMIM-B (=Swin-B/W14 without shift)"),
    ("mixmae", "swin_large_w14"): ("Swin-L/W14", "Swin-L/W16"),
    ("simmim", "swin_base_w7"): ("Swin-B/W6", "Swin-B/W7"),
    ("simmim", "vit_base_p16"): ("ViT-B/16",),
    ("mae", "vit_base_p16"): ("ViT-B/16",),
    ("mae", "vit_large_p16"): ("ViT-L/16",),
    ("supervised", "swin_tiny_w7"): ("Swin-T",),
    ("supervised", "swin_small_w7"): ("Swin-S",),
    ("supervised", "swin_base_w7"): ("Swin-B",),
    ("supervised", "twins_svt_small"): ("Twins-SVT-S",),
    ("supervised", "twins_svt_base"): ("Twins-SVT-B",),
    ("supervised", "twins_svt_large"): ("Twins-SVT-L",),
    ("supervised", "pvt_tiny"): ("PVT-T",),
    ("supervised", "pvt_small"): ("PVT-S",),
    ("supervised", "pvt_medium"): ("PVT-M",),
    ("supervised", "pvt_large"): ("PVT-L",),
    ("supervised", "vit_base_p16"): ("ViT-B",),
    ("supervised", "vit_large_p16"): ("ViT-L",),
}
"""Our names of a method and an encoder to the published ones; those of other window sizes differ by image size."""

_FIRST_HAND = ("official_repo", "paper_text_seen")
_EVALUATION_EPOCHS = re.compile(r"(?:^|FT |retrain; )(\d+) ep(?! \()")
"""How a setting says how long was fine-tuned, probed or trained from scratch; "(B)" would be of one encoder."""
_FIELDS = (
    "ratio", "images", "fill", "dual", "masked_attention", "normalised_target", "decoder_depth", "decoder_width",
    "mask_unit",
)  # fmt: skip
_SUBSETS = {
    "labels_per_class": "{:g} labels a class",
    "fraction": "{:g} of the labels",
    "pretrain_labels_per_class": "pretrained on {:g} images a class",
    "pretrain_fraction": "pretrained on {:g} of the images",
}
"""Columns that are missing where all training images are used, and how their values are said."""


@dataclass(frozen=True)
class Published:
    """A published top-1 in percent, the setting it was measured in and where it was read. Encoder, epochs of
    pretraining ("0": none, None: not said), side of the images in pixels and data set are as they are named there;
    `epochs` are the evaluation's own, None where the setting does not say them."""

    value: float
    setting: str
    source: str
    encoder: str
    pretrain_epochs: str | None
    epochs: int | None
    resolution: int | None
    dataset: str
    first_hand: bool

    def cited(self) -> str:
        """For a footnote."""
        source = self.source if self.first_hand else f"{self.source} (not its authors)"
        return f"{source}: {self.setting}" if self.setting else source


@cache
def published_results() -> pd.DataFrame:
    """The whole file: method, encoder, pretrain_epochs, resolution, task, dataset, metric, value, setting, source, …"""
    with files("results").joinpath("published.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file)


# -------------------------------------------------------------------------------------------------- of a run's settings


def published_for(row: Mapping[str, Any]) -> Published | None:
    """The published ImageNet-1K top-1 of what `row` (of a collected frame) does: same method at its published settings,
    encoder, pretraining epochs and image size, all training images. None where there is none.

    Only the authors' repositories and papers count, ablations apart; the first in the file is taken.
    """
    names = _ENCODERS.get((row["method"], row["encoder"]))
    if names is None or row["stage"] not in _TASKS or row["data"] != "image_folder" or not _at_published_settings(row):
        return None
    supervised = row["method"] == "supervised"
    epochs = "0" if supervised else str(row["pretrain_epochs"])
    table = _of_authors()
    found = table[
        (table["method"] == _METHODS[row["method"]])
        & table["encoder"].isin(names)
        & (table["task"] == ("supervised" if supervised else _TASKS[row["stage"]]))
        & (table["pretrain_epochs"] == epochs)
        & (table["resolution"].map("{:g}".format) == row["image_size"])
    ]
    return None if found.empty else _published(found.iloc[0])


def differences(row: Mapping[str, Any], published: Published) -> tuple[str, ...]:
    """In words, what of epochs, resolution, data, encoder and labels is another in `row`, as it was run, than where the
    number was published. Epochs of an evaluation count only where they were published."""
    epochs = "0" if pd.isna(row["pretrain_epochs"]) else str(row["pretrain_epochs"])
    evaluation = "training" if row["method"] == "supervised" else _EVALUATIONS[row["stage"]]
    pairs = [
        (epochs, published.pretrain_epochs, " epochs of pretraining"),
        (row["epochs"] if published.epochs else None, published.epochs, f" epochs of {evaluation}"),
        (row["image_size"], published.resolution and str(published.resolution), " px"),
        (_data(row), published.dataset, ""),
    ]
    found = [f"{ours}{unit}, published {theirs or 'not said'}" for ours, theirs, unit in pairs if ours != theirs]
    if published.encoder not in _ENCODERS.get((row["method"], row["encoder"]), ()):
        found.append(f"{row['encoder']}, published {published.encoder}")
    subsets = [text.format(row[name]) for name, text in _SUBSETS.items() if not pd.isna(row[name])]
    return (*found, *(f"{text}, published all" for text in subsets))


def comparable(row: Mapping[str, Any], published: Published) -> bool:
    """Whether the row's top-1 is of the data set that the number was published on: else their difference means
    nothing."""
    return _data(row) == published.dataset


def _data(row: Mapping[str, Any]) -> str:
    return IMAGENET if row["data"] == "image_folder" else row["data"]


@cache
def _of_authors() -> pd.DataFrame:
    table = published_results()
    first_hand = table["source_kind"].isin(_FIRST_HAND) & (table["confidence"] == "high")
    ablation = table["setting"].fillna("").str.contains("ablation|sweep")
    return table[first_hand & ~ablation & (table["metric"] == "top1") & (table["dataset"] == IMAGENET)]


def _at_published_settings(row: Mapping[str, Any]) -> bool:
    if any(not pd.isna(row[name]) for name in _SUBSETS):
        return False
    spec = methods.get(row["method"])
    config = spec and spec.published()
    return config is None or all(row[name] == getattr(config, name) for name in _FIELDS if hasattr(config, name))


def _published(row: pd.Series) -> Published:
    said = row.where(row.notna(), None)
    length = _EVALUATION_EPOCHS.search(said["setting"] or "")
    return Published(
        value=float(row["value"]),
        setting=said["setting"] or "",
        source=row["source"],
        encoder=row["encoder"],
        pretrain_epochs=said["pretrain_epochs"],
        epochs=int(length[1]) if length else None,
        resolution=said["resolution"] and int(said["resolution"]),
        dataset=row["dataset"],
        first_hand=row["source_kind"] in _FIRST_HAND,
    )


# --------------------------------------------------------------------------------------------------------- by its words


def named(asked: PublishedRow, top1: float) -> Published:
    """The published number that a grid names by its words. Where several sources say the same, the first-hand ones come
    first, then the order of the file.

    Raises ValueError where published.csv has no such number, where it was not seen with high confidence, or where the
    words fit several numbers of one source.
    """
    table = published_results()
    found = table[table["metric"] == "top1"]
    for column, wanted in asked:
        found = found[found[column] == wanted]
    words = ", ".join(f"{column} {wanted}" for column, wanted in asked)
    if found.empty:
        raise ValueError(f"published.csv has no top-1 of {words}; write the words it has, or leave `published` out")
    there = ", ".join(f"{value:g}" for value in dict.fromkeys(found["value"]))
    found = found[found["value"] == top1]
    if found.empty:
        raise ValueError(f"published.csv has {there} of {words}, not {top1:g}; write a number it has")
    found = found[found["confidence"] == "high"]
    if found.empty:
        raise ValueError(f"{top1:g} of {words} was not seen with high confidence; leave `published` out")
    if found["source"].duplicated().any():
        raise ValueError(f"{top1:g} of {words} is the number of several settings of one source; leave `published` out")
    first_hand = found["source_kind"].isin(_FIRST_HAND)
    return _published(pd.concat([found[first_hand], found[~first_hand]]).iloc[0])


def unverified(expected: Iterable[Expected]) -> list[str]:
    """What is wrong with the published numbers that a grid's expectations name; nothing where published.csv has all as
    they are named."""
    problems = []
    for entry in expected:
        if entry.published is not None:
            try:
                named(entry.published, entry.top1)
            except ValueError as error:
                problems.append(str(error))
    return problems
