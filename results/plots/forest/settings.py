"""The settings of a grid, and which of them the others are compared with (no torch, no matplotlib)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from mixmae.fields.identity import Key
from mixmae.presentation.columns import ALIASES, named, own, shown
from mixmae.presentation.declaration import Declaration
from mixmae.presentation.shown import Shown, separating
from results.plots.forest.spec import ForestPlot


@dataclass
class PlottedSetting:
    """Runs that differ in their seed only. columns: in which settings differ. case: one of the runs as the grid
    declares it. run: one as it was run, which differs at a scale. keys: all of them."""

    columns: tuple[str, ...]
    case: Shown
    run: Shown
    keys: set[Key] = field(default_factory=set)

    def differs(self, other: "PlottedSetting") -> list[str]:
        """The columns in which it is declared otherwise."""
        return [column for column in self.columns if self.case.value(column) != other.case.value(column)]

    def part(self, column: str) -> str:
        """A value as it was run, with what it is a value of."""
        return named(column, shown(column, self.run.was(column)))

    def name(self, reference: "PlottedSetting", brief: bool) -> str:
        """The values in which it differs from the reference; brief: where the method differs, without its fields."""
        differ = self.differs(reference)
        if brief and "method" in differ:
            differ = [column for column in differ if not _of_method(column)]
        return " · ".join(self.part(column) for column in differ if self.case.value(column) is not None)


def _of_method(column: str) -> bool:
    return (ALIASES[column].path if column in ALIASES else column).startswith("method.")


def settings_of(plot: ForestPlot, declaration: Declaration, started: Sequence[Shown] = ()) -> list[PlottedSetting]:
    """The settings in the order in which the sweeps declare them. What an evaluation has of its own tells settings
    apart only where it varies among its runs: an experiment is one setting in all.

    started: runs that have a folder. Raises MixedCell where no column tells two of them apart.
    """
    names = {evaluation.name for evaluation in declaration.selected(plot.stages, plot.sweeps)}
    cases = [run for run in declaration.absent(plot.sweeps) if run.name in names]
    columns = separating(cases, ("method", "encoder"), ("name",), tuple(declaration.swept))
    alike = {name: {column for column in columns if own(column) and _values(cases, name, column) < 2} for name in names}
    ran = {(run.key, run.name): run for run in started}
    settings: dict[tuple, PlottedSetting] = {}
    for case in cases:
        values = tuple(None if column in alike[case.name] else case.value(column) for column in columns)
        run = ran.get((case.key, case.name))
        setting = settings.setdefault(values, PlottedSetting(columns, case, run or case))
        setting.keys.add(case.key)
    return list(settings.values())


def _values(cases: Iterable[Shown], name: str, column: str) -> int:
    return len({case.value(column) for case in cases if case.name == name})


def reference_of(settings: Sequence[PlottedSetting], plot: ForestPlot) -> PlottedSetting:
    """The setting that `reference` names. Raises ValueError where it does not name exactly one."""
    written = ", ".join(f"{name}: {value}" for name, value in plot.reference.items())
    fitting = [setting for setting in settings if setting.case.meets(plot.reference)]
    if len(fitting) == 1:
        return fitting[0]
    if not plot.reference:
        what = "a forest needs the setting that others are compared with; write reference: {column: value}"
    elif fitting:
        columns = fitting[0].columns
        differ = [column for column in columns if len({setting.case.value(column) for setting in fitting}) > 1]
        what = f"{len(fitting)} settings have {written}; name in reference what tells them apart: {', '.join(differ)}"
    else:
        what = f"no setting has {written}; write in reference the values of one that is swept"
    raise ValueError(f"plot {plot.name}: {what}")


def with_runs_of_their_own(
    settings: Iterable[PlottedSetting], reference: PlottedSetting
) -> tuple[list[PlottedSetting], list[PlottedSetting]]:
    """The settings beside the reference, and those left out because a scale makes the same runs of them as of one
    before."""
    kept, hidden = {frozenset(reference.keys): reference}, []
    for setting in settings:
        if kept.setdefault(frozenset(setting.keys), setting) is not setting:
            hidden.append(setting)
    return [setting for setting in kept.values() if setting is not reference], hidden


def setting_names(settings: Sequence[PlottedSetting], reference: PlottedSetting) -> list[str]:
    """The values in which each differs from the reference; fields of another method only where names would be alike."""
    short = [setting.name(reference, brief=True) for setting in settings]
    return [
        name if short.count(name) == 1 else setting.name(reference, brief=False)
        for name, setting in zip(short, settings, strict=True)
    ]
