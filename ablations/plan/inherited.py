"""What the methods of a grid take from a recipe that was made for another method (no torch).

A pretraining's rates and batch suit the method that they were tried with. A recipe names those methods in `tuned_for`;
else it is the one that the recipe itself chooses.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ablations.grid.file import Case
from ablations.grid.scale import OWN_AT_SCALE, recipe_of_scale
from mixmae.experiment.reading import load_base, settled, tuned_for
from mixmae.fields.documents import Value, find, load, name_of
from mixmae.methods.methods import methods

Fields = tuple[str, ...]


def untuned(path: Path, cases: Sequence[Case], scale: str | None = None) -> list[str]:
    """Sentences on what `cases` take from the base of the file at `path`, at a scale from the scale's recipe, which was
    made for other methods: fields of the pretraining, and defaults where it sets fields for its own method alone."""
    base = _base(path, scale)
    made_for = _made_for(base[1]) if base else []
    others = [case for case in cases if case.experiment.spec.pretrains and case.experiment.method.name not in made_for]
    if base is None or not made_for:
        return []
    named, document = base
    own = " and ".join(made_for)
    taken = _by_method(others, lambda case: _taken(document, case, scale))
    lines = [
        f"{' and '.join(names)}: {', '.join(fields)} of pretrain are those of {named}, made for {own}"
        for fields, names in taken.items()
    ]
    if scale is None:
        left = _by_method(others, lambda case: _left(document, case))
        lines += [
            f"{' and '.join(names)}: {', '.join(fields)} are the method's defaults, while {named} sets them for {own}"
            for fields, names in left.items()
        ]
    return lines


def _base(path: Path, scale: str | None) -> tuple[str, Value] | None:
    """The name and the document of what the cases are laid over, if anything."""
    if scale is not None:
        return recipe_of_scale(scale)
    written = find(load(path), ("base",))
    return None if written is None else (str(written.data), load_base(written, (path.resolve(),)))


def _made_for(base: Value) -> list[str]:
    """The methods that its pretraining was made for."""
    if (said := tuned_for(base)) is not None:
        return said
    chosen = find(base, ("method",))
    own = name_of(chosen) if chosen is not None else None
    return [own] if own is not None and methods[own].pretrains else []


def _by_method(cases: Sequence[Case], fields_of: Callable[[Case], Iterator[str]]) -> dict[Fields, dict[str, None]]:
    """The methods of the cases by the fields that they have, without those that have none."""
    found: dict[Fields, dict[str, None]] = {}
    for case in cases:
        if fields := tuple(fields_of(case)):
            found.setdefault(fields, {})[case.experiment.method.name] = None
    return found


def _taken(base: Value, case: Case, scale: str | None) -> Iterator[str]:
    """Yields the fields of the pretraining that stand in the base and nowhere above it."""
    recipe = find(base, ("pretrain",))
    for name in recipe.data if recipe is not None and isinstance(recipe.data, dict) else ():
        path = ("pretrain", name)
        inherited = name not in OWN_AT_SCALE if scale else find(case.document, path) == find(base, path)
        if inherited:
            yield name


def _left(base: Value, case: Case) -> Iterator[str]:
    """Yields the fields that the base sets for its own method, and that nobody sets for the case's, which has them."""
    chosen = find(settled(base), ("method",))
    fields = methods[case.experiment.method.name].config.model_fields
    for name in chosen.data if chosen is not None and isinstance(chosen.data, dict) else ():
        if name != "name" and name in fields and find(case.document, ("method", name)) is None:
            yield name
