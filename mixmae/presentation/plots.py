"""Kinds of plots as grid files write them, and what a kind is to the rest of the program (no torch, no matplotlib)."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from pydantic import Field, model_validator

from mixmae.fields.choice import Chosen
from mixmae.fields.model import FieldPath, FileName, Model, impossible
from mixmae.fields.nearest import nearest
from mixmae.fields.specs import Specs

if TYPE_CHECKING:
    from mixmae.presentation.declaration import Declaration

ONCE_SHARED = ("x", "stages", "smoothing", "reference")
"""Fields that every kind had once, and that grid files may give to kinds for which they mean nothing."""


class PlotModel(Model):
    """One figure of a grid."""

    name: FileName
    """The file's stem."""
    title: str = ""
    """Its heading."""
    sweeps: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Names of the sweeps it shows; default: all of the grid."""
    kind: str
    """What is drawn."""

    @model_validator(mode="before")
    @classmethod
    def _without_others(cls, written: Any) -> Any:
        if not isinstance(written, Mapping):
            return written
        return {name: value for name, value in written.items() if name in cls.model_fields or name not in ONCE_SHARED}

    @property
    def selects(self) -> tuple[str, ...] | None:
        """The evaluations it shows, as a table's `stages`; None: it shows pretrainings."""
        return None

    @property
    def paths(self) -> Iterator[tuple[FieldPath, str]]:
        """Yields where in it columns are named, and which."""
        yield from ()


class EvaluationPlot(PlotModel):
    """One that shows figures of evaluations."""

    stages: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """A panel each: the name of an evaluation, or NAME.METRIC for another figure than its main one; default: all
    evaluations of its sweeps."""

    @property
    def selects(self) -> tuple[str, ...] | None:
        return self.stages


class PlotSpec(Protocol):
    """A kind of plot. What it does not say has the answer given here."""

    name: str
    label: str
    order: int = 1000
    config: type[PlotModel]
    draw: str
    """Dotted name of the function that draws: called with the runs, the plot, the declaration and the title, it returns
    a matplotlib figure."""
    reads_curves: bool = False
    """Whether it is made of metrics.jsonl, too."""

    def mistakes(self, plot: Any, declaration: "Declaration") -> Iterator[str]:
        """Yields what of a plot could never be shown, known before anything runs."""
        yield from ()


plot_kinds: Specs[PlotSpec] = Specs("plot kind", PlotSpec, "mixmae.plots", "results.plots")


def _with_kind(written: dict[str, Any]) -> dict[str, Any]:
    known = plot_kinds.names()
    kind = written.get("kind", known[0])
    if not isinstance(kind, str) or (kind not in known and ":" not in kind):
        alternatives = [repr(name) for name in known]
        expected = f"{', '.join(alternatives[:-1])} or {alternatives[-1]}"
        near = nearest(str(kind), known)
        what = f"expected {expected}, found the text {kind!r}" + (f"; did you mean {near}?" if near else "")
        raise impossible(("kind",), what)
    return {**written, "kind": kind}


PlotConfig = Annotated[PlotModel, Chosen(plot_kinds, "kind", _with_kind)]
"""A plot, by its kind; the first kind where it says none."""
