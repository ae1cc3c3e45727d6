"""What a grid's results are shown as: the entries of a grid file that say so, and a grid as those see it who show its
results (no torch, no pandas)."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator, model_validator

from mixmae.experiment.metric import Metric
from mixmae.experiment.stages import evaluation_names, stages
from mixmae.fields.identity import Key, canonical
from mixmae.fields.model import FileName, Model, NotNegative, impossible
from mixmae.presentation.columns import BUDGET, value
from mixmae.presentation.columns import canonical as canonical_column
from mixmae.presentation.plots import PlotModel
from mixmae.presentation.row import Flat, stage_label
from mixmae.presentation.shown import Shown

Texts = Annotated[tuple[str, ...], Field(strict=False)]


def _listed(written: Any) -> Any:
    """One text for a list of one."""
    return (written,) if isinstance(written, str) else written


_TEXT = {"type": "string"}
Listed = Annotated[
    tuple[str, ...],
    Field(strict=False),
    BeforeValidator(_listed),
    WithJsonSchema({"anyOf": [_TEXT, {"type": "array", "items": _TEXT}]}),
]
"""Texts; one alone may be written without brackets."""


class Against(Model):
    """One setting and those that it is compared with."""

    of: Annotated[dict[str, Any], Field(min_length=1, max_length=1)]
    """A column and the value in it that is compared with the others, such as {method: mixmae}."""
    against: Annotated[tuple[Any, ...], Field(strict=False, min_length=1)]
    """The values of that column that it is compared with."""

    @property
    def column(self) -> str:
        return next(iter(self.of))

    @field_validator("of", mode="before")
    @classmethod
    def _one_column(cls, written: Any) -> Any:
        if isinstance(written, dict) and len(written) > 1:
            what = f"expected one column, found {' and '.join(map(str, written))}"
            raise impossible((), f"{what}; write one of them, and show sweeps in which the others do not vary")
        return written

    @model_validator(mode="after")
    def _two_settings(self) -> Self:
        if self.of[self.column] in self.against:
            what = f"compares {self.column} {self.of[self.column]} with itself; write other values"
            raise impossible(("against", self.against.index(self.of[self.column])), what)
        return self


class Primary(Against):
    """The comparison that a table decides, declared before its runs. All others in it are secondary."""

    evaluation: str
    """The evaluation whose figure decides, or NAME.METRIC; one that the table shows."""
    within: Listed = ()
    """The columns in which those that are compared agree, such as encoder."""


class Summary(Against):
    """A table over families: each seed's figure averaged over them. It decides nothing."""

    over: str = "encoder"
    """The column whose values are averaged over."""

    @model_validator(mode="after")
    def _families(self) -> Self:
        if canonical_column(self.over) in ("seed", canonical_column(self.column)):
            what = "seeds are averaged over in every table" if self.over == "seed" else "its values are compared"
            raise impossible(("over",), f"{what}; write a column that tells families apart, such as encoder")
        return self


class TableSpec(Model):
    """One table: figures as mean ± std over seeds, a row for each distinct value of `rows`."""

    name: FileName
    """The file's stem."""
    title: str = ""
    """Its caption."""
    sweeps: Texts = ()
    """Names of the sweeps it shows; default: all of the grid."""
    rows: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] = ("method", "encoder")
    """Columns that tell its rows apart: dotted paths, or short names of some. More are added where runs that differ in
    more than their seed would be averaged."""
    across: str | None = None
    """A column of figures for each value of this, too."""
    stages: Texts = ()
    """A column each: the name of an evaluation, or NAME.METRIC for another figure than its main one; default: all
    evaluations of its sweeps."""
    primary: Primary | None = None
    """What the table decides: only these differences are tested (Holm-corrected), all others stand with an interval.
    Without it the best of each column is tested against all others there."""
    reference: dict[str, Any] = Field({})
    """Columns and values of the one row that all others are compared with; nothing is decided."""
    within: Listed = ()
    """Columns in which a row and its `reference` agree, such as encoder: one reference for each of their values."""
    summary: Summary | None = None
    """Make a table of means over families in place of one of rows."""
    lengths: Texts = ()
    """Names of sweeps that have the same evaluations with several `epochs`, the table's own among them: a cell that
    twice its epochs would change by 0.5 points or more is marked; at full scale only."""
    twins: Texts = ()
    """Names of sweeps that have the same runs with several `perturb`: the deviation over them stands beside that over
    seeds."""
    note: str = ""
    """What a reader has to know of it, below it."""

    @property
    def asked(self) -> tuple[str, ...]:
        """The columns that are to tell its rows apart."""
        return (self.summary.column, self.summary.over) if self.summary else self.rows

    @model_validator(mode="after")
    def _one_comparison(self) -> Self:
        said = [name for name in ("primary", "reference", "summary") if getattr(self, name)]
        if said[1:]:
            what = f"{said[0]} says already what is compared; write only one of them"
            raise impossible((said[1],), what)
        if self.within and not self.reference:
            raise impossible(("within",), "goes with reference; write that too (primary has a within of its own)")
        if self.summary and self.across:
            raise impossible(("across",), "a summary has no columns across; leave it out")
        for name in ("lengths", "twins"):
            if self.summary and getattr(self, name):
                raise impossible((name,), "a summary's cells are means over several settings; leave it out")
        return self


class PublishedRow(Model):
    """Names one number of published.csv, by the words it has there."""

    method: str
    """Such as MixMAE."""
    encoder: str
    """Such as Swin-B/W14."""
    pretrain_epochs: str
    """As text, since some are lengths in iterations."""
    resolution: int
    """Side of the images in pixels."""
    task: str = "finetune"
    """Such as finetune or linear_probe."""


Percent = Annotated[float, Field(gt=0, le=100)]


class Expected(Model):
    """A mean that runs of a grid should reach, for `mixmae results check`."""

    where: dict[str, Any]
    """Which runs: those that have all these values, as the grid file says them."""
    stage: str = Field(default_factory=lambda: evaluation_names()[0])
    """The name of an evaluation, or NAME.METRIC."""
    top1: Percent | None = None
    """The mean in percent."""
    value: float | None = None
    """The mean, of a figure that is no share in percent; in place of top1."""
    tolerance: NotNegative = 0.3
    """How far the mean may lie from it."""
    published: PublishedRow | None = None
    """Where it was published, if it was: the mean is the value there."""
    scale: str | None = None
    """The scale whose runs are meant; default: those at full scale."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.top1 is None and self.value is None:
            raise impossible(("top1",), "missing field; write top1: …")
        if self.top1 is not None and self.value is not None:
            raise impossible(("value",), "top1 is given too; write only one of them")
        return self

    @property
    def mean(self) -> float:
        mean = self.value if self.top1 is None else self.top1
        assert mean is not None  # _one has seen to it
        return mean


@dataclass(frozen=True)
class Selected:
    """A figure of an evaluation, as `stages` names it."""

    text: str
    name: str
    kind: str
    metric: Metric

    @property
    def figure(self) -> tuple[str, str]:
        """Which figure of which evaluation it is, however that is written."""
        return self.name, self.metric.name

    @property
    def stage(self) -> str:
        """The evaluation as it is shown: by its kind where that is its name."""
        return stage_label(self.kind) if self.name == self.kind else self.name

    @property
    def label(self) -> str:
        """A heading, with the figure where that is said."""
        return f"{self.stage}, {self.metric.short}" if "." in self.text else self.stage


@dataclass(frozen=True)
class StepHours:
    """Hours that all steps of a pretraining take. source: by which record, and where that was measured."""

    hours: float
    source: str


@dataclass(frozen=True)
class Declaration:
    """A grid as it declares its runs and what they are shown as; nothing of how they are run.

    members: of each sweep its runs. planned: what is run. configs: all that each run computes, as of `computed_of`.
    cases: at a scale, and of each run that some case has a budget for, the sweep of every case that it stands for and
    the row as the grid file declares it. names: what the grid calls a run. swept: the columns that the grid sweeps, in
    the order written, and where. macs: multiply-adds of pretrainings for each image that they train on, once an epoch.
    hours: of the steps of pretrainings whose step a record has that a budget of the grid names.
    """

    name: str
    title: str = ""
    scale: str | None = None
    commands: tuple[str, ...] = ()
    """The commands that run it and show its results."""
    tables: tuple[TableSpec, ...] = ()
    plots: tuple[PlotModel, ...] = ()
    expected: tuple[Expected, ...] = ()
    members: dict[str, set[Key]] = field(default_factory=dict)
    planned: dict[Key, Flat] = field(default_factory=dict)
    configs: dict[Key, str] = field(default_factory=dict)
    cases: dict[Key, tuple[tuple[str, Flat], ...]] = field(default_factory=dict)
    names: dict[Key, tuple[str, ...]] = field(default_factory=dict)
    swept: dict[str, str] = field(default_factory=dict)
    macs: dict[Key, int] = field(default_factory=dict)
    hours: dict[Key, StepHours] = field(default_factory=dict)

    # -------------------------------------------------------------------------------------------------- evaluations

    @cached_property
    def evaluations(self) -> dict[str, str]:
        """The kinds of the evaluations, by the names that the grid gives them."""
        measured = {key: names for key, names in self.names.items() if (spec := stages.get(key[0])) and spec.measures}
        kinds = {name: key[0] for key, names in measured.items() for name in names}
        order = evaluation_names()
        return dict(sorted(kinds.items(), key=lambda entry: order.index(entry[1]) if entry[1] in order else len(order)))

    def selected(self, texts: Sequence[str] = (), sweeps: Collection[str] = ()) -> list[Selected]:
        """What `stages` names; nothing named is every evaluation of `sweeps`, which are all where it is empty. Raises
        ValueError."""
        own = [spec.name for spec in stages if spec.measures and not stages.is_plugged_in(spec.name)]
        measured = {name for key in self.ids(sweeps) for name in self.names.get(key, ())} if sweeps else None
        every = [name for name in self.evaluations if measured is None or name in measured] or own
        return [self.select(text) for text in texts or every]

    def select(self, text: str) -> Selected:
        name, _, wanted = text.partition(".")
        kind = self.evaluations.get(name, name)
        spec = stages.get(kind)
        if spec is None or not spec.measures:
            raise ValueError(f"no evaluation {name!r}")
        metric = spec.metric(wanted) if wanted else spec.main
        if metric is None:
            raise ValueError(f"{kind} measures no {wanted!r}")
        return Selected(text, name, kind, metric)

    # --------------------------------------------------------------------------------------------------------- runs

    def ids(self, sweeps: Collection[str] = ()) -> set[Key]:
        """The runs of `sweeps`, of all where it is empty. Raises ValueError for an unknown sweep."""
        for sweep in sweeps:
            if sweep not in self.members:
                raise ValueError(f"no sweep {sweep!r}; write one of {', '.join(sorted(self.members))}")
        return set().union(*(self.members[sweep] for sweep in sweeps or self.members))

    def called(self, key: Key) -> tuple[str, ...]:
        """The names of a run; of one that no plan names, its stage."""
        return self.names.get(key) or (key[0],)

    def absent(self, sweeps: Collection[str] = ()) -> list[Shown]:
        """The runs of `sweeps` as the plan knows them."""
        wanted = self.ids(sweeps)
        planned = [Shown(key, row, self.configs[key]) for key, row in self.planned.items() if key in wanted]
        return [shown for run in planned for shown in self.shown(run, sweeps)]

    def shown(self, run: Shown, sweeps: Collection[str] = (), as_run: bool = False) -> list[Shown]:
        """A run under each of its names; at a scale, or where it has a budget, once for every case of `sweeps` that it
        stands for, unless it is asked for as it was run."""
        cases, names = {run.config: run.ran}, self.called(run.key)
        if run.key in self.cases and not as_run:
            rows = [row for sweep, row in self.cases[run.key] if not sweeps or sweep in sweeps]
            as_it_is = self.scale is None
            cases = {
                run.config if as_it_is and not value(row, "budget") else _declared_too(run.config, row): row
                for row in rows
            }
        return [
            replace(run, ran=run.ran | _of_budget(case), name=name, names=names, declared=case, config=text)
            for text, case in cases.items()
            for name in names
        ]


def _of_budget(case: Flat) -> Flat:
    """What a case says of its budget, which its run does not know."""
    return {name: item for name, item in case.items() if name.startswith(BUDGET)}


def _declared_too(config: str, case: Flat) -> str:
    """What tells repetitions at a scale: what was computed, and what was declared of it."""
    return canonical({**json.loads(config), "declared": {**case, "seed": None}})
