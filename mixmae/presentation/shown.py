"""Runs as tables and plots see them, and which of them are averaged together: repetitions that differ in their seed,
and in nothing else (no torch, no pandas)."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from mixmae.fields.identity import Key, canonical
from mixmae.presentation.columns import ALIASES, as_in_rows, paths, position, value
from mixmae.presentation.row import Flat

NO_RUN = "no run"
"""The state of what a grid declares and nothing is known of."""


class MixedCell(ValueError):
    """Runs that differ in more than the seed would be averaged."""


@dataclass(frozen=True)
class Shown:
    """A run under one of the names that a grid has for it. ran: its row. config: all that is computed, seeds left out,
    as canonical JSON. figures: of a run that is done. costs: of its pretraining: images, hours and device where they
    are known. name: of the evaluation, or the stage that pretrains; names: all that the grid calls it. declared: the
    row of the case that it stands for, which at a scale is another."""

    key: Key
    ran: Flat
    config: str
    state: str = NO_RUN
    figures: Mapping[str, float] = field(default_factory=dict)
    costs: Mapping[str, Any] = field(default_factory=dict)
    root: str = ""
    """Where its folder lies."""
    name: str = ""
    names: tuple[str, ...] = ()
    declared: Flat = field(default_factory=dict)

    @property
    def seed(self) -> int:
        return int(self.ran["seed"])

    @property
    def method(self) -> str:
        return str(self.declared["method"])

    @property
    def done(self) -> bool:
        return self.state == "done"

    def value(self, column: str) -> Any:
        """As the grid declares it."""
        return self.name if column == "name" else value(self.declared, column, self.names)

    def meets(self, where: Mapping[str, Any]) -> bool:
        """Whether it is declared with these values, as a grid file writes them."""
        return all(self.value(column) == as_in_rows(column, wanted) for column, wanted in where.items())

    def was(self, column: str) -> Any:
        """As it was run."""
        return self.name if column == "name" else value(self.ran, column, self.names)

    def setting(self, but_for: Callable[[str], bool]) -> tuple[str, str]:
        """Its stage and all that it is declared with, but for the paths that are `but_for`: equal for runs of one
        setting."""
        return self.key[0], canonical({path: value for path, value in self.declared.items() if not but_for(path)})


BySetting = Mapping[tuple[str, str], Sequence[Shown]]
"""Runs by `Shown.setting`."""


def by_setting(runs: Iterable[Shown], but_for: Callable[[str], bool]) -> BySetting:
    """Those that are done."""
    groups: dict[tuple[str, str], list[Shown]] = {}
    for run in runs:
        if run.done:
            groups.setdefault(run.setting(but_for), []).append(run)
    return groups


def cells(runs: Sequence[Shown], columns: Sequence[str]) -> list[tuple[tuple[Any, ...], list[Shown]]]:
    """The groups of runs with equal values in `columns`, nothing being a value of its own, in the order in which they
    are shown."""
    groups = _grouped(runs, columns)
    ordered = sorted(groups, key=lambda values: [position(*pair) for pair in zip(columns, values, strict=True)])
    return [(values, groups[values]) for values in ordered]


def separating(
    runs: Sequence[Shown], keys: Sequence[str], within: Sequence[str], preferred: Sequence[str] = ()
) -> tuple[str, ...]:
    """`keys` and the further columns needed for (keys, within) to gather only runs that differ in their seed: those
    that are preferred first, none that follows from columns already there.

    Raises MixedCell, naming the differing fields, where no column tells such runs apart.
    """
    further = chain(preferred, ALIASES, paths(run.declared for run in runs))
    columns, mixed = told_apart(runs, keys, within, further)
    if not mixed:
        return columns
    one, other = list({run.config: run for run in mixed[0]}.values())[:2]
    names = f"{'/'.join(one.key)} and {'/'.join(other.key)}"
    fields = ", ".join(differing_fields(one.config, other.config))
    raise MixedCell(f"{names} would be averaged though they differ in {fields}; show them in separate sweeps")


def told_apart(
    runs: Sequence[Shown], keys: Sequence[str], within: Sequence[str], further: Iterable[str]
) -> tuple[tuple[str, ...], list[list[Shown]]]:
    """`keys` and those of the `further` columns that are needed, in that order, and the cells that still hold several
    configs. Nothing is taken from `further` where nothing is needed."""
    columns = tuple(keys)
    mixed = _mixed(runs, [*columns, *within])
    if not mixed:
        return columns, []
    for candidate in further:
        if candidate in ("seed", "stage", *columns, *within):
            continue
        if any(len({run.value(candidate) for run in cell}) > 1 for cell in mixed):
            columns = (*columns, candidate)
            mixed = _mixed([run for cell in mixed for run in cell], [*columns, *within])
            if not mixed:
                break
    return columns, mixed


def _mixed(runs: Sequence[Shown], columns: Sequence[str]) -> list[list[Shown]]:
    """The cells that hold several configs."""
    return [cell for cell in _grouped(runs, columns).values() if len({run.config for run in cell}) > 1]


def _grouped(runs: Iterable[Shown], columns: Sequence[str]) -> dict[tuple[Any, ...], list[Shown]]:
    groups: dict[tuple[Any, ...], list[Shown]] = {}
    for run in runs:
        groups.setdefault(tuple(run.value(column) for column in columns), []).append(run)
    return groups


# -------------------------------------------------------------------------------------------------------------- fields


def differing_fields(one: str, other: str) -> list[str]:
    """The dotted fields in which two canonical JSON objects differ."""
    return list(changed_fields(flat_fields(one), flat_fields(other)))


def flat_fields(text: str) -> dict[str, Any]:
    """A canonical JSON object by dotted field."""
    return dict(_flat(json.loads(text), ""))


def changed_fields(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The fields in which two differ, with both values; a field that one does not have is None there."""
    names = sorted(one.keys() | other.keys())
    return {name: (one.get(name), other.get(name)) for name in names if one.get(name) != other.get(name)}


def _flat(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, dict):
        yield path, value
        return
    for name, item in value.items():
        yield from _flat(item, f"{path}.{name}" if path else name)


def varying(runs: Sequence[Shown], columns: Iterable[str]) -> list[str]:
    """Those of `columns` in which the runs differ."""
    return [column for column in columns if len({run.value(column) for run in runs}) > 1]


def ids(runs: Iterable[Shown]) -> frozenset[Key]:
    return frozenset(run.key for run in runs)
