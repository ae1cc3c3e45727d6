"""pydantic's errors in plain words: where, what is wrong and what to write instead (no torch)."""

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from mixmae.fields.choice import ByName, Found
from mixmae.fields.model import FieldPath
from mixmae.fields.nearest import nearest

Error = dict[str, Any]
"""One error as pydantic describes it."""

_WANTED = {
    "float_type": "a number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "string_type": "text",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping (name: value lines)",
    "model_type": "a mapping (name: value lines)",
    "model_attributes_type": "a mapping (name: value lines)",
    "greater_than": "a number above {gt:g}",
    "greater_than_equal": "a number from {ge:g} up",
    "less_than": "a number below {lt:g}",
    "less_than_equal": "a number up to {le:g}",
    "literal_error": "{expected}",
}


def dotted(path: FieldPath) -> str:
    """`("sweeps", 0, "name")` as `sweeps[0].name`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def in_words(error: ValidationError, model: type[BaseModel], data: Any) -> Iterator[tuple[FieldPath, str]]:
    """Yields (path, what) for every error that `model` found in `data`, the alternatives of a choice in one."""
    errors = [(_user_path(item, data), item) for item in _errors(error)]
    deepest = {path for path, _ in errors}
    by_path: dict[FieldPath, list[Error]] = {}
    for path, item in errors:
        outdone = any(len(other) > len(path) and other[: len(path)] == path for other in deepest)
        if outdone and (item["type"] == "too_short" or _is_alternative(item)):
            continue
        by_path.setdefault(path, []).append(item)
    for path, items in by_path.items():
        yield path, _what(path, items, field_names(models_at(model, path[:-1], data)))


def _errors(error: ValidationError) -> list[Error]:
    return [dict(item) for item in error.errors(include_url=False)]


def _is_alternative(item: Error) -> bool:
    """Whether the error is one of several, a choice's alternative each, as `loc` says: (…, "literal['grid']")."""
    return bool(item["loc"]) and isinstance(item["loc"][-1], str) and "[" in item["loc"][-1]


def _user_path(item: Error, data: Any) -> FieldPath:
    """pydantic's `loc` without what it adds to the user's path: the tags and labels of a choice's alternatives."""
    path: list[str | int] = []
    here = data
    loc = item["loc"]
    for place, part in enumerate(loc):
        last = place == len(loc) - 1
        inside = isinstance(part, int) or (isinstance(here, dict) and part in here)
        if inside:
            path.append(part)
            here = _item(here, part)
        elif last and item["type"] == "missing":
            path.append(part)
    if item["type"] == "impossible":
        path += item["ctx"]["path"]
    return tuple(path)


def _item(data: Any, part: str | int) -> Any:
    try:
        return data[part]
    except (KeyError, IndexError, TypeError):
        return None


def _what(path: FieldPath, items: list[Error], fields: list[str]) -> str:
    """fields: the names that can stand at the path's end."""
    first = next((item for item in items if item["type"] not in _WANTED), items[0])
    kind, context = first["type"], first.get("ctx", {})
    if kind == "impossible":
        return str(context["what"])
    if kind == "extra_forbidden":
        return _unknown(str(path[-1]), fields)
    if kind == "missing":
        return "missing entry; write it" if isinstance(path[-1], int) else f"missing field; write {path[-1]}: …"
    if kind in ("too_short", "too_long"):
        bound = f"at least {context['min_length']}" if kind == "too_short" else f"at most {context['max_length']}"
        return f"expected {bound} entries, found {context['actual_length']}"
    if all(item["type"] in _WANTED for item in items):
        wanted = dict.fromkeys(_WANTED[item["type"]].format(**item.get("ctx", {})) for item in items)
        return f"expected {' or '.join(wanted)}, found {_found(first['input'])}{_near(first)}"
    return f"{first['msg'][:1].lower()}{first['msg'][1:]}, found {_found(first['input'])}"


def _unknown(name: str, fields: list[str]) -> str:
    if "." in name and name.split(".")[0] in fields:
        nested = name.replace(".", ": {") + ": …" + "}" * name.count(".")
        return f"unknown field; write {nested}; dotted paths stand at the top of a grid's set or case"
    near = nearest(name, fields)
    return f"unknown field (did you mean {near}?)" if near else f"unknown field; write one of {', '.join(fields)}"


def _near(item: Error) -> str:
    if item["type"] != "literal_error" or not isinstance(item["input"], str):
        return ""
    near = nearest(item["input"], _unquoted(item["ctx"]["expected"]))
    return f"; did you mean {near}?" if near else ""


def _unquoted(alternatives: str) -> list[str]:
    return alternatives.split("'")[1::2]


def _found(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"the text {value!r}"
    if isinstance(value, dict):
        return "a mapping"
    return "a list" if isinstance(value, list | tuple) else f"{value}"


# ----------------------------------------------------------------------------------------------------- models at a path


def models_at(model: type[BaseModel], path: FieldPath, data: Any) -> list[type]:
    """What can stand at a path of what `model` reads: models, or mappings by name. data: what was written."""
    models: list[type] = [model]
    for part in path:
        data = _item(data, part)
        if not isinstance(part, int):
            models = [below for one in models for below in _below(one, part, data)]
    return models


def field_names(models: list[type]) -> list[str]:
    """The names that can stand in any of these."""
    names = [one.names() if issubclass(one, ByName) else _fields(one) for one in models]
    return list(dict.fromkeys(name for some in names for name in some))


def _fields(model: type) -> dict[str, FieldInfo]:
    return model.model_fields if issubclass(model, BaseModel) else {}


def _below(one: type, part: str, written: Any) -> Iterator[type]:
    if issubclass(one, ByName):
        yield from one.models(part, written)
    elif part in _fields(one):
        yield from models_in(_fields(one)[part], written)


def models_in(annotation: Any, written: Any = None) -> Iterator[type]:
    """The models that a field so annotated can hold; of a choice that `written` makes, the one."""
    if isinstance(annotation, FieldInfo):
        marks: list[Any] = [mark for mark in annotation.metadata if isinstance(mark, Found)]
        for part in marks or (annotation.annotation,):
            yield from models_in(part, written)
    elif isinstance(annotation, Found):
        chosen = annotation.model(written)
        yield from [chosen] if chosen else annotation.models()
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel | ByName):
        yield annotation
    else:
        parts = get_args(annotation)
        marks = [part for part in parts if isinstance(part, Found)]
        for part in marks or parts:
            yield from models_in(part, written)
