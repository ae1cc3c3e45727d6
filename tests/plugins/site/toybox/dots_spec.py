"""Every run's figure as a dot (no torch, no matplotlib)."""

from typing import Literal

from mixmae.presentation.plots import EvaluationPlot, PlotSpec


class DotsPlot(EvaluationPlot):
    """A dot a run, a panel an evaluation."""

    kind: Literal["dots"] = "dots"


class Dots(PlotSpec):
    name, label = "dots", "a dot a run"
    config = DotsPlot
    draw = "toybox.dots:draw"


SPEC = Dots()
