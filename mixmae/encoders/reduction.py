"""Spatial reduction of keys, which PVT and Twins share (no torch)."""

from typing import Any, Literal, Self

from mixmae.encoders.families import Hierarchical
from mixmae.fields.model import Ints


class Reducing(Hierarchical):
    """A hierarchical encoder that attends to spatially reduced keys."""

    sr_ratios: Literal["unit"] | Ints = "unit"
    """Side in tokens of the square that one reduced key stands for, for each stage. "unit": a reduced key is a unit."""

    @property
    def by_stage(self) -> dict[str, tuple[int, ...]]:
        return super().by_stage | ({"sr_ratios": self.sr_ratios} if isinstance(self.sr_ratios, tuple) else {})

    @property
    def attends(self) -> dict[str, Any]:
        return {"sr_ratios": self.sr_ratios}

    def with_ratios(self) -> Self:
        """Returns the config with "unit" replaced by numbers."""
        if self.sr_ratios != "unit":
            return self
        ratios = tuple(2 ** (self.stages - 1 - stage) for stage in range(self.stages))
        return self.model_copy(update={"sr_ratios": ratios})
