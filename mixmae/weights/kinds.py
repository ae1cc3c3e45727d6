"""The kinds of official weights there are: those of every method and every encoder family (no torch)."""

from functools import cache

from mixmae.encoders.families import families
from mixmae.encoders.kinds import OfficialKind
from mixmae.fields.nearest import instead
from mixmae.methods.methods import methods


@cache
def kinds() -> dict[str, OfficialKind]:
    return {kind.name: kind for spec in (*methods, *families) for kind in spec.official()}


def kind_of(name: str) -> OfficialKind:
    """Returns the kind of that name. Raises ValueError where there is none."""
    if name not in kinds():
        raise ValueError(f"{name}: no such kind of weights; {instead(name, kinds())}")
    return kinds()[name]
