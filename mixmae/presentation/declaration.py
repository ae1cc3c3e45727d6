"""What a grid's results are shown as: the entries of a grid file that say so, and a grid as those see it who show its
results (no torch)."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from mixmae.fields.identity import Key
from mixmae.fields.model import FileName, Model, NotNegative

Column = Literal[
    "method", "encoder", "pretrain_epochs", "ratio", "images", "fill", "dual", "masked_attention", "mix_embedding",
    "normalised_target", "decoder_depth", "decoder_width", "labels_per_class", "fraction", "image_size", "data",
    "weights",
]  # fmt: skip


Evaluated = Literal["finetune", "linear", "knn"]


class TableSpec(Model):
    """One table: top-1 as mean ± std over seeds, a row for each distinct value of `rows`."""

    name: FileName
    """The file's stem."""
    title: str = ""
    sweeps: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Names of the sweeps it shows; default: all of the grid."""
    rows: Annotated[tuple[Column, ...], Field(strict=False, min_length=1)] = ("method", "encoder")
    across: Column | None = None
    """A column of figures for each value of this, too."""
    stages: Annotated[tuple[Evaluated, ...], Field(strict=False, min_length=1)] = ("finetune", "linear", "knn")
    """One column each."""
    note: str = ""
    """What a reader has to know of it, below it."""


class PlotSpec(Model):
    """One figure. `curve` draws top-1 against a column, a line a method and encoder; `loss` the pretraining losses;
    `bars` top-1 of every encoder, a bar a method; `forest` the difference of every setting to `reference`."""

    name: FileName
    title: str = ""
    sweeps: Annotated[tuple[str, ...], Field(strict=False)] = ()
    kind: Literal["curve", "loss", "bars", "forest"] = "curve"
    x: Literal[
        "pretrain_epochs", "ratio", "labels_per_class", "images", "decoder_depth", "decoder_width", "pretrain_macs",
        "pretrain_hours",
    ] = "pretrain_epochs"  # fmt: skip
    """Of a curve. pretrain_macs: multiply-adds of the pretraining; pretrain_hours: measured hours of its processes."""
    stages: Annotated[tuple[Evaluated, ...], Field(strict=False, min_length=1)] = ("finetune", "linear", "knn")
    """One panel each."""
    smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Of losses: the weight of what came before in the running mean that is drawn over the pale raw line."""
    reference: dict[Column, Any] = Field({})
    """Of a forest: the values of the setting that the others are compared with."""


class PublishedRow(Model):
    """Names one number of published.csv, by the words it has there."""

    method: str
    encoder: str
    pretrain_epochs: str
    resolution: int
    task: str = "finetune"


class Expected(Model):
    """A top-1 that runs of a grid should reach, for `mixmae results check`."""

    where: dict[Column, Any]
    """Which runs: those that have all these values, as the grid file says them."""
    stage: Evaluated = "finetune"
    top1: Annotated[float, Field(gt=0, le=100)]
    """In percent."""
    tolerance: NotNegative = 0.3
    """In points: how far the mean may lie from it."""
    published: PublishedRow | None = None
    """Where it was published, if it was: top1 is the value there."""
    scale: str | None = None
    """Of the runs at this scale only; default: of those at full scale."""


@dataclass(frozen=True)
class Declaration:
    """A grid as it declares its runs and what they are shown as; nothing of how they are run.

    members: of each sweep its runs. full: of each run, the values of `Column` that the grid file declares, one mapping
    for each case it belongs to; at a scale other than the full one these are not what was run,
    which is `planned`. macs: multiply-adds of
    pretrainings for each image that they train on, once an epoch.
    """

    name: str
    title: str = ""
    scale: str | None = None
    commands: tuple[str, ...] = ()
    """That run it and show its results."""
    tables: tuple[TableSpec, ...] = ()
    plots: tuple[PlotSpec, ...] = ()
    expected: tuple[Expected, ...] = ()
    members: dict[str, set[Key]] = field(default_factory=dict)
    full: dict[Key, tuple[dict[str, Any], ...]] = field(default_factory=dict)
    planned: dict[Key, dict[str, Any]] = field(default_factory=dict)
    macs: dict[Key, int] = field(default_factory=dict)
