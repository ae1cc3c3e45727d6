"""The evaluations of an experiment: recipes by name (no torch)."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, create_model
from pydantic_core import PydanticKnownError, core_schema

from mixmae.experiment.stages import StageSpec, evaluation_names, stages
from mixmae.fields.choice import ByName
from mixmae.fields.model import Model, impossible
from mixmae.fields.nearest import instead
from mixmae.fields.specs import UnknownName

RESERVED = ("kind", "start")
"""Fields of an entry that are not its recipe's."""
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class Evaluation:
    """name: by which tables and plots know it. start: the name of the evaluation whose encoder it starts from; None:
    the pretraining's, or what stands in its place."""

    name: str
    kind: str
    recipe: Model
    start: str | None = None

    @property
    def spec(self) -> StageSpec:
        return stages[self.kind]


class Evaluations(ByName):
    """Evaluations in the order in which they are written, by names that differ.

    As a mapping NAME: {kind: …, start: …, and the fields of the kind's recipe}; the kind is the name unless it is said.
    """

    def __init__(self, entries: tuple[Evaluation, ...] = ()):
        self.entries = entries

    def __iter__(self) -> Iterator[Evaluation]:
        return iter(self.entries)

    def __getitem__(self, name: str) -> Any:
        """The recipe of that name. Raises KeyError."""
        return next(entry.recipe for entry in self.entries if entry.name == name)

    def get(self, name: str) -> Evaluation | None:
        return next((entry for entry in self.entries if entry.name == name), None)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Evaluations) and self.entries == other.entries

    def __hash__(self) -> int:
        return hash(self.entries)

    def __repr__(self) -> str:
        return f"Evaluations({self.entries!r})"

    # ------------------------------------------------------------------------------------------------------- reading

    @classmethod
    def names(cls) -> list[str]:
        return evaluation_names()

    @classmethod
    def models(cls, name: str, written: Any) -> Iterator[type[Model]]:
        kind = written.get("kind", name) if isinstance(written, dict) else name
        if isinstance(kind, str) and (spec := stages.get(kind)):
            yield spec.recipe

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        dumped = core_schema.plain_serializer_function_ser_schema(
            lambda evaluations, info: evaluations.dumped(info.mode), info_arg=True
        )
        return core_schema.no_info_plain_validator_function(cls._validated, serialization=dumped)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        kinds = {spec.name: _entry_schema(spec, handler) for spec in stages if spec.measures}
        plugged_in = {"type": "object", "properties": {"kind": {"type": "string", "not": {"enum": [*kinds]}}}}
        return {
            "type": "object",
            "properties": {name: {"anyOf": [entry, {"type": "null"}]} for name, entry in kinds.items()},
            "additionalProperties": {"anyOf": [*kinds.values(), plugged_in, {"type": "null"}]},
        }

    def dumped(self, mode: str) -> dict[str, Any]:
        entries = {}
        for entry in self.entries:
            said = {"kind": entry.kind} if entry.kind != entry.name else {}
            said |= {"start": entry.start} if entry.start else {}
            entries[entry.name] = {**said, **entry.recipe.model_dump(mode=mode)}
        return entries

    @classmethod
    def _validated(cls, value: Any) -> "Evaluations":
        if isinstance(value, cls):
            return value
        if not isinstance(value, dict):
            raise PydanticKnownError("model_attributes_type")
        kinds = {name: kind for name, written in value.items() if (kind := _kind(name, written))}
        recipes = {name: _without_reserved(written) for name, written in value.items()}
        read = _together(tuple(kinds.items())).model_validate(recipes)
        entries = []
        for name, kind in kinds.items():
            if (recipe := getattr(read, name)) is not None:
                entries.append(Evaluation(name, kind, recipe, value[name].get("start")))
        evaluations = cls(tuple(entries))
        evaluations._check_starts()
        return evaluations

    def _check_starts(self) -> None:
        """Raises the error of a config field where an entry starts from none that leaves an encoder, or in a circle."""
        for entry in self.entries:
            if entry.start is None:
                continue
            others = [one.name for one in self.entries if one.name != entry.name and one.spec.leaves_encoder]
            if entry.start not in others:
                what = instead(str(entry.start), others) if others else "leave it out"
                raise impossible((entry.name, "start"), f"no evaluation {entry.start!r} that trains an encoder; {what}")
            seen, after = {entry.name}, self.get(entry.start)
            while after is not None and after.start is not None:
                if after.name in seen:
                    raise impossible((entry.name, "start"), "leads back to itself; leave one of them out")
                seen.add(after.name)
                after = self.get(after.start)


def _entry_schema(spec: StageSpec, handler: GetJsonSchemaHandler) -> dict[str, Any]:
    """The schema of an entry of this kind: its recipe, the kind itself, and where it starts."""
    recipe = handler.resolve_ref_schema(spec.recipe.json_schema(handler))
    own = {"kind": {"const": spec.name}, "start": {"type": "string"}}
    return {**recipe, "properties": {**recipe["properties"], **own}}


def _kind(name: str, written: Any) -> str | None:
    """The kind that an entry asks for; None where its name is that of none, which is an unknown field."""
    if isinstance(written, dict) and "kind" in written:
        if not _NAME.fullmatch(name):
            raise impossible((name,), "is no name of an evaluation; write letters, digits, - and _, a letter first")
        return _existing(written["kind"], (name, "kind"))
    return _existing(name, (name,)) if name in evaluation_names() else None


def _existing(kind: Any, path: tuple[str, ...]) -> str:
    """The kind as it is. Raises the error of a config field where there is none of that name."""
    if ":" not in str(kind) and kind not in evaluation_names():
        raise impossible(path, f"no evaluation {kind!r}; {instead(str(kind), evaluation_names())}")
    try:
        return stages[str(kind)].name
    except UnknownName as error:
        raise impossible(path, str(error)) from None


def _without_reserved(written: Any) -> Any:
    if not isinstance(written, dict):
        return written
    return {name: value for name, value in written.items() if name not in RESERVED}


@lru_cache
def _together(kinds: tuple[tuple[str, str], ...]) -> type[Model]:
    """A model with one recipe a name, so that all errors are found at once, each at its place."""
    fields: dict[str, Any] = {name: (stages[kind].recipe | None, None) for name, kind in kinds}
    return create_model("Recipes", __base__=Model, **fields)
