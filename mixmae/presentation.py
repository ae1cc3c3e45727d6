"""What a grid's results are shown as: the table and plot entries of a grid file (no torch)."""

from typing import Annotated, Literal

from pydantic import Field

from mixmae.fields import Model

Column = Literal[
    "method", "encoder", "pretrain_epochs", "ratio", "images", "fill", "dual", "masked_attention", "mix_embedding",
    "normalised_target", "decoder_depth", "decoder_width", "labels_per_class", "fraction", "image_size", "data",
    "weights",
]  # fmt: skip
Evaluated = Literal["finetune", "linear", "knn"]


class TableSpec(Model):
    """One table: top-1 as mean ± std over seeds, a row for each distinct value of `rows`."""

    name: str
    """The file's stem."""
    title: str = ""
    sweeps: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Names of the sweeps it shows; default: all of the grid."""
    rows: Annotated[tuple[Column, ...], Field(strict=False, min_length=1)] = ("method", "encoder")
    stages: Annotated[tuple[Evaluated, ...], Field(strict=False, min_length=1)] = ("finetune", "linear", "knn")
    """One column each."""


class PlotSpec(Model):
    """One figure: `curve` draws top-1 against a column, a line a method and encoder; `loss` the pretraining losses."""

    name: str
    title: str = ""
    sweeps: Annotated[tuple[str, ...], Field(strict=False)] = ()
    kind: Literal["curve", "loss"] = "curve"
    x: Literal["pretrain_epochs", "ratio", "labels_per_class", "images", "decoder_depth"] = "pretrain_epochs"
    stages: Annotated[tuple[Evaluated, ...], Field(strict=False, min_length=1)] = ("finetune", "linear", "knn")
    """One panel each."""
