"""A grid file, and how it expands into experiments: the union of its sweeps over one base (no torch)."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from ablations.grid.expansion import _trees, _with_set
from ablations.grid.scale import made_of, scale_names, shrunk
from ablations.grid.trials import Trials
from ablations.slurm.resources import GridSlurm
from mixmae.experiment.experiment import Experiment
from mixmae.experiment.reading import load_base, reference_of
from mixmae.fields.documents import ConfigError, Mark, Value, load, mark_of, validated
from mixmae.fields.model import Model, Positive
from mixmae.fields.nearest import instead
from mixmae.presentation.declaration import Expected, TableSpec
from mixmae.presentation.plots import PlotConfig, PlotModel
from mixmae.training.resources import Resources

MOST_ERRORS = 20
"""Lines of errors shown at once."""


class GridResources(Resources):
    """How and where the grid runs; never part of an id."""

    executor: Literal["local", "slurm"] = "local"
    """Where, unless the command says it."""
    slots: Positive = 1
    """Jobs at once on this machine."""
    slurm: GridSlurm = GridSlurm()
    """What jobs ask of a cluster."""

    def of_jobs(self) -> Resources:
        """What each job needs to know of them."""
        return Resources(**{name: getattr(self, name) for name in Resources.model_fields})


class Sweep(Model):
    """A block of cases: `product`, `zip`, `list` and `trials` crossed with one another. Names are dotted paths."""

    name: str
    """By which tables and plots choose it."""
    set: dict[str, Any] = Field({})
    """Laid over the base in this sweep only."""
    exclude: tuple[dict[str, Any], ...] = Field((), strict=False)
    """Cases that match every value of an entry are dropped."""
    product: dict[str, list[Any]] = Field({})
    """Every combination of these."""
    zip: dict[str, list[Any]] = Field({})
    """Lists of one length, walked together."""
    list: tuple[dict[str, Any], ...] = Field((), strict=False)
    """Cases written out."""
    trials: Trials | None = None
    """Cases drawn by a quasi-random sequence."""


class AtScale(Model):
    """What a grid does otherwise at a scale."""

    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(strict=False)] = ()
    """Each case once for each of these; default: as the sweeps say."""


class GridFile(Model):
    """A grid as a user writes it."""

    title: str = ""
    """Heading of its report and tables."""
    base: str
    """A recipe's name, or a path from this file's folder."""
    set: dict[str, Any] = Field({})
    """Laid over the base in every sweep."""
    sweeps: Annotated[tuple[Sweep, ...], Field(strict=False, min_length=1)]
    """Its blocks of cases; equal experiments of several run once."""
    resources: GridResources = GridResources()
    """How and where jobs run; never part of an id."""
    tables: Annotated[tuple[TableSpec, ...], Field(strict=False)] = ()
    """Tables to write."""
    plots: Annotated[tuple[PlotConfig, ...], Field(strict=False)] = ()
    """Figures to draw."""
    expected: Annotated[tuple[Expected, ...], Field(strict=False)] = ()
    """What its runs should reach, for `mixmae results check`."""
    scales: dict[str, AtScale] = Field({})
    """By the name of a scale."""


@dataclass(frozen=True)
class Case:
    """One experiment of a sweep, and where its values were written."""

    sweep: str
    experiment: Experiment
    document: Value
    full: Experiment | None = None
    """The experiment as the grid declares it, where a scale has made another of it."""
    reference: Experiment | None = None
    """The experiment with the method in whose epochs the budget of its pretraining is said, where that is another."""
    resources: Resources = Resources()
    """What each process that runs it has."""


@dataclass(frozen=True)
class Grid:
    name: str
    """The file's stem, and the scale where there is one."""
    spec: GridFile
    cases: tuple[Case, ...]
    document: Value
    """The file, and where its parts were written."""
    scale: str | None = None


def shipped() -> dict[str, Path]:
    """The grids that come with this package, by the names that can stand for their files."""
    folder = Path(str(resources.files("ablations")))
    paths = (*folder.glob("*.yaml"), *folder.glob("paper/*.yaml"))
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(paths)}


def grid_path(named: Path) -> Path:
    """The file that is meant: a path, or the name of a grid that comes with this package, such as paper/methods. Raises
    ConfigError where it is neither."""
    if named.exists():
        return named
    own = shipped()
    if named.as_posix() not in own:
        what = instead(named.with_suffix("").as_posix(), own, "write the path of a YAML file;")
        raise ConfigError([f"{named}: no such file; {what} mixmae grid list shows the grids that come with mixmae"])
    return own[named.as_posix()]


def read_grid(path: Path, scale: str | None = None) -> Grid:
    """The grid in the file at `path`, expanded, at a scale where one is named. Raises ConfigError for all that is wrong
    in it."""
    document = load(path)
    spec = validated(GridFile, document)
    _check_names(spec, document)
    base = _with_set(load_base(document.data["base"], (path.resolve(),)), document)
    cases: list[Case] = []
    lines: dict[str, None] = {}
    for sweep in document.data["sweeps"].data:
        for tree, other in _trees(base, sweep):
            try:
                experiment, own = validated(Experiment, tree), spec.resources.of_jobs()
                reference = None if other is None else reference_of(other, tree)
                case = Case(sweep.data["name"].data, experiment, tree, reference=reference, resources=own)
                cases += _at_scale(case, scale, spec, sweep.mark) if scale else [case]
            except ConfigError as error:
                lines |= dict.fromkeys(error.lines)
    if lines:
        more = [f"and {len(lines) - MOST_ERRORS} more errors"] if len(lines) > MOST_ERRORS else []
        raise ConfigError([*list(lines)[:MOST_ERRORS], *more])
    name = f"{path.stem}-{scale}" if scale else path.stem
    return Grid(name, spec, tuple(cases), document, scale)


def _at_scale(case: Case, scale: str, spec: GridFile, sweep: Mark) -> Iterator[Case]:
    """The case as `scale` makes it, once for each seed that the grid names for that scale. sweep: where its sweep is
    written, since the values of a case may be a recipe's."""
    seeds = spec.scales[scale].seeds if scale in spec.scales else ()
    recipe: Any = case.experiment.pretrain
    if recipe is not None and recipe.budget is not None and recipe.budget.is_absolute:
        path = ("pretrain", "budget")
        what = f"is of the full scale, and means nothing at the scale {scale}; write epochs_of: …"
        raise mark_of(case.document, path).error(what, path)
    for seed in seeds or (case.experiment.seed,):
        full = case.experiment.model_copy(update={"seed": seed})
        try:
            reference = case.reference and shrunk(case.reference.model_copy(update={"seed": seed}), scale)
            small = shrunk(full, scale)
            yield replace(case, experiment=small, full=full, reference=reference)
        except ValidationError as error:
            what = "; ".join(_what(item, full, scale) for item in error.errors())
            raise sweep.error(f"not possible at the scale {scale}: {what}", (case.sweep,)) from None


def _what(error: Any, full: Experiment, scale: str) -> str:
    """What is wrong with what a scale made of `full`, after what it was made of."""
    context = error.get("ctx", {})
    field = (*error["loc"], *context.get("path", ()))[-1:]
    made = made_of(full, scale, *field) if field else []
    return "; ".join([*made, context.get("what", error["msg"])])


def _check_names(spec: GridFile, document: Value) -> None:
    for scale in spec.scales:
        if scale not in scale_names():
            path = ("scales", scale)
            raise mark_of(document, path).error(f"no such scale; {instead(scale, scale_names())}", path)
    sweeps = [sweep.name for sweep in spec.sweeps]
    blocks: dict[str, tuple[Sweep | TableSpec | PlotModel, ...]]
    blocks = {"sweeps": spec.sweeps, "tables": spec.tables, "plots": spec.plots}
    for block, entries in blocks.items():
        seen: set[str] = set()
        for number, entry in enumerate(entries):
            if entry.name in seen:
                at: tuple[str | int, ...] = (block, number, "name")
                raise mark_of(document, at).error(f"{entry.name!r} is taken; write a name of its own", at)
            seen.add(entry.name)
            for (field, place), named in _sweeps_of(entry):
                if named not in sweeps:
                    at = (block, number, field, place)
                    raise mark_of(document, at).error(f"no sweep {named!r}; {instead(named, sweeps)}", at)


def _sweeps_of(entry: Sweep | TableSpec | PlotModel) -> Iterator[tuple[tuple[str, int], str]]:
    """Yields where an entry names sweeps, and which."""
    fields = {} if isinstance(entry, Sweep) else {"sweeps": entry.sweeps}
    if isinstance(entry, TableSpec):
        fields |= {"lengths": entry.lengths, "twins": entry.twins}
    for field, names in fields.items():
        yield from (((field, place), name) for place, name in enumerate(names))
