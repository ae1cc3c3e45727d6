"""Figures of every encoder as bars (no torch, no matplotlib)."""

from typing import Literal

from mixmae.presentation.plots import EvaluationPlot, PlotSpec


class BarsPlot(EvaluationPlot):
    """Figures of every encoder: a group of bars an encoder, a bar a method, a panel an evaluation."""

    kind: Literal["bars"] = "bars"


class Bars(PlotSpec):
    name, label, order = "bars", "figures of every encoder", 3
    config = BarsPlot
    draw = "results.plots.bars.draw:draw"


SPEC = Bars()
