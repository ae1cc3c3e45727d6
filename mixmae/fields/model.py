"""The base of every config model, the kinds of numbers in them, and the error for a field that cannot be (no torch)."""

import ast
import inspect
import textwrap
import unicodedata
from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    StrictInt,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, PydanticCustomError

Positive = Annotated[int, Field(gt=0)]


NotNegative = Annotated[float, Field(ge=0)]


Fraction = Annotated[float, Field(gt=0, le=1)]


Ratio = Annotated[float, Field(gt=0, lt=1)]


Ints = Annotated[tuple[Annotated[StrictInt, Field(gt=0)], ...], Field(strict=False, min_length=2, max_length=4)]


Betas = Annotated[tuple[Ratio, Ratio], Field(strict=False)]


Range = Annotated[tuple[float, float], Field(strict=False)]


def square(value: Any) -> Any:
    """One number for a square's two sides."""
    return (value, value) if isinstance(value, int) and not isinstance(value, bool) else value


_SIDE = {"type": "integer", "exclusiveMinimum": 0}

Size = Annotated[
    tuple[Annotated[StrictInt, Field(gt=0)], StrictInt],
    Field(strict=False),
    BeforeValidator(square),
    WithJsonSchema({"anyOf": [_SIDE, {"type": "array", "items": _SIDE, "minItems": 2, "maxItems": 2}]}),
]
"""Height and width in pixels; one number is a square."""


WorkedOut = Field(json_schema_extra={"worked_out": True})
"""Marks a field that need not be written, since the model makes its value of others."""


class Model(BaseModel):
    """Frozen, strict about types, refusing unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)

    @classmethod
    def parts(cls, written: Mapping[str, Any]) -> Mapping[str, type["Model"]]:
        """The models of fields whose annotation does not name them, by what is written beside them."""
        return {}

    @classmethod
    def json_schema(cls, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Its JSON schema, within that of a field whose model is looked up."""
        return cls.__get_pydantic_json_schema__(cls.__pydantic_core_schema__, handler)

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Describes fields by the strings below them. Pydantic would read the source at every import for them."""
        schema = handler(core_schema)
        properties = handler.resolve_ref_schema(schema).get("properties", {})
        for model in cls.__mro__[: cls.__mro__.index(Model)]:
            for name, text in _docstrings(model).items():
                properties.get(name, {}).setdefault("description", text)
        return schema


def _docstrings(model: type[Model]) -> dict[str, str]:
    """The strings below the fields of a class, as its source has them; none where there is no source to read."""
    try:
        source = inspect.getsource(model)
    except (OSError, TypeError):  # such as a class that was made by a call, or typed in
        return {}
    (of_class,) = ast.parse(textwrap.dedent(source)).body
    assert isinstance(of_class, ast.ClassDef)
    return {
        field.target.id: inspect.cleandoc(below.value.value)
        for field, below in pairwise(of_class.body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) and isinstance(below.value.value, str)
    }


FieldPath = tuple[str | int, ...]
"""Where something stands in a config: names of fields, and places in lists."""


def impossible(path: FieldPath, what: str) -> PydanticCustomError:
    """An error about the field at `path`, relative to the model that raises it; `what` ends in what to write."""
    return PydanticCustomError("impossible", "{what}", {"path": list(path), "what": what})


NAME_BYTES = 200
"""The longest name of a file: file systems allow 255, and endings are added."""


def _file_name(name: str) -> str:
    """The name as it is. Raises the error `impossible` where it would lead elsewhere, hide the file, or be no name."""
    wrong = None
    if not name.strip():
        wrong = "is empty"
    elif name.startswith("."):
        wrong = f"{name!r} begins with a dot"
    elif separators := [one for one in "/\\" if one in name]:
        wrong = f"{name!r} holds a {separators[0]}"
    elif any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in name):
        wrong = f"{name!r} holds a character that is not printed"
    elif len(name.encode()) > NAME_BYTES:
        wrong = f"takes {len(name.encode())} bytes, more than {NAME_BYTES}"
    if wrong:
        raise impossible((), f"{wrong}; it becomes a file's name, write letters, digits, spaces, - or _")
    return name


FileName = Annotated[str, AfterValidator(_file_name)]
"""A name that files are given, in any language: it can lie in no other folder."""
