"""How a sweep expands into documents, one for every case (no torch)."""

from collections.abc import Iterator
from itertools import product

from pydantic import BaseModel

from ablations.grid.trials import Trials, drawn
from mixmae.experiment.experiment import Experiment
from mixmae.experiment.reading import length_of, settled
from mixmae.fields.choice import ByName
from mixmae.fields.documents import CHOICES, SAID_OF, Mark, Value, assign, find, name_of, plain
from mixmae.fields.messages import dotted, field_names, models_at
from mixmae.fields.nearest import instead

# ---------------------------------------------------------------------------------------------------------- expansion

Assignment = tuple[str, Value]


def _trees(base: Value, sweep: Value) -> Iterator[tuple[Value, Value | None]]:
    """Yields one document for every case of the sweep that is not excluded, and where its budget is said in the epochs
    of another method, what the case is with that method."""
    laid, excluded = _with_set(base, sweep), _entries(sweep, "exclude")
    dropped = [0] * len(excluded)
    kept = 0
    for combination in product(*_axes(sweep)):
        assignments = [assignment for part in combination for assignment in part]
        tree = settled(_assigned(laid, assignments))
        hits = [place for place, entry in enumerate(excluded) if _matches_all(tree, entry)]
        for place in hits:
            dropped[place] += 1
        if not hits:
            kept += 1
            yield tree, _with_the_other(base, sweep, assignments, tree)
    for count, entry in zip(dropped, excluded, strict=True):
        if not count:
            raise entry.mark.error("matches no case; correct it or leave it out", ("exclude",))
    if not kept:
        raise sweep.mark.error("every case is excluded; exclude fewer", (sweep.data["name"].data,))


def _with_the_other(base: Value, sweep: Value, assignments: list[Assignment], tree: Value) -> Value | None:
    other = length_of(tree)
    if other is None or other == name_of(tree.data["method"]):
        return None
    every = (*_mapping(sweep, "set"), *assignments)
    kept = [assignment for assignment in every if assignment[0].split(".")[0] != "method"]
    return settled(_assigned(base, [*kept, ("method", Value(other, sweep.mark))]))


def _axes(sweep: Value) -> list[list[list[Assignment]]]:
    """The independent choices of a sweep: each a list of alternatives, each a list of assignments."""
    axes = [[[(name, value)] for value in _filled(values, name)] for name, values in _mapping(sweep, "product")]
    walked = [[(name, value) for value in _filled(values, name)] for name, values in _mapping(sweep, "zip")]
    if walked:
        _check_lengths(_mapping(sweep, "zip"))
        axes.append([list(together) for together in zip(*walked, strict=True)])
    if "list" in sweep.data:
        axes.append([list(case.data.items()) for case in _filled(sweep.data["list"], "list")])
    if "trials" in sweep.data:
        axes.append(_trials(sweep.data["trials"]))
    _check_set_once(axes)
    return axes


def _trials(block: Value) -> list[list[Assignment]]:
    marks = {path: value.mark for path, value in _mapping(block, "draw")}
    settings = drawn(Trials.model_validate(plain(block)))
    return [[(path, Value(value, marks[path])) for path, value in setting.items()] for setting in settings]


def _mapping(block: Value, name: str) -> list[tuple[str, Value]]:
    return list(block.data[name].data.items()) if name in block.data else []


def _entries(block: Value, name: str) -> list[Value]:
    entries: list[Value] = block.data[name].data if name in block.data else []
    return entries


def _filled(values: Value, name: str) -> list[Value]:
    if not values.data:
        raise values.mark.error("an empty list; write at least one value", (name,))
    filled: list[Value] = values.data
    return filled


def _check_lengths(lists: list[tuple[str, Value]]) -> None:
    first, values = lists[0]
    for name, others in lists[1:]:
        if len(others.data) != len(values.data):
            what = f"{len(others.data)} values beside the {len(values.data)} of {first}; write lists of one length"
            raise others.mark.error(what, ("zip", name))


def _check_set_once(axes: list[list[list[Assignment]]]) -> None:
    seen: dict[str, Mark] = {}
    for axis in axes:
        own = {name: value.mark for alternative in axis for name, value in alternative}
        for name, mark in own.items():
            if name in seen:
                what = f"is swept twice, first on line {seen[name].line}; leave one of them out"
                raise mark.error(what, tuple(name.split(".")))
        seen |= own


def _with_set(tree: Value, block: Value) -> Value:
    """`tree` with the block's `set:` laid over it."""
    return _assigned(tree, _mapping(block, "set"))


def _assigned(tree: Value, assignments: list[Assignment]) -> Value:
    """`tree` with every value laid over its dotted path, wholes before their parts, and what is said of every method
    before what is said of the one that is chosen."""
    for name, value in sorted(assignments, key=_rank):
        path = tuple(name.split("."))
        _check_leads_somewhere(tree, path, value.mark)
        tree = assign(tree, path, value)
    return tree


def _rank(assignment: Assignment) -> tuple[bool, int]:
    path = assignment[0].split(".")
    return path[0] not in SAID_OF, len(path)


def _check_leads_somewhere(tree: Value, path: tuple[str, ...], mark: Mark) -> None:
    for depth in range(1, len(path)):
        around = path[:depth]
        if around[0] in SAID_OF:
            return
        value = find(tree, around)
        there = value is not None and (isinstance(value.data, dict) or (around[0] in CHOICES and value.data))
        if not there and not (value is None and _made_by_default(around)):
            known, whole = _names_at(tree, around[:-1]), f"write {dotted(around)}: {{…}} as a whole first"
            what = whole if around[-1] in known else instead(around[-1], known, whole)
            raise mark.error(f"leads into nothing, there is no {dotted(around)} here; {what}", path)


def _made_by_default(path: tuple[str, ...]) -> bool:
    models = models_at(Experiment, path[:-1], {})
    fields = [
        model.model_fields[path[-1]]
        for model in models
        if issubclass(model, BaseModel) and path[-1] in model.model_fields
    ]
    return any(isinstance(field.default, BaseModel | ByName) for field in fields)


def _names_at(tree: Value, path: tuple[str, ...]) -> list[str]:
    """Fields and names that can stand at a path of an experiment."""
    return field_names(models_at(Experiment, path, plain(tree)))


def _matches_all(tree: Value, entry: Value) -> bool:
    return all(_matches(find(tree, tuple(name.split("."))), wanted) for name, wanted in entry.data.items())


def _matches(value: Value | None, wanted: Value) -> bool:
    """Whether `value` is `wanted`; a choice such as a method is matched by its name."""
    if value is None:
        return wanted.data is None
    if isinstance(value.data, dict) and isinstance(wanted.data, str):
        return "name" in value.data and bool(value.data["name"].data == wanted.data)
    if isinstance(value.data, dict) and isinstance(wanted.data, dict):
        return all(_matches(value.data.get(name), item) for name, item in wanted.data.items())
    return bool(plain(value) == plain(wanted))
