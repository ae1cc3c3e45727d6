"""What makes two configs the same: a hash over every field that changes what is computed.

A field is left out of the hash when it is marked `Recorded` (paths, workers: where and how, not what), or `Neutral(v)`
and equal to v (fields added after ids were first handed out, so that older ids stay valid).
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic.fields import FieldInfo

from mixmae.fields.messages import models_in
from mixmae.fields.model import Model

Key = tuple[str, str]
"""(stage, id): names a run."""


class Recorded:
    """Marks a field that is written down but does not change what is computed."""


@dataclass(frozen=True)
class Neutral:
    """Marks a field added later; at `value` it is left out of the hash."""

    value: Any


def computed(model: type[Model], written: Mapping[str, Any]) -> dict[str, Any]:
    """What counts of the plain data of a `model`, as JSON has it: without fields that are Recorded, and without those
    that are Neutral at that value. A field that `model` does not have, of another version or a plug-in, counts."""
    fields, parts = _fields(model), model.parts(written)
    counted: dict[str, Any] = {}
    for name, value in written.items():
        recorded, neutral, field = fields.get(name, _PLAIN)
        if recorded or value in neutral:
            continue
        inner = parts.get(name) or (field and isinstance(value, dict) and next(models_in(field, value), None))
        if inner and isinstance(value, dict) and issubclass(inner, Model):
            value = computed(inner, value)
        counted[name] = value
    return counted


def completed(model: type[Model], written: Mapping[str, Any]) -> dict[str, Any]:
    """The plain data of a `model` with the fields that were added after it was written, at their Neutral value."""
    fields, parts = _fields(model), model.parts(written)
    full = dict(written)
    for name, (_, neutral, field) in fields.items():
        value = full.get(name)
        if name not in full and neutral:
            full[name] = list(neutral[0]) if isinstance(neutral[0], tuple) else neutral[0]
        elif isinstance(value, dict):
            inner = parts.get(name) or (field and next(models_in(field, value), None))
            if inner and issubclass(inner, Model):
                full[name] = completed(inner, value)
    return full


_PLAIN: tuple[bool, tuple[Any, ...], FieldInfo | None] = (False, (), None)


@cache
def _fields(model: type[Model]) -> dict[str, tuple[bool, tuple[Any, ...], FieldInfo | None]]:
    """Maps each field to whether it is Recorded, its Neutral values, and itself where it can hold models."""
    return {
        name: (
            Recorded in field.metadata,
            tuple(mark.value for mark in field.metadata if isinstance(mark, Neutral)),
            field if next(models_in(field), None) is not None else None,
        )
        for name, field in model.model_fields.items()
    }


canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode
"""canonical(data): the one text of plain data."""


def identity(config: Model, **more: Any) -> str:
    """16 hex digits naming `config` together with `more` (such as a data fingerprint)."""
    text = canonical({"config": computed(type(config), config.model_dump(mode="json")), **more})
    return hashlib.sha256(text.encode()).hexdigest()[:16]
