"""Figures of evaluations against a column, or against what the pretraining cost (no torch, no matplotlib)."""

from collections.abc import Iterator
from typing import Literal

from mixmae.presentation.declaration import Declaration
from mixmae.presentation.plots import EvaluationPlot, PlotSpec

COSTS = ("pretrain_macs", "pretrain_hours")
"""What a pretraining costs, as x: multiply-adds, or measured hours of its processes."""


class CurvePlot(EvaluationPlot):
    """Figures against a column: a line a method and encoder, a panel an evaluation."""

    kind: Literal["curve"] = "curve"
    x: str = "pretrain_epochs"
    """A column of numbers, or pretrain_macs (multiply-adds of the pretraining) or pretrain_hours (measured hours of its
    processes)."""

    @property
    def paths(self) -> Iterator[tuple[tuple[str, ...], str]]:
        if self.x not in COSTS:
            yield ("x",), self.x


class Curve(PlotSpec):
    name, label, order = "curve", "figures against a column", 1
    config = CurvePlot
    draw = "results.plots.curve.draw:draw"

    def mistakes(self, plot: CurvePlot, declaration: Declaration) -> Iterator[str]:
        """Yields that x holds what is no number."""
        if plot.x in COSTS:
            return
        values = [run.value(plot.x) for run in declaration.absent(plot.sweeps)]
        wrong = next((value for value in values if not isinstance(value, int | float | None)), None)
        if wrong is not None:
            yield f"plot {plot.name}: x: {plot.x} holds {wrong!r}, which is no number; write a column of numbers"


SPEC = Curve()
