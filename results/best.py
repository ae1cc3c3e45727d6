"""The best of the settings that a grid tried, within each group, by the mean of one figure (no torch)."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import pandas as pd
import yaml

from ablations.grid.trials import Draw
from mixmae.fields.texts import many
from mixmae.presentation.columns import SCORED, assigned, canonical, label, named, shown
from mixmae.presentation.declaration import Declaration, Selected
from mixmae.presentation.row import references
from mixmae.presentation.shown import Shown, cells
from results.rows.shown import all_runs

BUDGET = ("budget", "pretrain.budget")
"""How columns of budgets begin."""


@dataclass(frozen=True)
class Tried:
    """A setting of a group. setting: its values in the columns that the grid tries values of. mean: of the figure over
    `seeds`. outer: the columns whose value lies in the outer tenth of the range it was drawn from.
    missing: runs without the figure, whose setting stands below those that have none."""

    setting: dict[str, Any]
    mean: float
    seeds: tuple[int, ...]
    outer: tuple[str, ...]
    missing: int


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
    tried: Mapping[str, Draw | None] | None = None,
) -> list[Group]:
    """The settings that `sweeps` tried, within each group of equal `within`, the best first.

    tried: the paths that the grid tries values of, beside those in which its runs differ, and the ranges of those that
    were drawn. Raises ValueError for an unknown sweep, and where no run is scored by that evaluation.
    """
    within = [canonical(column) for column in within]
    runs = all_runs(frame, declaration, sweeps, {by.name})
    if not runs:
        raise ValueError(f"no case of this grid has {by.name}; name another evaluation")
    asked = {canonical(path): draw for path, draw in (tried or {}).items()}
    columns = [
        column
        for column in declaration.swept
        if column not in within and (column in asked or len({run.value(column) for run in runs}) > 1)
    ]
    drawn = {column: draw for column, draw in asked.items() if draw is not None}
    groups = []
    for values, group in cells(runs, within):
        own = [column for column in columns if any(run.value(column) is not None for run in group)]
        found = [
            _tried(dict(zip(own, setting, strict=True)), done, by, drawn, len(some) - len(done))
            for setting, some in cells(group, own)
            if (done := [run for run in some if by.metric.name in run.figures])
        ]
        found.sort(key=lambda one: (one.missing > 0, -by.metric.better(one.mean)))
        unfinished = sum(by.metric.name not in run.figures for run in group)
        scored = tuple(dict.fromkeys(str(run.value(SCORED) or "val") for run in group))
        groups.append(Group(dict(zip(within, values, strict=True)), tuple(found), unfinished, scored))
    return groups


def _tried(setting: dict[str, Any], runs: list[Shown], by: Selected, drawn: Mapping[str, Draw], missing: int) -> Tried:
    mean = fmean(run.figures[by.metric.name] for run in runs)
    outer = tuple(name for name, value in setting.items() if name in drawn and drawn[name].is_outer(value))
    return Tried(setting, mean, tuple(sorted({run.seed for run in runs})), outer, missing)


def lines(groups: Sequence[Group], by: Selected, top: int) -> list[str]:
    """The groups as Markdown."""
    written = []
    for group in groups:
        name = ", ".join(named(column, shown(column, value)) for column, value in group.values.items())
        if not group.tried:
            written += [f"### {name}", "", f"No figure yet of {many(group.unfinished, 'run')}.", ""]
            continue
        names = list(group.tried[0].setting)
        head = [*(label(column) for column in names), f"{by.label} ({by.metric.unit or by.metric.short})", "n"]
        written += [f"### {name}", "", _row(head), _row(["---"] * len(head))]
        for one in group.tried[:top]:
            values = [shown(c, v) + (" (outer tenth)" if c in one.outer else "") for c, v in one.setting.items()]
            written.append(_row([*values, by.metric.text(one.mean), _counted(one)]))
        written.append("")
        if len(group.tried) > top:
            written += [f"The best {top} of {len(group.tried)}.", ""]
        complete = [by.metric.text(one.mean) for one in group.tried if not one.missing]
        equal = complete.count(complete[0]) if complete else 0
        if equal > 1:
            written += [f"The first {equal} are equally good.", ""]
        if group.tried[0].outer:
            columns = ", ".join(map(label, group.tried[0].outer))
            written += [f"The best lies in the outer tenth of {columns}: widen the range, for every method.", ""]
        if group.unfinished:
            written += [f"{many(group.unfinished, 'run')} of these not done.", ""]
    if any("val" in group.scored and len(group.tried) > 1 for group in groups):
        what = "What val chooses has a figure on val that is too good: choose on images that are set aside"
        written += [f"{what} (data.tuning, and measure: tuning), by the sweep that does so (--sweep).", ""]
    else:
        splits = dict.fromkeys(split for group in groups for split in group.scored)
        written += [f"Scored on: {', '.join(splits)}.", ""]
    return written[:-1]


def as_list(groups: Sequence[Group], by: Selected, top: int) -> str:
    """The best of each group, of settings all of whose runs have the figure, as the `list` of a sweep, in YAML, each
    column by the path that a grid sets. Controls and budgets are left out: a grid names them otherwise."""
    entries = [
        {
            assigned(column, by.name): _plain(value)
            for column, value in {**group.values, **one.setting}.items()
            if value is not None and not column.startswith(BUDGET)
        }
        for group in groups
        if group.values.get("method") not in references()
        for one in group.tried[:top]
        if not one.missing
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
                {
                    "setting": one.setting,
                    by.text: one.mean,
                    "seeds": list(one.seeds),
                    "outer": list(one.outer),
                    "missing": one.missing,
                }
                for one in group.tried[:top]
            ],
        }
        for group in groups
    ]


def _counted(one: Tried) -> str:
    return f"{len(one.seeds)}, {one.missing} missing" if one.missing else str(len(one.seeds))


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
