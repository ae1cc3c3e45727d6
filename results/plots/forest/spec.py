"""How far every setting of a grid is from one of them (no torch, no matplotlib)."""

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field

from mixmae.presentation.declaration import Declaration
from mixmae.presentation.plots import EvaluationPlot, PlotSpec


class ForestPlot(EvaluationPlot):
    """Differences of every setting to one of them: a row a setting, a panel an evaluation."""

    kind: Literal["forest"] = "forest"
    reference: dict[str, Any] = Field({})
    """Columns and values of the setting that the others are compared with."""

    @property
    def paths(self) -> Iterator[tuple[tuple[str, ...], str]]:
        yield from ((("reference", column), column) for column in self.reference)


class Forest(PlotSpec):
    name, label, order = "forest", "differences to one setting", 4
    config = ForestPlot
    draw = "results.plots.forest.draw:draw"

    def mistakes(self, plot: ForestPlot, declaration: Declaration) -> Iterator[str]:
        """Yields that `reference` is not one setting."""
        from results.plots.forest.settings import reference_of, settings_of

        try:
            reference_of(settings_of(plot, declaration), plot)
        except ValueError as error:
            yield str(error)


SPEC = Forest()
