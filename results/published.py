"""The published numbers, to stand beside ours: `published.csv`, a row a number with its source (no torch)."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import pandas as pd

from mixmae.data.sources import sources
from mixmae.experiment.metric import Metric
from mixmae.experiment.stages import stages
from mixmae.methods.methods import methods
from mixmae.presentation.columns import SCORED, shown
from mixmae.presentation.declaration import Declaration, PublishedRow
from mixmae.presentation.row import Flat
from mixmae.presentation.shown import Shown

_FIRST_HAND = ("official_repo", "paper_text_seen")
_EVALUATION_EPOCHS = re.compile(r"(?:^|FT |retrain; )(\d+) ep(?! \()")
"""How a setting says how long was fine-tuned, probed or trained from scratch; "(B)" would be of one encoder."""
_SUBSETS = {
    "labels_per_class": "{:g} labels a class",
    "fraction": "{:g} of the labels",
    "pretrain.subset.labels_per_class": "pretrained on {:g} images a class",
    "pretrain.subset.fraction": "pretrained on {:g} of the images",
}
"""Columns that hold nothing where all training images are used, and how their values are said."""


@dataclass(frozen=True)
class Published:
    """A published figure, the setting it was measured in and where it was read. Encoder, epochs of pretraining ("0":
    none, None: not said), side of the images in pixels and data set are as they are named there; `epochs` are the
    evaluation's own, None where the setting does not say them."""

    value: float
    setting: str
    source: str
    encoder: str
    pretrain_epochs: str | None
    epochs: int | None
    resolution: int | None
    dataset: str
    first_hand: bool
    ours: tuple[str, str] = ("", "")
    """What this project calls its method and encoder; "" where it has none."""

    def cited(self) -> str:
        """Its source and setting, for a footnote."""
        source = self.source if self.first_hand else f"{self.source} (not its authors)"
        return f"{source}: {self.setting}" if self.setting else source


@cache
def published_results() -> pd.DataFrame:
    """The whole file: method, encoder, pretrain_epochs, resolution, task, dataset, metric, value, setting, source, …"""
    with files("results").joinpath("published.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file)


# -------------------------------------------------------------------------------------------------- of a run's settings


def published_for(run: Shown, metric: str) -> Published | None:
    """The published figure of what `run` is declared to do: same method at its published settings, encoder, evaluation,
    data set, pretraining epochs and image size, all training images. None where there is none.

    Only the authors' repositories and papers count, ablations apart; the first in the file is taken.
    """
    row = run.declared
    spec = methods.get(run.method)
    if spec is None or any(run.value(column) is not None for column in _SUBSETS):
        return None
    if any(row.get(f"method.{name}") != value for name, value in spec.published().items()):
        return None
    return _first_of(
        (run.method, run.value("encoder"), run.key[0], _dataset(row), metric),
        str(row["pretrain.epochs"]) if spec.pretrains else "0",
        str(row["image_size"]),
    )


@cache
def _first_of(whose: tuple[str, str, str, str, str], epochs: str, size: str) -> Published | None:
    """whose: method, encoder, stage, data set and metric."""
    table = _of_authors()
    for column, wanted in zip(("our_method", "our_encoder", "our_stage", "dataset", "metric"), whose, strict=True):
        table = table[table[column] == wanted]
    rows = table[(table["pretrain_epochs"] == epochs) & (table["resolution"].map("{:g}".format) == size)]
    return None if rows.empty else _published(rows.iloc[0])


def differences(run: Shown, published: Published) -> tuple[str, ...]:
    """The epochs, resolution, data, encoder and labels in which `run`, as it was run, differs from where the number was
    published, in words. Epochs of an evaluation count only where they were published."""
    row, spec = run.ran, stages[run.key[0]]
    epochs = row.get("pretrain.epochs")
    trained = row.get("evaluation.epochs") or "no"
    evaluation = "training" if row["start"] == "scratch" else spec.activity or spec.label
    pairs = [
        ("0" if epochs is None else str(epochs), published.pretrain_epochs, " epochs of pretraining"),
        (trained if published.epochs else None, published.epochs, f" epochs of {evaluation}"),
        (shown("image_size", row["image_size"]), published.resolution and str(published.resolution), " px"),
        (_dataset(row), published.dataset, ""),
    ]
    differ = [f"{ours}{unit}, published {theirs or 'not said'}" for ours, theirs, unit in pairs if ours != theirs]
    if (run.was("method"), run.was("encoder")) != published.ours:
        differ.append(f"{run.was('encoder')}, published {published.encoder}")
    if tuning := run.was("data.tuning"):
        differ.append(f"{1 - tuning:g} of the training images, published all")
    if run.was(SCORED) not in (None, "val"):
        differ.append(f"scored on {run.was(SCORED)} images, published val")
    subsets = [text.format(run.was(name)) for name, text in _SUBSETS.items() if run.was(name) is not None]
    return (*differ, *(f"{text}, published all" for text in subsets))


def comparable(run: Shown, published: Published) -> bool:
    """Whether the run's figure is of the data set that the number was published on: else their difference means
    nothing."""
    return _dataset(run.declared) == published.dataset and run.value(SCORED) in (None, "val")


def taken_for(runs: Iterable[Shown]) -> list[tuple[str, str]]:
    """The data sets of runs whose images are taken to be those of a published one: (ours, theirs)."""
    names = dict.fromkeys(run.ran["data.name"] for run in runs)
    return [(name, spec.published_as) for name in names if (spec := sources.get(name)) and spec.published_as != name]


def published_epochs() -> list[int]:
    """Every length of pretraining that something was published at."""
    epochs = pd.to_numeric(published_results()["pretrain_epochs"], errors="coerce").dropna()
    return sorted({int(number) for number in epochs if number > 0})


def _dataset(row: Flat) -> str:
    """What published.csv calls the data of a row."""
    spec = sources.get(row["data.name"])
    fields = {name.removeprefix("data."): value for name, value in row.items() if name.startswith("data.")}
    return spec.published_name(fields) if spec else row["data.name"]


@cache
def _of_authors() -> pd.DataFrame:
    table = published_results()
    first_hand = table["source_kind"].isin(_FIRST_HAND) & (table["confidence"] == "high")
    ablation = table["setting"].fillna("").str.contains("ablation|sweep")
    return table[first_hand & ~ablation]


def _published(row: pd.Series) -> Published:
    given = row.where(row.notna(), None)
    length = _EVALUATION_EPOCHS.search(given["setting"] or "")
    return Published(
        value=float(row["value"]),
        setting=given["setting"] or "",
        source=row["source"],
        encoder=row["encoder"],
        pretrain_epochs=given["pretrain_epochs"],
        epochs=int(length[1]) if length else None,
        resolution=given["resolution"] and int(given["resolution"]),
        dataset=row["dataset"],
        first_hand=row["source_kind"] in _FIRST_HAND,
        ours=(given["our_method"] or "", given["our_encoder"] or ""),
    )


# --------------------------------------------------------------------------------------------------------- by its words


def named_by(named: PublishedRow, value: float, metric: Metric) -> Published:
    """The published number that a grid names by its words. Where several sources say the same, the first-hand ones come
    first, then the order of the file.

    Raises ValueError where published.csv has no such number, where it was not seen with high confidence, or where the
    words fit several numbers of one source.
    """
    table = published_results()
    rows = table[table["metric"] == metric.name]
    for column, wanted in named:
        rows = rows[rows[column] == wanted]
    words = ", ".join(f"{column} {wanted}" for column, wanted in named)
    if rows.empty:
        raise ValueError(
            f"published.csv has no {metric.short} of {words}; write the words it has, or leave `published` out"
        )
    there = ", ".join(f"{number:g}" for number in dict.fromkeys(rows["value"]))
    rows = rows[rows["value"] == value]
    if rows.empty:
        raise ValueError(f"published.csv has {there} of {words}, not {value:g}; write a number it has")
    rows = rows[rows["confidence"] == "high"]
    if rows.empty:
        raise ValueError(f"{value:g} of {words} was not seen with high confidence; leave `published` out")
    if rows["source"].duplicated().any():
        raise ValueError(f"{value:g} of {words} is the number of several settings of one source; leave `published` out")
    first_hand = rows["source_kind"].isin(_FIRST_HAND)
    return _published(pd.concat([rows[first_hand], rows[~first_hand]]).iloc[0])


def unverified(declaration: Declaration) -> list[str]:
    """What is wrong with the published numbers that a grid's expectations name; nothing where published.csv has all as
    they are named."""
    problems = []
    for entry in declaration.expected:
        if entry.published is not None:
            try:
                named_by(entry.published, entry.mean, declaration.select(entry.stage).metric)
            except ValueError as error:
                problems.append(str(error))
    return problems
