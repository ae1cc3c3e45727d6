"""Two sets of runs compared: what differs in their configs and figures, and what of it is significant (no torch).

Runs of one id compute the same; where their figures differ, that is of machines and versions. Settings (the runs that
differ in their seed only) are matched where they share runs, else by config, and what is left over by the nearest
config: the fewest differing fields at the same stage, method and encoder.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mixmae.experiment.stages import stages
from mixmae.files.records import SCHEMA, NewerSchema
from mixmae.presentation.columns import ALIASES, MISSING, named, shown
from mixmae.presentation.row import stage_label
from mixmae.presentation.shown import changed_fields, flat_fields
from results.rows.collect import COLUMNS, collect
from results.statistics import ALPHA, FEWEST, holm, paired, welch

_ALWAYS_TOLD = ("pretrain_epochs", "ratio", "images")
_TELLING = tuple(name for name in ALIASES if name in COLUMNS)
_READ = ("stage", "id", "state", "seed", *_TELLING, "config")


@dataclass(frozen=True)
class Setting:
    """Runs that differ in their seed only. told: what tells it from others of its stage, method and encoder. ids and
    figures by seed; figures of the runs that are done: the main one of the stage."""

    stage: str
    method: str
    encoder: str
    told: dict[str, Any]
    config: str
    ids: dict[int, str]
    figures: dict[int, float]

    def name(self) -> str:
        told = [named(column, shown(column, value)) for column, value in self.told.items()]
        whose = f"{shown('method', self.method)} {self.encoder}"
        return ", ".join([f"{stage_label(self.stage)}: {whose}", *told])

    def mean(self) -> float | None:
        return sum(self.figures.values()) / len(self.figures) if self.figures else None


@dataclass(frozen=True)
class Pair:
    """A setting of A and what it is compared with of B. changed: by field the values in A and B. test: "paired", over
    `matched` seeds, or "Welch"; None where none is made. corrected: p after Holm's correction over all pairs."""

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
    """What is another in `b` than in `a`, both as collected."""
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
    """Those of `frame`, named as beside those of `other`."""
    kind = ["stage", "method", "encoder"]
    both = dict(list(pd.concat([frame[list(_READ)], other[list(_READ)]]).groupby(kind)))
    found = []
    for values, alike in frame.groupby(kind, sort=True):
        varying = [column for column in _TELLING if both[values][column].nunique(dropna=False) > 1]
        usual = {column: _plain(both[values][column].value_counts(dropna=False).index[0]) for column in varying}
        settings: dict[str, list[dict[str, Any]]] = {}
        for run in alike.to_dict("records"):
            settings.setdefault(run["config"], []).append(run)
        found += [_setting(settings[config], usual) for config in sorted(settings)]
    return found


def _setting(runs: Sequence[Mapping[str, Any]], usual: Mapping[str, Any]) -> Setting:
    """usual: of the columns that vary, the most frequent value, which is told of a few only."""
    first = runs[0]
    values = {column: _plain(first[column]) for column in usual}
    figure = main_figure(first["stage"])
    return Setting(
        first["stage"],
        first["method"],
        first["encoder"],
        {column: value for column, value in values.items() if column in _ALWAYS_TOLD or value != usual[column]},
        first["config"],
        {run["seed"]: run["id"] for run in runs},
        {run["seed"]: run[figure] for run in runs if run["state"] == "done"},
    )


def main_figure(stage: str) -> str:
    """The main figure of a stage."""
    return stages[stage].main.name


def _matched(ours: Sequence[Setting], theirs: Sequence[Setting]) -> dict[int, int]:
    """Places in `ours` to places in `theirs`, each once."""
    found: dict[int, int] = {}
    _match_by(lambda setting: [(setting.stage, id) for id in setting.ids.values()], ours, theirs, found)
    _match_by(lambda setting: [(setting.stage, setting.config)], ours, theirs, found)
    _match_nearest(ours, theirs, found)
    return found


def _match_by(
    keys: Callable[[Setting], list], ours: Sequence[Setting], theirs: Sequence[Setting], found: dict[int, int]
) -> None:
    taken = set(found.values())
    there = {key: place for place, setting in enumerate(theirs) if place not in taken for key in keys(setting)}
    for place, setting in enumerate(ours):
        others = [there[key] for key in keys(setting) if key in there and there[key] not in taken]
        if place not in found and others:
            found[place] = others[0]
            taken.add(others[0])


def _match_nearest(ours: Sequence[Setting], theirs: Sequence[Setting], found: dict[int, int]) -> None:
    taken = set(found.values())
    left = _by_kind({place: setting for place, setting in enumerate(ours) if place not in found})
    right = _by_kind({place: setting for place, setting in enumerate(theirs) if place not in taken})
    for kind in left.keys() & right.keys():
        apart = _fields_apart([one.config for one in left[kind].values()], [one.config for one in right[kind].values()])
        places, others = list(left[kind]), list(right[kind])
        for flat in np.argsort(apart, axis=None, kind="stable"):
            one, other = np.unravel_index(flat, apart.shape)
            if places[one] not in found and others[other] not in taken:
                found[places[one]] = others[other]
                taken.add(others[other])


def _by_kind(settings: Mapping[int, Setting]) -> dict[tuple[str, str, str], dict[int, Setting]]:
    found: dict[tuple[str, str, str], dict[int, Setting]] = {}
    for place, setting in settings.items():
        found.setdefault((setting.stage, setting.method, setting.encoder), {})[place] = setting
    return found


def _fields_apart(ours: Sequence[str], theirs: Sequence[str]) -> np.ndarray:
    """In how many fields each config of ours differs from each of theirs: (ours, theirs), int16."""
    flat = [flat_fields(text) for text in (*ours, *theirs)]
    table = pd.DataFrame([{name: repr(value) for name, value in one.items() if value is not None} for one in flat])
    codes = np.stack([pd.factorize(table[name], use_na_sentinel=False)[0] for name in table], axis=1)
    rows, others = codes[: len(ours)], codes[len(ours) :]
    return np.stack([(others != row).sum(axis=1, dtype=np.int16) for row in rows])


def _pair(a: Setting, b: Setting) -> Pair:
    """Settings that share a run are of one config, also where one was written before a field was added. Of one config,
    the runs that both have are compared, where there are any."""
    shared = set(a.ids.values()) & set(b.ids.values())
    changed = {} if shared else changed_fields(flat_fields(a.config), flat_fields(b.config))
    matched = a.figures.keys() & b.figures.keys()
    if changed or not matched:
        return Pair(a, b, changed)
    both = [replace(setting, figures={seed: setting.figures[seed] for seed in sorted(matched)}) for setting in (a, b)]
    return Pair(both[0], both[1], changed)


def _without(setting: Setting, other: Setting) -> Setting:
    """The runs of the seeds that the other does not have."""
    return replace(setting, ids={seed: id for seed, id in setting.ids.items() if seed not in other.ids}, figures={})


# ------------------------------------------------------------------------------------------------------------- figures


def _tested(pair: Pair) -> Pair:
    """Paired over matched seeds, Welch's test where fewer than FEWEST match."""
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
        spec = stages[row["stage"]]
        figures = tuple(metric.name for metric in spec.metrics if metric.name in a and metric.name in b)
        names = figures if row["state"] == row["state_b"] == "done" else ("state",)
        values = {name: (_plain(row[name]), _plain(row[f"{name}_b"])) for name in names}
        changed = {name: pair for name, pair in values.items() if pair[0] != pair[1]}
        if changed:
            yield Refigured(row["stage"], row["id"], changed)


def _plain(value: Any) -> Any:
    return None if pd.isna(value) else value


# ---------------------------------------------------------------------------------------------------------------- text


def lines(found: Difference) -> Iterator[str]:
    """For people to read."""
    in_a, in_b, both = found.runs
    yield f"{in_a} runs in A, {in_b} in B, {both} in both, {both - len(found.refigured)} of these the same"
    if found.refigured:
        yield "\nSame run, other figures or state:"
        yield from (f"  {one.stage}/{one.id}: {_changes(one.changed)}" for one in found.refigured)
    by_change: dict[str, list[str]] = {}
    for pair in found.pairs:
        if pair.changed:
            by_change.setdefault(_changes(pair.changed), []).append(pair.a.name())
    if by_change:
        yield "\nOther config:"
        for changes, names in by_change.items():
            yield f"  {changes}"
            yield from (f"    {name}" for name in names)
    for place, settings in (("A", found.only_a), ("B", found.only_b)):
        if settings:
            yield f"\nOnly in {place}:"
            yield from (f"  {one.name()}: seed {', '.join(map(str, sorted(one.ids)))}" for one in settings)
    yield from _figure_lines([pair for pair in found.pairs if not pair.alike])


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
        axes.setdefault(stages[pair.a.stage].main.axis, []).append(stage_label(pair.a.stage))
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


def document(found: Difference) -> dict[str, Any]:
    """For scripts: all of it, as plain data."""
    return {
        "runs": dict(zip(("a", "b", "both"), found.runs, strict=True)),
        "refigured": [{"stage": one.stage, "id": one.id, "changed": _lists(one.changed)} for one in found.refigured],
        "only_a": [_described(one) for one in found.only_a],
        "only_b": [_described(one) for one in found.only_b],
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
            for pair in found.pairs
        ],
    }


def _lists(changed: Mapping[str, tuple[Any, Any]]) -> dict[str, list]:
    return {name: list(values) for name, values in changed.items()}


def _described(setting: Setting) -> dict[str, Any]:
    return {
        "stage": setting.stage,
        "method": setting.method,
        "encoder": setting.encoder,
        "told": setting.told,
        "ids": setting.ids,
        "mean": setting.mean(),
        "n": len(setting.figures),
    }
