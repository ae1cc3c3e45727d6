"""Which rows of a table are compared, as its grid declares it: known before anything runs (no torch, no pandas)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mixmae.presentation.columns import canonical, label
from mixmae.presentation.declaration import Against, Primary, Summary, TableSpec
from mixmae.presentation.shown import Shown


class NotOneRow(ValueError):
    """What a table is to compare is no row of it, or several. field: of the table, that says what is compared."""

    def __init__(self, field: str, what: str):
        super().__init__(f"{field}: {what}")
        self.field, self.what = field, what


@dataclass(frozen=True)
class Compared:
    """By row of a table, the place of the row that it is compared with, None where there is none. primary: the rows
    whose comparison decides."""

    references: tuple[int | None, ...]
    primary: frozenset[int] = frozenset()


def compared_rows(table: TableSpec, columns: Sequence[str], rows: Sequence[Shown]) -> Compared | None:
    """What a table compares; None where it declares nothing. rows: a run of each row; `columns` tell them apart. Raises
    NotOneRow."""
    if table.reference:
        found = _Rows("reference", columns, rows)
        found.check(table.reference)
        _Rows("within", columns, rows).check(table.within)
        references = found.beside(table.reference, table.within)
        if not any(reference is not None for reference in references):
            raise NotOneRow("reference", "no row is compared with another; write values that single rows have")
        return Compared(references)
    return _primary(table.primary, _Rows("primary", columns, rows)) if table.primary else None


def _primary(primary: Primary, rows: "_Rows") -> Compared:
    rows.check([*primary.of, *primary.within])
    rows.check_values(primary)
    references = rows.beside(primary.of, primary.within)
    decides: set[int] = set()
    for alike in rows.agreeing(primary.within):
        for value in primary.against if rows.meeting(primary.of, alike) else ():
            rival = {primary.column: value}
            if rows.meeting(rival, alike):
                decides.add(rows.only(rival, alike))
    if not decides:
        against = " or ".join(map(str, primary.against))
        beside = f" in the same {', '.join(map(label, primary.within))}" if primary.within else ""
        what = f"no row has {primary.column} {against} beside {_written(primary.of)}{beside}"
        raise NotOneRow("primary", f"{what}; write values that are swept")
    return Compared(references, frozenset(decides))


def summarised(summary: Summary, columns: Sequence[str], rows: Sequence[Shown]) -> list[dict[Any, int]]:
    """Of each setting, `of` first, the place of its row by the value that is averaged over; only values that all of the
    settings have. Raises NotOneRow."""
    found = _Rows("summary", columns, rows)
    found.check([*summary.of, summary.over])
    settings = found.check_values(summary)
    places: list[dict[Any, int]] = []
    for setting in settings:
        own = found.meeting(setting, range(len(rows)))
        families = {rows[place].value(canonical(summary.over)): None for place in own}
        places.append({family: found.only({**setting, summary.over: family}, own) for family in families})
    shared = [family for family in places[0] if all(family in of_setting for of_setting in places)]
    if not shared:
        what = f"no {label(canonical(summary.over))} has all of {', '.join(map(_written, settings))}"
        raise NotOneRow("summary", f"{what}; write values that are swept together")
    return [{family: of_setting[family] for family in shared} for of_setting in places]


@dataclass(frozen=True)
class _Rows:
    """The rows of a table, for the `field` of it that says what is compared. Rows are known by their places."""

    field: str
    columns: Sequence[str]
    rows: Sequence[Shown]

    def check(self, named: Iterable[str]) -> None:
        """Raises NotOneRow where one of them tells no rows apart."""
        for column in named:
            if canonical(column) not in self.columns:
                raise NotOneRow(self.field, f"{column} is no column of the table's rows; write it in rows, too")

    def check_values(self, against: Against) -> list[dict[str, Any]]:
        """The settings that are compared, `of` first. Raises NotOneRow where there is none of one of them."""
        settings = [against.of, *({against.column: value} for value in against.against)]
        for setting in settings:
            if not self.meeting(setting, range(len(self.rows))):
                raise NotOneRow(self.field, f"no row has {_written(setting)}; write values that are swept")
        return settings

    def meeting(self, setting: Mapping[str, Any], among: Iterable[int]) -> list[int]:
        return [place for place in among if self.rows[place].meets(setting)]

    def only(self, setting: Mapping[str, Any], among: Iterable[int]) -> int:
        """The one row with that setting. Raises NotOneRow."""
        found = self.meeting(setting, among)
        if len(found) == 1:
            return found[0]
        if not found:
            raise NotOneRow(self.field, f"no row has {_written(setting)}; write values that are swept")
        differ = [column for column in self.columns if len({self.rows[place].value(column) for place in found}) > 1]
        apart = ", ".join(differ)
        where = ", here or in within" if self.field == "reference" else ""
        what = f"show fewer sweeps, or name what tells them apart{where}: {apart}"
        if self.field == "summary":  # which names two columns, and no more
            what = f"show sweeps in which {apart} does not vary"
        raise NotOneRow(self.field, f"{len(found)} rows have {_written(setting)}; {what}")

    def beside(self, setting: Mapping[str, Any], within: Sequence[str]) -> tuple[int | None, ...]:
        """Of each row, the one with that setting among those that agree with it in the columns `within`; None where
        that is the row itself, or there is none. Raises NotOneRow where there are several, or none at all."""
        places = range(len(self.rows))
        groups = [alike for alike in self.agreeing(within) if self.meeting(setting, alike)] or [list(places)]
        only = {row: place for alike in groups for place in [self.only(setting, alike)] for row in alike}
        return tuple(None if only.get(row) == row else only.get(row) for row in places)

    def agreeing(self, columns: Sequence[str]) -> list[list[int]]:
        """The rows in groups with equal values in some columns."""
        groups: dict[tuple[Any, ...], list[int]] = {}
        for place, row in enumerate(self.rows):
            groups.setdefault(tuple(row.value(canonical(column)) for column in columns), []).append(place)
        return list(groups.values())


def _written(setting: Mapping[str, Any]) -> str:
    return ", ".join(f"{column} {value}" for column, value in setting.items())
