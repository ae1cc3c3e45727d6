"""What makes two configs the same: a hash over every field that changes what is computed.

A field is left out of the hash when it is marked `Recorded` (paths, workers: where and how, not what), or `Neutral(v)`
and equal to v (fields added after ids were first handed out, so that older ids stay valid).
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import BaseModel

Key = tuple[str, str]
"""(stage, id): names a run."""


class Recorded:
    """Marks a field that is written down but does not change what is computed."""


@dataclass(frozen=True)
class Neutral:
    """Marks a field added later; at `value` it is left out of the hash."""

    value: Any


def hashed_fields(value: Any) -> Any:
    """`value` as plain JSON data, holding only what counts for identity."""
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, BaseModel):
        values = vars(value)
        return {
            name: hashed_fields(values[name])
            for name, neutral in _fields_that_count(type(value))
            if not (neutral and values[name] in neutral)
        }
    if isinstance(value, list | tuple):
        return [hashed_fields(item) for item in value]
    return {key: hashed_fields(item) for key, item in value.items()}


@cache
def _fields_that_count(model: type[BaseModel]) -> tuple[tuple[str, tuple], ...]:
    """Names of the fields that are not Recorded, each with its Neutral values."""
    return tuple(
        (name, tuple(mark.value for mark in field.metadata if isinstance(mark, Neutral)))
        for name, field in model.model_fields.items()
        if Recorded not in field.metadata
    )


def identity(config: BaseModel, **more: Any) -> str:
    """16 hex digits naming `config` together with `more` (such as a data fingerprint)."""
    text = json.dumps({"config": hashed_fields(config), **more}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
