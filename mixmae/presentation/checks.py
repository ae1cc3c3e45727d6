"""What of a grid's tables, plots and expectations is known before anything runs: columns that tables gain, and what
could never be shown (no torch, no pandas)."""

from collections.abc import Iterable, Iterator, Sequence

from mixmae.experiment.stages import evaluation_names, stages
from mixmae.fields.model import FieldPath
from mixmae.fields.nearest import instead, nearest
from mixmae.presentation.columns import ALIASES, canonical, label, paths, shown
from mixmae.presentation.comparisons import NotOneRow, compared_rows, summarised
from mixmae.presentation.declaration import Declaration, Expected, TableSpec
from mixmae.presentation.plots import plot_kinds
from mixmae.presentation.row import references
from mixmae.presentation.shown import MixedCell, Shown, cells, separating


def table_columns(runs: Sequence[Shown], table: TableSpec, declaration: Declaration) -> tuple[str, ...]:
    """What the rows of a table are told apart by. Raises MixedCell."""
    keys = tuple(map(canonical, table.asked))
    within = ["name", canonical(table.across)] if table.across else ["name"]
    if "method" not in (*keys, *within) and any(run.method in references() for run in runs):
        keys = ("method", *keys)
    return separating(runs, keys, within, tuple(declaration.swept))


def additions(declaration: Declaration) -> Iterator[str]:
    """Yields in words which columns tables gain beside those they name, and where the grid sweeps them."""
    for table in declaration.tables:
        names = {selected.name for selected in declaration.selected(table.stages, table.sweeps)}
        runs = [run for run in declaration.absent(table.sweeps) if run.name in names]
        try:
            columns = table_columns(runs, table, declaration)
        except MixedCell as error:
            yield f"table {table.name} cannot be made: {error}"
            continue
        for column in columns:
            if column not in map(canonical, table.asked):
                where = declaration.swept.get(column)
                yield f"table {table.name} gains the column {label(column)}" + (f" ({where})" if where else "")


def unmeasured(declaration: Declaration) -> Iterator[str]:
    """Yields in words which tables and plots name evaluations that no case has."""
    named = [(f"table {table.name}", table.stages) for table in declaration.tables]
    named += [(f"plot {plot.name}", tuple(plot.selects or ())) for plot in declaration.plots]
    for what, texts in named:
        for text in texts:
            if text.partition(".")[0] not in declaration.evaluations:
                yield f"{what} names {text}, which no experiment of this grid has: nothing will be shown of it"


def mistakes(declaration: Declaration) -> Iterator[tuple[FieldPath, str]]:
    """Yields where in the grid file something could never be shown, what is wrong and what to write instead."""
    runs = declaration.absent()
    known = _Known(runs, declaration)
    for place, table in enumerate(declaration.tables):
        named: list[tuple[FieldPath, str]] = [(("rows", number), column) for number, column in enumerate(table.rows)]
        named += [(("across",), table.across)] if table.across else []
        wrong = [*known.stages(("tables", place), table.stages)]
        wrong += known.columns(("tables", place), [*named, *_compared(table)])
        if primary := table.primary:
            wrong += known.stages(("tables", place, "primary"), (primary.evaluation,), ("evaluation",))
        yield from wrong
        if not wrong:
            yield from ((("tables", place, *path), what) for path, what in _incomparable(table, declaration))
    for place, plot in enumerate(declaration.plots):
        wrong = [*known.stages(("plots", place), plot.selects or ()), *known.columns(("plots", place), plot.paths)]
        yield from wrong
        if not wrong:
            yield from ((("plots", place), what) for what in plot_kinds[plot.kind].mistakes(plot, declaration))
    for place, expected in enumerate(declaration.expected):
        wrong = [*known.stages(("expected", place), (expected.stage,), ("stage",))]
        wrong += known.columns(("expected", place), [(("where", column), column) for column in expected.where])
        yield from wrong
        if not wrong and (what := _unmet(expected, runs, declaration)):
            yield ("expected", place), what


def _compared(table: TableSpec) -> Iterator[tuple[FieldPath, str]]:
    """Yields where a table says what it compares, and by which columns."""
    yield from ((("reference", column), column) for column in table.reference)
    yield from ((("within",), column) for column in table.within)
    for field, against in (("primary", table.primary), ("summary", table.summary)):
        if against:
            yield (field, "of", against.column), against.column
    if table.primary:
        yield from ((("primary", "within"), column) for column in table.primary.within)
    if table.summary:
        yield ("summary", "over"), table.summary.over


def _incomparable(table: TableSpec, declaration: Declaration) -> Iterator[tuple[FieldPath, str]]:
    """Yields what of a table could not be compared."""
    selected = declaration.selected(table.stages, table.sweeps)
    if primary := table.primary:
        decides = declaration.select(primary.evaluation)
        if decides.figure not in [one.figure for one in selected]:
            shown_ones = " or ".join(one.text for one in selected)
            what = f"the table does not show {primary.evaluation}; write {shown_ones}, or add it to its stages"
            yield ("primary", "evaluation"), what
            return
    names = {one.name for one in selected}
    runs = [run for run in declaration.absent(table.sweeps) if run.name in names]
    if table.primary and not any(run.name == decides.name for run in runs):
        yield ("primary", "evaluation"), f"no case that it shows has {decides.name}; write one that is measured"
        return
    try:
        columns = table_columns(runs, table, declaration)
        rows = [group[0] for _, group in cells(runs, columns)]
        compared_rows(table, columns, rows)
        if table.summary:
            summarised(table.summary, columns, rows)
    except MixedCell:  # which `additions` says
        return
    except NotOneRow as error:
        yield (error.field,), error.what


def check_asked(declaration: Declaration, stages: Sequence[str], columns: Sequence[str]) -> None:
    """Raises ValueError where a grid has not an evaluation, figure or column that is asked for."""
    known = _Known(declaration.absent(), declaration)
    for _, what in (*known.stages((), stages), *known.columns((), [((), column) for column in columns])):
        raise ValueError(what)


class _Known:
    """The columns and evaluations that a grid's entries can name."""

    def __init__(self, runs: Sequence[Shown], declaration: Declaration):
        self._runs, self._declaration = runs, declaration
        own = {f"evaluations.{run.name}.": run for run in runs}
        below = {
            prefix + path.removeprefix("evaluation."): None
            for prefix, run in own.items()
            for path in run.declared
            if path.startswith("evaluation.")
        }
        self._paths = dict.fromkeys(path for run in runs for path in run.declared) | below

    def columns(self, place: FieldPath, named: Iterable[tuple[FieldPath, str]]) -> Iterator[tuple[FieldPath, str]]:
        for path, column in named:
            if column not in ALIASES and column not in self._paths:
                known = [*paths(run.declared for run in self._runs), *self._paths]
                near = nearest(column, known)
                what = f"did you mean {near}?" if near else f"write one of {', '.join(ALIASES)}, or a dotted path"
                yield (*place, *path), f"no case has {column}; {what}"

    def stages(self, place: FieldPath, texts: Sequence[str], path: FieldPath = ()) -> Iterator[tuple[FieldPath, str]]:
        names = list(dict.fromkeys((*evaluation_names(), *self._declaration.evaluations)))
        for number, text in enumerate(texts):
            where = (*place, *(path or ("stages", number)))
            name, dot, metric = text.partition(".")
            if name not in names:
                quoted = [repr(one) for one in names]
                expected = " or ".join(filter(None, (", ".join(quoted[:-1]), quoted[-1])))
                near = nearest(name, names)
                yield (
                    where,
                    f"expected {expected}, found the text {text!r}" + (f"; did you mean {near}?" if near else ""),
                )
                continue
            metrics = [one.name for one in stages[self._declaration.evaluations.get(name, name)].metrics]
            if dot and metric not in metrics:
                yield where, f"{name} measures no {metric!r}; {instead(metric, metrics)}"


def _unmet(expected: Expected, runs: Sequence[Shown], declaration: Declaration) -> str | None:
    """Names the values there are of the first column that none has as asked."""
    selected = declaration.select(expected.stage)
    cases = [run for run in runs if run.name == selected.name]
    if any(run.meets(expected.where) for run in cases):
        return None
    for column, wanted in expected.where.items():
        if not any(run.meets({column: wanted}) for run in cases):
            there = sorted({shown_plainly(column, run.value(column)) for run in cases})
            known = ", ".join(there) or "those it runs"
            return f"no {selected.stage} of this grid has {column} {wanted}; write one of {known}"
    where = ", ".join(f"{column} {wanted}" for column, wanted in expected.where.items())
    return f"no {selected.stage} of this grid has all of {where}; name fewer"


def shown_plainly(column: str, value: object) -> str:
    """A value as a grid file writes it."""
    return shown(column, value) if isinstance(value, tuple) else str(value)
