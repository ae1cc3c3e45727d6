"""Two sets of runs compared: what differs in their configs and figures, and what of it is significant (no torch).

Runs of one id compute the same; where their figures differ, that is of machines and versions. Settings (the runs that
differ in their seed only) are matched where they share runs, else by config, and what is left over by the nearest
config: the fewest differing fields at the same stage, method and encoder.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mixmae.experiment.stages import StageSpec, stages
from mixmae.files.records import SCHEMA, NewerSchema
from mixmae.presentation.columns import ALIASES, MISSING, named, shown
from mixmae.presentation.row import stage_label
from mixmae.presentation.shown import changed_fields, flat_fields
from results.rows.collect import COLUMNS, collect
from results.statistics import ALPHA, FEWEST, holm, paired, welch

_ALWAYS_SHOWN = ("pretrain_epochs", "ratio", "images")
_TELLING = tuple(name for name in ALIASES if name in COLUMNS)
_READ = ("stage", "id", "state", "seed", *_TELLING, "config")


@dataclass(frozen=True)
class Setting:
    """Runs that differ in their seed only. distinct: what distinguishes them from others of their stage, method and
    encoder. ids: by seed. figures: the main figure of the stage, by the seed of the runs that are done."""

    stage: str
    method: str
    encoder: str
    distinct: dict[str, Any]
    config: str
    ids: dict[int, str]
    figures: dict[int, float]

    def name(self) -> str:
        values = [named(column, shown(column, value)) for column, value in self.distinct.items()]
        whose = f"{shown('method', self.method)} {self.encoder}"
        return ", ".join([f"{stage_label(self.stage)}: {whose}", *values])

    def mean(self) -> float | None:
        return sum(self.figures.values()) / len(self.figures) if self.figures else None


@dataclass(frozen=True)
class Pair:
    """A setting of A and the setting of B that it is compared with. changed: the values in A and B of each field that
    differs. test: "paired", over `matched` seeds, or "Welch"; None where none is made. corrected: p after Holm's
    correction over all pairs."""

    a: Setting
    b: Setting
    changed: dict[str, tuple[Any, Any]]
    matched: int = 0
    test: str | None = None
    p: float | None = None
    corrected: float | None = None

    @property
    def difference(self) -> float | None:
        """B minus A."""
        a, b = self.a.mean(), self.b.mean()
        return None if a is None or b is None else b - a

    @property
    def alike(self) -> bool:
        """Whether both are the same, down to the last bit."""
        return not self.changed and self.a.figures == self.b.figures

    @property
    def verdict(self) -> str:
        if self.difference is None:
            return "no figures"
        if self.corrected is None:
            return "the same" if self.a.figures == self.b.figures else "no claim"
        return "significant" if self.corrected <= ALPHA else "not significant"


@dataclass(frozen=True)
class Refigured:
    """A run that both have, with other figures or another state."""

    stage: str
    id: str
    changed: dict[str, tuple[Any, Any]]


@dataclass(frozen=True)
class Difference:
    """runs: how many A has, B has and both have. only_a, only_b: runs without a counterpart, as settings of these."""

    runs: tuple[int, int, int]
    refigured: list[Refigured]
    pairs: list[Pair]
    only_a: list[Setting]
    only_b: list[Setting]


def read_runs(path: Path) -> pd.DataFrame:
    """The runs under a root, or in a results.parquet that `results.collect.write` wrote.

    Raises ValueError where the file is another, NewerSchema where a newer version wrote it, FileNotFoundError where
    there is nothing.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        return collect(path)
    try:
        table = pq.read_table(path)
    except pa.ArrowInvalid as error:
        raise ValueError(
            f"{path}: no results.parquet ({error}); write a root or a file of mixmae results collect"
        ) from None
    schema = (table.schema.metadata or {}).get(b"mixmae_schema", b"")
    if schema.isdigit() and int(schema) > SCHEMA:
        raise NewerSchema(f"{path}: schema {int(schema)}, this version reads up to {SCHEMA}; upgrade mixmae")
    if not schema.isdigit() or not set(_READ) <= set(table.column_names):
        raise ValueError(f"{path}: not written by mixmae results collect; write a root or a results.parquet of it")
    return table.to_pandas()


def compare(a: pd.DataFrame, b: pd.DataFrame) -> Difference:
    """Compares two collected frames: what differs in `b` from `a`."""
    ours, theirs = _settings(a, b), _settings(b, a)
    places = _matched(ours, theirs)
    pairs = [_tested(_pair(ours[one], theirs[other])) for one, other in sorted(places.items())]
    corrected = iter(holm([pair.p for pair in pairs if pair.p is not None]))
    pairs = [pair if pair.p is None else replace(pair, corrected=next(corrected)) for pair in pairs]
    same = [pair for pair in pairs if not pair.changed]
    return Difference(
        runs=(len(a), len(b), len(_keys(a) & _keys(b))),
        refigured=list(_refigured(a, b)),
        pairs=pairs,
        only_a=[
            *(setting for place, setting in enumerate(ours) if place not in places),
            *(_without(pair.a, pair.b) for pair in same if pair.a.ids.keys() - pair.b.ids.keys()),
        ],
        only_b=[
            *(setting for place, setting in enumerate(theirs) if place not in places.values()),
            *(_without(pair.b, pair.a) for pair in same if pair.b.ids.keys() - pair.a.ids.keys()),
        ],
    )


# ------------------------------------------------------------------------------------------------------------ matching


def _settings(frame: pd.DataFrame, other: pd.DataFrame) -> list[Setting]:
    """The settings of `frame`, with the values that distinguish them among those of both frames."""
    kind = ["stage", "method", "encoder"]
    both = dict(list(pd.concat([frame[list(_READ)], other[list(_READ)]]).groupby(kind)))
    all_settings: list[Setting] = []
    for values, alike in frame.groupby(kind, sort=True):
        varying = [column for column in _TELLING if both[values][column].nunique(dropna=False) > 1]
        usual = {column: _plain(both[values][column].value_counts(dropna=False).index[0]) for column in varying}
        settings: dict[str, list[dict[str, Any]]] = {}
        for run in alike.to_dict("records"):
            settings.setdefault(run["config"], []).append(run)
        all_settings += _told_apart([_setting(settings[config], usual) for config in sorted(settings)])
    return all_settings


def _told_apart(settings: Sequence[Setting]) -> Iterator[Setting]:
    """Yields the settings; those that would read alike with the fields in which they differ."""
    fields = [flat_fields(setting.config) for setting in settings]
    alike: dict[str, list[dict[str, Any]]] = {}
    for setting, own in zip(settings, fields, strict=True):
        alike.setdefault(setting.name(), []).append(own)
    differing = {name: _differing(every) for name, every in alike.items()}
    for setting, own in zip(settings, fields, strict=True):
        further = {_path(name, own): own.get(name) for name in differing[setting.name()]}
        yield replace(setting, distinct={**setting.distinct, **further})


def _differing(every: Sequence[Mapping[str, Any]]) -> list[str]:
    """The fields that are not the same in all of these."""
    values: dict[str, set[str]] = {}
    for fields in every:
        for name, value in fields.items():
            values.setdefault(name, set()).add(repr(value))
    there = Counter(name for fields in every for name in fields)
    return sorted(name for name in values if len(values[name]) > 1 or there[name] < len(every))


def _path(field: str, fields: Mapping[str, Any]) -> str:
    """A field of a setting's config as grids and tables name it. fields: all of that config."""
    name = field.rpartition("pretraining.")[2]
    before = field.removesuffix(name)
    if before and name.startswith("method."):
        return name
    if not name.startswith("recipe."):
        return field
    stage = str(fields.get(f"{before}stage"))
    spec = stages.get(stage)
    trains = spec is not None and not spec.measures
    whose = "pretrain" if trains else f"start.{stage}" if before else "evaluation"
    return f"{whose}.{name.removeprefix('recipe.')}"


def _setting(runs: Sequence[Mapping[str, Any]], usual: Mapping[str, Any]) -> Setting:
    """Makes a setting of its runs. usual: the most frequent value of each column that varies, which distinguishes
    nothing except in `_ALWAYS_SHOWN`."""
    first = runs[0]
    values = {column: _plain(first[column]) for column in usual}
    figure = main_figure(first["stage"])
    return Setting(
        first["stage"],
        first["method"],
        first["encoder"],
        {column: value for column, value in values.items() if column in _ALWAYS_SHOWN or value != usual[column]},
        first["config"],
        {run["seed"]: run["id"] for run in runs},
        {run["seed"]: run[figure] for run in runs if run["state"] == "done"},
    )


def main_figure(stage: str) -> str:
    """The main figure of a stage."""
    return _spec(stage).main.name


def _spec(stage: str) -> StageSpec:
    """The stage, or what its runs say of it. Raises UnknownName where they say nothing, either."""
    return stages.get(stage) or stages[stage]


def _matched(ours: Sequence[Setting], theirs: Sequence[Setting]) -> dict[int, int]:
    """Indices in `ours` to indices in `theirs`, each once."""
    matches: dict[int, int] = {}
    _match_by(lambda setting: [(setting.stage, id) for id in setting.ids.values()], ours, theirs, matches)
    _match_by(lambda setting: [(setting.stage, setting.config)], ours, theirs, matches)
    _match_nearest(ours, theirs, matches)
    return matches


def _match_by(
    keys: Callable[[Setting], list], ours: Sequence[Setting], theirs: Sequence[Setting], matches: dict[int, int]
) -> None:
    """Adds to `matches` the settings that share a key."""
    taken = set(matches.values())
    there = {key: place for place, setting in enumerate(theirs) if place not in taken for key in keys(setting)}
    for place, setting in enumerate(ours):
        others = [there[key] for key in keys(setting) if key in there and there[key] not in taken]
        if place not in matches and others:
            matches[place] = others[0]
            taken.add(others[0])


def _match_nearest(ours: Sequence[Setting], theirs: Sequence[Setting], matches: dict[int, int]) -> None:
    """Adds to `matches` the settings of one kind that are left, those with the fewest differing fields first."""
    taken = set(matches.values())
    left = _by_kind({place: setting for place, setting in enumerate(ours) if place not in matches})
    right = _by_kind({place: setting for place, setting in enumerate(theirs) if place not in taken})
    for kind in left.keys() & right.keys():
        configs = [[setting.config for setting in side[kind].values()] for side in (left, right)]
        apart = _fields_apart(*configs)
        places, others = list(left[kind]), list(right[kind])
        for flat in np.argsort(apart, axis=None, kind="stable"):
            row, column = np.unravel_index(flat, apart.shape)
            if places[row] not in matches and others[column] not in taken:
                matches[places[row]] = others[column]
                taken.add(others[column])


def _by_kind(settings: Mapping[int, Setting]) -> dict[tuple[str, str, str], dict[int, Setting]]:
    kinds: dict[tuple[str, str, str], dict[int, Setting]] = {}
    for place, setting in settings.items():
        kinds.setdefault((setting.stage, setting.method, setting.encoder), {})[place] = setting
    return kinds


def _fields_apart(ours: Sequence[str], theirs: Sequence[str]) -> np.ndarray:
    """In how many fields each config of ours differs from each of theirs: (ours, theirs), int16."""
    flat = [flat_fields(text) for text in (*ours, *theirs)]
    given = [{name: repr(value) for name, value in fields.items() if value is not None} for fields in flat]
    table = pd.DataFrame(given)
    codes = np.stack([pd.factorize(table[name], use_na_sentinel=False)[0] for name in table], axis=1)
    rows, others = codes[: len(ours)], codes[len(ours) :]
    return np.stack([(others != row).sum(axis=1, dtype=np.int16) for row in rows])


def _pair(a: Setting, b: Setting) -> Pair:
    """Pairs two settings. Those that share a run are of one config, also where one was written before a field was
    added; where the config is one, only the runs that both have are compared, if there are any."""
    shared = set(a.ids.values()) & set(b.ids.values())
    changed = {} if shared else changed_fields(flat_fields(a.config), flat_fields(b.config))
    matched = a.figures.keys() & b.figures.keys()
    if changed or not matched:
        return Pair(a, b, changed)
    both = [replace(setting, figures={seed: setting.figures[seed] for seed in sorted(matched)}) for setting in (a, b)]
    return Pair(both[0], both[1], changed)


def _without(setting: Setting, other: Setting) -> Setting:
    """The setting with the runs of those seeds alone that the other does not have."""
    return replace(setting, ids={seed: id for seed, id in setting.ids.items() if seed not in other.ids}, figures={})


# ------------------------------------------------------------------------------------------------------------- figures


def _tested(pair: Pair) -> Pair:
    """Tests the pair: paired over matched seeds, by Welch's test where fewer than FEWEST match."""
    compared = paired(pair.b.figures, pair.a.figures)
    pair = replace(pair, matched=compared.pairs)
    if compared.pairs >= FEWEST:
        return replace(pair, p=compared.p, test="paired" if compared.p is not None else None)
    p = welch(pair.b.figures.values(), pair.a.figures.values())
    return replace(pair, p=p, test="Welch" if p is not None else None)


def _keys(frame: pd.DataFrame) -> set[tuple[str, str]]:
    return set(zip(frame["stage"], frame["id"], strict=True))


def _refigured(a: pd.DataFrame, b: pd.DataFrame) -> Iterator[Refigured]:
    """Runs of both that are done with other figures, or done in one only."""
    both = a.merge(b, on=["stage", "id"], suffixes=("", "_b"))
    for row in both.to_dict("records"):
        spec = _spec(row["stage"])
        figures = tuple(metric.name for metric in spec.metrics if metric.name in a and metric.name in b)
        names = figures if row["state"] == row["state_b"] == "done" else ("state",)
        values = {name: (_plain(row[name]), _plain(row[f"{name}_b"])) for name in names}
        changed = {name: pair for name, pair in values.items() if pair[0] != pair[1]}
        if changed:
            yield Refigured(row["stage"], row["id"], changed)


def _plain(value: Any) -> Any:
    return None if pd.isna(value) else value


# ---------------------------------------------------------------------------------------------------------------- text


def lines(difference: Difference) -> Iterator[str]:
    """Yields the difference in lines for people to read."""
    in_a, in_b, both = difference.runs
    yield f"{in_a} runs in A, {in_b} in B, {both} in both, {both - len(difference.refigured)} of these the same"
    if difference.refigured:
        yield "\nSame run, other figures or state:"
        yield from (f"  {run.stage}/{run.id}: {_changes(run.changed)}" for run in difference.refigured)
    by_change: dict[str, list[str]] = {}
    for pair in difference.pairs:
        if pair.changed:
            fields = flat_fields(pair.a.config)
            changed = {_path(name, fields): values for name, values in pair.changed.items()}
            by_change.setdefault(_changes(changed), []).append(pair.a.name())
    if by_change:
        yield "\nOther config:"
        for changes, names in by_change.items():
            yield f"  {changes}"
            yield from (f"    {name}" for name in names)
    for place, settings in (("A", difference.only_a), ("B", difference.only_b)):
        if settings:
            yield f"\nOnly in {place}:"
            yield from (f"  {setting.name()}: seed {', '.join(map(str, sorted(setting.ids)))}" for setting in settings)
    yield from _figure_lines([pair for pair in difference.pairs if not pair.alike])


def _figure_lines(pairs: Sequence[Pair]) -> Iterator[str]:
    pairs = [pair for pair in pairs if pair.a.figures or pair.b.figures]
    if not pairs:
        return
    yield f"\nFigures, means over seeds ({_units(pairs)}), B minus A:"
    yield from (f"  {_figures(pair)}" for pair in pairs)
    tests = sum(pair.corrected is not None for pair in pairs)
    yield (
        f"Two-sided paired t-tests over matched seeds, Welch's where fewer than {FEWEST} match; {tests} tests, "
        f"Holm-corrected, α = {ALPHA:g}; no claim with fewer than {FEWEST} seeds or where nothing varies"
    )


def _units(pairs: Sequence[Pair]) -> str:
    """What the figures are, stage by stage where they are of several kinds."""
    axes: dict[str, list[str]] = {}
    for pair in pairs:
        axes.setdefault(_spec(pair.a.stage).main.axis, []).append(stage_label(pair.a.stage))
    return "; ".join(f"{axis}: {', '.join(dict.fromkeys(of))}" if len(axes) > 1 else axis for axis, of in axes.items())


def _figures(pair: Pair) -> str:
    means = ", ".join(f"{place} {_mean(setting)}" for place, setting in (("A", pair.a), ("B", pair.b)))
    if pair.difference is None:
        return f"{pair.a.name()}: {means}"
    test = ""
    if pair.test:
        over = f" over {pair.matched} seeds" if pair.test == "paired" else ""
        test = f" ({pair.test}{over}, corrected p = {pair.corrected:.2g})"
    return f"{pair.a.name()}: {means}, difference {pair.difference:+.4g}, {pair.verdict}{test}"


def _mean(setting: Setting) -> str:
    return MISSING if setting.mean() is None else f"{setting.mean():.6g} (n={len(setting.figures)})"


def _changes(changed: Mapping[str, tuple[Any, Any]]) -> str:
    return "; ".join(f"{name} {one!r} in A, {other!r} in B" for name, (one, other) in changed.items())


def document(difference: Difference) -> dict[str, Any]:
    """The whole difference as plain data, for scripts."""
    return {
        "runs": dict(zip(("a", "b", "both"), difference.runs, strict=True)),
        "refigured": [
            {"stage": run.stage, "id": run.id, "changed": _lists(run.changed)} for run in difference.refigured
        ],
        "only_a": [_described(setting) for setting in difference.only_a],
        "only_b": [_described(setting) for setting in difference.only_b],
        "pairs": [
            {
                "a": _described(pair.a),
                "b": _described(pair.b),
                "changed": _lists(pair.changed),
                "difference": pair.difference,
                "verdict": pair.verdict,
                "test": pair.test,
                "matched": pair.matched,
                "p": pair.p,
                "corrected": pair.corrected,
            }
            for pair in difference.pairs
        ],
    }


def _lists(changed: Mapping[str, tuple[Any, Any]]) -> dict[str, list]:
    return {name: list(values) for name, values in changed.items()}


def _described(setting: Setting) -> dict[str, Any]:
    return {
        "stage": setting.stage,
        "method": setting.method,
        "encoder": setting.encoder,
        "told": setting.distinct,
        "ids": setting.ids,
        "mean": setting.mean(),
        "n": len(setting.figures),
    }
