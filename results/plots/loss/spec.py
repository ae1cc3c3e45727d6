"""Pretraining losses by epoch (no torch, no matplotlib)."""

from typing import Annotated, Literal

from pydantic import Field

from mixmae.presentation.plots import PlotModel, PlotSpec


class LossPlot(PlotModel):
    """Pretraining losses by epoch: a panel a method, since their losses have different units."""

    kind: Literal["loss"] = "loss"
    smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The weight of what came before in the running mean that is drawn over the pale raw line."""


class Loss(PlotSpec):
    name, label, order = "loss", "pretraining losses", 2
    config = LossPlot
    draw = "results.plots.loss.draw:draw"
    reads_curves = True


SPEC = Loss()
