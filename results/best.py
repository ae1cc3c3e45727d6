"""The best of the settings that a grid tried, within each group, by the mean of one figure (no torch)."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import pandas as pd
import yaml

from ablations.grid.trials import Draw
from mixmae.fields.texts import many
from mixmae.presentation.columns import assigned, canonical, label, shown
from mixmae.presentation.declaration import Declaration, Selected
from mixmae.presentation.shown import Shown, cells
from results.rows.shown import shown_runs

SCORED = "evaluation.measure"
"""The column that says which split was scored."""


@dataclass(frozen=True)
class Tried:
    """A setting of a group. setting: the values of the swept columns by which the group's settings differ. mean: of the
    figure over `seeds`. outer: the columns whose value lies in the outer tenth of the range it was drawn from."""

    setting: dict[str, Any]
    mean: float
    seeds: tuple[int, ...]
    outer: tuple[str, ...]


@dataclass(frozen=True)
class Group:
    """The settings of equal values in the columns that comparisons stay within, the best first. unfinished: runs of the
    group that have no figure."""

    values: dict[str, Any]
    tried: tuple[Tried, ...]
    unfinished: int
    scored: tuple[str, ...]
    """The splits that were scored."""


def best(
    frame: pd.DataFrame,
    declaration: Declaration,
    by: Selected,
    within: Sequence[str],
    sweeps: Collection[str] = (),
    ranges: Mapping[str, Draw] | None = None,
) -> list[Group]:
    """The settings that `sweeps` tried, within each group of equal `within`, the best first.

    ranges: from which the values of a path were drawn. Raises ValueError for an unknown sweep.
    """
    within = [canonical(column) for column in within]
    runs = shown_runs(frame, declaration, sweeps, {by.name})
    runs += [run for run in declaration.absent(sweeps) if run.name == by.name and run.key not in {r.key for r in runs}]
    columns = [column for column in declaration.swept if column not in within]
    drawn = {canonical(path): draw for path, draw in (ranges or {}).items()}
    groups = []
    for values, group in cells(runs, within):
        differing = [column for column in columns if len({run.value(column) for run in group}) > 1]
        tried = [
            _tried(dict(zip(differing, setting, strict=True)), done, by, drawn)
            for setting, some in cells(group, differing)
            if (done := [run for run in some if by.metric.name in run.figures])
        ]
        tried.sort(key=lambda one: -by.metric.better(one.mean))
        unfinished = sum(by.metric.name not in run.figures for run in group)
        scored = tuple(dict.fromkeys(str(run.value(SCORED) or "val") for run in group))
        groups.append(Group(dict(zip(within, values, strict=True)), tuple(tried), unfinished, scored))
    return groups


def _tried(setting: dict[str, Any], runs: list[Shown], by: Selected, drawn: Mapping[str, Draw]) -> Tried:
    mean = fmean(run.figures[by.metric.name] for run in runs)
    outer = tuple(name for name, value in setting.items() if name in drawn and drawn[name].is_outer(value))
    return Tried(setting, mean, tuple(sorted({run.seed for run in runs})), outer)


def lines(groups: Sequence[Group], by: Selected, top: int) -> list[str]:
    """The groups as Markdown."""
    written = []
    for group in groups:
        name = ", ".join(shown(column, value) for column, value in group.values.items()) or "all"
        names = list(group.tried[0].setting) if group.tried else []
        head = [*(label(column) for column in names), f"{by.label} ({by.metric.unit or by.metric.short})", "n"]
        written += [f"### {name}", "", _row(head), _row(["---"] * len(head))]
        for one in group.tried[:top]:
            values = [shown(c, v) + (" (outer tenth)" if c in one.outer else "") for c, v in one.setting.items()]
            written.append(_row([*values, by.metric.text(one.mean), str(len(one.seeds))]))
        written.append("")
        if len(group.tried) > top:
            written += [f"The best {top} of {len(group.tried)}.", ""]
        if group.tried and group.tried[0].outer:
            columns = ", ".join(map(label, group.tried[0].outer))
            written += [f"The best lies in the outer tenth of {columns}: widen the range, for every method.", ""]
        if group.unfinished:
            written += [f"{many(group.unfinished, 'run')} of these not done.", ""]
        if "val" in group.scored:
            what = "A setting chosen by val makes its own val figure too good"
            written += [f"{what}; write data.tuning: 0.1 and measure: tuning.", ""]
    return written[:-1]


def as_list(groups: Sequence[Group], by: Selected, top: int) -> str:
    """The best of each group as the `list` of a sweep, in YAML, each column by the path that a grid sets."""
    entries = [
        {assigned(column, by.name): _plain(value) for column, value in {**group.values, **one.setting}.items()}
        for group in groups
        for one in group.tried[:top]
    ]
    return yaml.safe_dump({"list": entries}, sort_keys=False, default_flow_style=None, width=120)


def document(groups: Sequence[Group], by: Selected, top: int) -> list[dict[str, Any]]:
    """The same as plain data."""
    return [
        {
            "within": group.values,
            "unfinished": group.unfinished,
            "scored": list(group.scored),
            "tried": len(group.tried),
            "best": [
                {"setting": one.setting, by.text: one.mean, "seeds": list(one.seeds), "outer": list(one.outer)}
                for one in group.tried[:top]
            ],
        }
        for group in groups
    ]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
