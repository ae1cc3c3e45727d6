"""Kinds of official weights: how their names become ours, what their constructor took, and their terms (no torch)."""

from dataclasses import dataclass

from mixmae.encoders.arguments import Arguments
from mixmae.encoders.keys import KeyMap


@dataclass(frozen=True)
class Licence:
    """terms: in words. hub: the Hugging Face Hub's name for them. repository: where they are stated."""

    terms: str
    hub: str
    repository: str


@dataclass(frozen=True)
class OfficialKind:
    """name: as `mixmae weights import --as` takes it."""

    name: str
    keys: KeyMap
    arguments: type[Arguments]
    licence: Licence
