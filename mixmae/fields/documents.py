"""YAML documents that remember where everything was written, laid over each other and read into models (no torch).

YAML is read by the core schema of YAML 1.2: `1e-4` and `3e8` are numbers, only true and false are truth values, there
are no sexagesimals and no dates. A key given twice is refused. Every error is a line `file:line:col: path: what is
wrong, and what to write instead`.
"""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from mixmae.fields.messages import dotted, in_words
from mixmae.fields.model import FieldPath

CHOICES = ("method", "encoder", "data")
"""Fields of an experiment that choose by name: another name replaces what was there, the same name adds to it."""
WHOLES = ("budget",)
"""Fields whose mappings are not merged: what is written later replaces what was there."""
SAID_OF = {"methods": "method"}
"""Fields that say of each name what it has where it is chosen, with the field that chooses. Of one layer, what is
written for the choice itself wins; a later layer wins over an earlier one."""


Parsed = TypeVar("Parsed", bound=BaseModel)


class ConfigError(ValueError):
    """What the user wrote cannot be used: one line an error."""

    def __init__(self, lines: list[str]):
        super().__init__("\n".join(lines))
        self.lines = lines


@dataclass(frozen=True, order=True)
class Mark:
    """A place in a file, counted from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"

    def error(self, what: str, path: FieldPath = ()) -> ConfigError:
        return ConfigError([self.complaint(what, path)])

    def complaint(self, what: str, path: FieldPath = ()) -> str:
        return ": ".join([str(self), *([dotted(path)] if path else []), what])


@dataclass(frozen=True)
class Value:
    """A scalar, a list of Value or a mapping to Value, and where it was written (an entry of a mapping: its key)."""

    data: Any
    mark: Mark


# ------------------------------------------------------------------------------------------------------- reading YAML


class _CoreLoader(yaml.SafeLoader):
    """PyYAML with the scalar rules of YAML 1.2's core schema instead of those of YAML 1.1."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - the name and the kind of attribute are PyYAML's


_RULES = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
}


for _kind, (_pattern, _first) in _RULES.items():
    _CoreLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(f"^(?:{_pattern})$"), _first)


_SCALARS: dict[str, Callable[[str], Any]] = {
    "tag:yaml.org,2002:null": lambda text: None,
    "tag:yaml.org,2002:bool": lambda text: text.lower() == "true",
    "tag:yaml.org,2002:int": lambda text: int(text, 0) if text[:2] in ("0o", "0x") else int(text),
    "tag:yaml.org,2002:float": lambda text: float(text.replace(".inf", "inf").replace(".nan", "nan")),
    "tag:yaml.org,2002:str": lambda text: text,
}


def load(path: Path) -> Value:
    """The document in the UTF-8 file at `path`. Raises ConfigError."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}; write the path of a YAML file"]) from None
    try:
        return parse(raw.decode("utf-8-sig"), str(path))
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        mark = Mark(str(path), before.count(b"\n") + 1, error.start - before.rfind(b"\n"))
        raise mark.error("not UTF-8 text; save the file as UTF-8") from None


def parse(text: str, file: str) -> Value:
    """The document in `text`; `file` is the name that errors give it. Raises ConfigError."""
    try:
        node = yaml.compose(text, Loader=_CoreLoader)
    except yaml.MarkedYAMLError as error:
        raise _mark(file, error.problem_mark or error.context_mark).error(_syntax(error)) from None
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        mark = Mark(file, before.count("\n") + 1, error.position - before.rfind("\n"))
        raise mark.error(f"the character U+{ord(text[error.position]):04X} is not allowed; remove it") from None
    except RecursionError:
        raise Mark(file, 1, 1).error("nested too deeply; write fewer levels") from None
    if node is None:
        raise Mark(file, 1, 1).error("the file is empty; write at least one `name: value`")
    return _value(node, _mark(file, node.start_mark), file, ())


def _mark(file: str, mark: Any) -> Mark:
    return Mark(file, mark.line + 1, mark.column + 1)


def _syntax(error: yaml.MarkedYAMLError) -> str:
    if "'\\t'" in (error.problem or ""):
        return "a tab cannot indent; write spaces"
    problem = " ".join(part for part in (error.context, error.problem) if part)
    return f"not YAML: {problem}"


def _value(node: yaml.Node, mark: Mark, file: str, around: tuple[yaml.Node, ...]) -> Value:
    """`around` holds the nodes that `node` lies in, to find an alias of one of them."""
    place = _mark(file, node.start_mark)
    if node in around:
        raise place.error("an alias of what it lies in; write the value out")
    around = (*around, node)
    if isinstance(node, yaml.MappingNode):
        return Value(_mapping(node, file, around), mark)
    if isinstance(node, yaml.SequenceNode):
        return Value([_value(item, _mark(file, item.start_mark), file, around) for item in node.value], mark)
    if node.tag not in _SCALARS:
        raise place.error(f"the tag {node.tag} is not known here; write a plain value")
    try:
        data = _SCALARS[node.tag](node.value)
    except ValueError:
        raise place.error(f"{node.value!r} does not fit its tag; write a plain value") from None
    if isinstance(data, float) and not math.isfinite(data):
        raise place.error(f"{node.value} is not a finite number; write one")
    return Value(data, mark)


def _mapping(node: yaml.MappingNode, file: str, around: tuple[yaml.Node, ...]) -> dict[str, Value]:
    entries: dict[str, Value] = {}
    for key, item in node.value:
        place = _mark(file, key.start_mark)
        if not isinstance(key, yaml.ScalarNode):
            raise place.error("a name is expected before the colon; write name: value")
        if key.value in entries:
            first = entries[key.value].mark
            raise place.error(f"given twice, first on line {first.line}; write it once", (key.value,))
        entries[key.value] = _value(item, place, file, around)
    return entries


# ------------------------------------------------------------------------------------- documents as trees of values


def plain(value: Value) -> Any:
    """The data alone."""
    if isinstance(value.data, dict):
        return {name: plain(item) for name, item in value.data.items()}
    if isinstance(value.data, list):
        return [plain(item) for item in value.data]
    return value.data


def find(value: Value, path: FieldPath) -> Value | None:
    """What stands at `path`; None where nothing does."""
    for part in path:
        data = dict(enumerate(value.data)) if isinstance(value.data, list) else value.data
        if not isinstance(data, dict) or part not in data:
            return None
        value = data[part]
    return value


def mark_of(value: Value, path: FieldPath) -> Mark:
    """Where `path` was written, or the nearest thing around it that was."""
    while (written := find(value, path)) is None:
        path = path[:-1]
    return written.mark


def assign(value: Value, path: FieldPath, new: Value) -> Value:
    """`value` with `new` laid over what stands at `path`; mappings on the way are made where there are none."""
    for part in reversed(path):
        new = Value({part: new}, new.mark)
    return overlay(value, new)


def overlay(below: Value, above: Value, choices: tuple[str, ...] = CHOICES) -> Value:
    """`above` laid over `below`: mappings are merged (but see CHOICES), anything else replaces."""
    if not (isinstance(below.data, dict) and isinstance(above.data, dict)):
        return above
    merged = dict(below.data)
    if choices:
        merged |= {field: item for said, field in SAID_OF.items() for item in _told(merged.get(field), above, said)}
    for name, item in above.data.items():
        if name in choices:
            merged[name] = _chosen(merged.get(name), item)
        else:
            merged[name] = overlay(merged[name], item, ()) if name in merged and name not in WHOLES else item
    return Value(merged, below.mark)


def _told(chosen: Value | None, above: Value, said: str) -> Iterator[Value]:
    """Yields what was chosen below with what `above` says of it, if anything."""
    more = chosen and find(above, (said, name_of(chosen) or ""))
    if chosen is not None and more is not None and isinstance(more.data, dict):
        yield overlay(_by_name(chosen), more, ())


def name_of(choice: Value) -> str | None:
    """The name that a field chooses; None where it is not written."""
    named = find(_by_name(choice), ("name",))
    return named.data if named is not None and isinstance(named.data, str) else None


def as_chosen(document: Value) -> Value:
    """A document of all layers with what is said of each name laid below what is written for the one that is chosen;
    without the fields that say so."""
    laid = {name: item for name, item in document.data.items() if name not in SAID_OF}
    for said, field in SAID_OF.items():
        more = find(document, (said, name_of(laid[field]) or "")) if field in laid else None
        if more is not None:
            laid[field] = overlay(more, _by_name(laid[field]), ())
    return Value(laid, document.mark)


def _chosen(below: Value | None, above: Value) -> Value:
    above = _by_name(above)
    if below is None:
        return above
    below = _by_name(below)
    if isinstance(above.data, dict) and isinstance(below.data, dict):
        for key in ("name", "family"):
            if key in above.data and (key not in below.data or above.data[key].data != below.data[key].data):
                return above
    return overlay(below, above, ())


def _by_name(value: Value) -> Value:
    return Value({"name": value}, value.mark) if isinstance(value.data, str) else value


# --------------------------------------------------------------------------------------------------- reading models


def validated(model: type[Parsed], document: Value) -> Parsed:
    """The document as a `model`. Raises ConfigError with one line for every error in it."""
    try:
        return model.model_validate(plain(document))
    except ValidationError as error:
        complaints = [(mark_of(document, path), path, what) for path, what in in_words(error, model, plain(document))]
        raise ConfigError([mark.complaint(what, path) for mark, path, what in sorted(complaints, key=_place)]) from None


def _place(complaint: tuple[Mark, FieldPath, str]) -> tuple[Mark, str]:
    mark, path, _ = complaint
    return mark, dotted(path)
