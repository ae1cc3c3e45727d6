"""Quasi-random trials of a sweep: settings that fill a box of values evenly (no torch).

As in AlgoPerf's external tuning (Dahl et al. 2023, section 4.3), every method is given as many trials of the same
quasi-random sequence over a box that was stated before.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Self

from pydantic import Field, model_validator

from mixmae.fields.model import Model, Positive, impossible

OUTER = 0.1
"""Share of a range, at either end, in which a best value says that the range was too narrow."""
DIGITS = 3
"""Significant ones of a drawn value: what differs by less is no other setting."""


class Draw(Model):
    """The range in which the values of a path lie."""

    least: float
    """The lower end."""
    most: float
    """The upper end."""
    log: bool = False
    """Whether equal factors are equally likely, in place of equal steps."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.most <= self.least:
            raise impossible(("most",), f"{self.most:g} is not above least: {self.least:g}; write a larger number")
        if self.log and self.least <= 0:
            raise impossible(("least",), f"{self.least:g} has no logarithm; write a number above 0, or log: false")
        return self

    def is_outer(self, value: float) -> bool:
        """Returns whether a value lies in the outer tenth of the range, to either side."""
        low, high, here = self.least, self.most, value
        if self.log:
            low, high, here = math.log(low), math.log(high), math.log(here)
        return not OUTER <= (here - low) / (high - low) <= 1 - OUTER

    def at(self, share: float) -> float:
        """Returns the value at that share, in [0, 1), of the way."""
        if self.log:
            value = self.least * (self.most / self.least) ** share
        else:
            value = self.least + share * (self.most - self.least)
        return float(f"{value:.{DIGITS}g}")


class Trials(Model):
    """Settings drawn together, the same in every case: points of Halton's sequence (scipy's, not scrambled), which need
    no seed."""

    count: Positive
    """How many."""
    skip: Annotated[int, Field(ge=0)] = 0
    """Points that come before the first: those that an earlier sweep has tried."""
    draw: Annotated[dict[str, Draw], Field(min_length=1)]
    """The range of each dotted path."""


def drawn(trials: Trials) -> Iterator[Mapping[str, float]]:
    """Yields the settings, a value for each path."""
    from scipy.stats import qmc

    sequence = qmc.Halton(len(trials.draw), scramble=False)
    sequence.fast_forward(1 + trials.skip)  # its first point is the corner of the box
    for point in sequence.random(trials.count):
        shares = zip(trials.draw.items(), point.tolist(), strict=True)
        yield {path: draw.at(share) for (path, draw), share in shares}
