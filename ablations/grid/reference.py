"""The reference of grid files, as Markdown and as a JSON schema for editors, made of the config models (no torch)."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ablations.grid.file import GridFile
from mixmae.data.sources import sources
from mixmae.encoders.families import families
from mixmae.experiment.experiment import Experiment
from mixmae.experiment.stages import pretraining, stages
from mixmae.fields.model import Model
from mixmae.methods.methods import methods
from mixmae.presentation.plots import plot_kinds

_BEGINNING = """# Grid reference

Every key of a grid file and of an experiment file. This page is made by `mixmae grid reference`; `mixmae grid reference
--schema` prints the same as a JSON schema, which editors use to complete and check
([schema/grid.json](schema/grid.json), [schema/experiment.json](schema/experiment.json)):

```yaml
# yaml-language-server: $schema=schema/grid.json
```

What a grid is made of, and how sweeps, columns and scales work, says [Grids](grids.md).
"""

_FILES = "What a file, a recipe too, can hold beside an experiment's own keys. Layers of bases are merged."
_Schema = Mapping[str, Any]
_KINDS = {"integer": "whole number", "number": "number", "boolean": "true or false", "string": "text", "null": "null",
          "object": "mapping", "array": "list"}  # fmt: skip
_BOUNDS = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}


def schemas() -> dict[str, dict[str, Any]]:
    """The JSON schemas of a grid file and of an experiment file."""
    experiment = _without_required(Experiment.model_json_schema())  # what is required can be the base's
    experiment["properties"] = {**_of_files(), **experiment["properties"]}
    draft = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return {"grid": {**draft, **GridFile.model_json_schema()}, "experiment": {**draft, **experiment}}


def _of_files() -> dict[str, Any]:
    """The schemas of what an experiment file has and an experiment has not."""
    by_name = {spec.name: _without_required(spec.config.model_json_schema()) for spec in methods}
    return {
        "base": {"type": "string", "description": "A recipe's name, or a path from this file's folder, to build on."},
        "methods": {
            "type": "object",
            "description": "By a method's name: what it has where it is chosen, unless `method` says otherwise.",
            "properties": by_name,
            "additionalProperties": {"type": "object"},
        },
        "tuned_for": {
            "type": "array",
            "items": {"type": "string"},
            "description": "The methods that the pretraining was tuned for; default: the file's own method. "
            "`mixmae grid plan` says what others take from it.",
        },
    }


def _without_required(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_required(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {name: _without_required(item) for name, item in schema.items() if name != "required"}


def reference() -> str:
    """The page, in Markdown: a table a model."""
    lines = [_BEGINNING, "## A grid file", *_tables(GridFile), "## An experiment", *_tables(Experiment)]
    lines += ["### An experiment file", *_table({"description": _FILES, "properties": _of_files()})]
    lines += ["## Pretraining", *_tables(pretraining().recipe)]
    chosen: list[tuple[str, Iterable[Any]]] = [("method", methods), ("encoder", families), ("data", sources)]
    for key, specs in chosen:
        for spec in specs:
            lines += [f"## `{key}`: {spec.name}", *_table(spec.config.model_json_schema())]
    for spec in stages:
        if spec.measures:
            lines += [f"## `evaluations`: {spec.name}", *_table(spec.recipe.model_json_schema())]
    for kind in plot_kinds:
        lines += [f"## `plots`: {kind.name}", *_table(kind.config.model_json_schema())]
    return "\n\n".join(lines) + "\n"


def _tables(model: type[Model]) -> Iterator[str]:
    """The table of a model, and those of the models in its fields that are no choice among several."""
    schema = model.model_json_schema()
    yield from _table(schema)
    for name, inner in schema.get("$defs", {}).items():
        yield f"### {name}"
        yield from _table(inner)


def _table(schema: _Schema) -> Iterator[str]:
    yield " ".join(schema.get("description", "").split())
    rows = [_row(name, field, name in schema.get("required", ())) for name, field in schema["properties"].items()]
    yield "\n".join(["| key | value | default | what it is |", "| --- | --- | --- | --- |", *rows])


def _row(name: str, field: _Schema, required: bool) -> str:
    default = "required" if required and not field.get("worked_out") else _default(field.get("default"))
    cells = (f"`{name}`", _words(field), default, " ".join(field.get("description", "").split()))
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _default(value: Any) -> str:
    if value in (None, "", [], {}):
        return ""
    return "see there" if isinstance(value, dict) else f"`{json.dumps(value)}`"


def _words(field: _Schema) -> str:
    """What can be written, in a few words."""
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(map(_words, field["anyOf"])))
    if "$ref" in field:
        name = field["$ref"].rsplit("/", 1)[1]
        return f"[{name}](#{name.lower()})"
    if "enum" in field or "const" in field:
        return ", ".join(f"`{value}`" for value in field.get("enum", [field.get("const")]))
    if field.get("type") == "array":
        items = field.get("items") or field.get("prefixItems", [{}])[0]
        return f"list of {_words(items)}" if items else "list"
    if "properties" in field:
        return "mapping, see below"
    if isinstance(kinds := field.get("type", ""), list):
        return " or ".join(_KINDS[kind] for kind in kinds)
    bounds = [f"{sign} {field[name]:g}" for name, sign in _BOUNDS.items() if name in field]
    return " ".join([_KINDS.get(kinds, "anything"), *bounds])
