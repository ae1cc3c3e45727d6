"""Figures of evaluations against a column, or against what the pretraining cost (no torch, no matplotlib)."""

from collections.abc import Iterator
from typing import Literal

from mixmae.presentation.declaration import Declaration
from mixmae.presentation.plots import EvaluationPlot, PlotSpec

COSTS = ("pretrain_macs", "pretrain_hours", "pretrain_step_hours")
"""What a pretraining costs, as x: multiply-adds, measured hours of its processes, or hours of its steps by a record."""


class CurvePlot(EvaluationPlot):
    """Figures against a column: a line a method and encoder, a panel an evaluation."""

    kind: Literal["curve"] = "curve"
    x: str = "pretrain_epochs"
    """A column of numbers, or pretrain_macs (multiply-adds of the pretraining), pretrain_hours (measured hours of its
    processes, whatever else ran beside them) or pretrain_step_hours (hours of its steps, by the record that a budget of
    the grid names)."""

    @property
    def paths(self) -> Iterator[tuple[tuple[str, ...], str]]:
        if self.x not in COSTS:
            yield ("x",), self.x


class Curve(PlotSpec):
    name, label, order = "curve", "figures against a column", 1
    config = CurvePlot
    draw = "results.plots.curve.draw:draw"

    def mistakes(self, plot: CurvePlot, declaration: Declaration) -> Iterator[str]:
        """Yields that x holds what is no number, or is hours by a record that the grid does not name."""
        if plot.x == "pretrain_step_hours" and not declaration.hours:
            what = "no budget of this grid names a record that has the steps of its pretrainings"
            record = "measure them by mixmae bench grid FILE --output RECORD"
            budget = "give a case pretrain.budget: {hours: …, measured_on: RECORD}"
            yield f"plot {plot.name}: x: {what}; {record} and {budget}, or write x: pretrain_hours"
        if plot.x in COSTS:
            return
        values = [run.value(plot.x) for run in declaration.absent(plot.sweeps)]
        wrong = next((value for value in values if not isinstance(value, int | float | None)), None)
        if wrong is not None:
            yield f"plot {plot.name}: x: {plot.x} holds {wrong!r}, which is no number; write a column of numbers"


SPEC = Curve()
