"""The published numbers, to stand beside ours: `published.csv`, a row a number with its source (no torch)."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import pandas as pd

from mixmae.config import MaeConfig, MixmaeConfig, SimmimConfig

_METHODS = {"mixmae": "MixMAE", "simmim": "SimMIM", "mae": "MAE", "supervised": "supervised"}
_TASKS = {"finetune": "finetune", "linear": "linear_probe", "knn": "knn"}

_ENCODERS = {
    ("mixmae", "swin_base_w14"): ("Swin-B/W14", "Swin-B/W16"),
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

_AS_PUBLISHED = {"mixmae": MixmaeConfig(), "simmim": SimmimConfig(mask_unit=32), "mae": MaeConfig()}
_FIELDS = (
    "ratio", "images", "fill", "dual", "masked_attention", "normalised_target", "decoder_depth", "decoder_width",
    "mask_unit",
)  # fmt: skip


@dataclass(frozen=True)
class Published:
    """A published top-1 in percent, the setting it was measured in and where it was read."""

    value: float
    setting: str
    source: str


@cache
def published_results() -> pd.DataFrame:
    """The whole file: method, encoder, pretrain_epochs, resolution, task, dataset, metric, value, setting, source, …"""
    with files("results").joinpath("published.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file)


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
    table = _comparable()
    found = table[
        (table["method"] == _METHODS[row["method"]])
        & table["encoder"].isin(names)
        & (table["task"] == ("supervised" if supervised else _TASKS[row["stage"]]))
        & (table["pretrain_epochs"] == epochs)
        & (table["resolution"].map("{:g}".format) == row["image_size"])
    ]
    if found.empty:
        return None
    first = found.iloc[0]
    setting = "" if pd.isna(first["setting"]) else first["setting"]
    return Published(float(first["value"]), setting, first["source"])


@cache
def _comparable() -> pd.DataFrame:
    table = published_results()
    first_hand = table["source_kind"].isin(["official_repo", "paper_text_seen"]) & (table["confidence"] == "high")
    ablation = table["setting"].fillna("").str.contains("ablation|sweep")
    return table[first_hand & ~ablation & (table["metric"] == "top1") & (table["dataset"] == "ImageNet-1K")]


def _at_published_settings(row: Mapping[str, Any]) -> bool:
    subsets = ("labels_per_class", "fraction", "pretrain_labels_per_class", "pretrain_fraction")
    if any(not pd.isna(row[name]) for name in subsets):
        return False
    config = _AS_PUBLISHED.get(row["method"])
    return config is None or all(row[name] == getattr(config, name) for name in _FIELDS if hasattr(config, name))
