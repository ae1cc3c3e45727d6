"""The grid reference and the JSON schemas of docs/ are those of the models, and take every file that is shipped."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import jsonschema
import pytest
from pydantic import create_model

from ablations.grid.file import GridFile, shipped
from ablations.grid.reference import reference, schemas
from ablations.grid.scale import Scale
from mixmae.data.sources import sources
from mixmae.encoders.families import families
from mixmae.experiment.experiment import Experiment
from mixmae.experiment.reading import recipe_files
from mixmae.experiment.stages import stages
from mixmae.fields.documents import load, plain
from mixmae.fields.messages import models_in
from mixmae.fields.model import Model
from mixmae.methods.methods import methods
from mixmae.presentation.plots import plot_kinds

DOCS = next(folder for folder in Path(__file__).parents if (folder / "docs").is_dir()) / "docs"
FILES = [("grid", path) for path in shipped().values()] + [("experiment", path) for path in recipe_files()]
CHOICES = ("name", "kind", "family")
"""Fields that say which of several models an entry is."""
SCHEMAS = cache(schemas)


def models() -> Iterator[type[Model]]:
    """Every model that a file can hold."""
    configs = [spec.config for specs in (methods, families, sources, plot_kinds) for spec in specs]
    waiting, seen = [GridFile, Experiment, Scale, *configs, *(spec.recipe for spec in stages)], set()
    while waiting:
        model = waiting.pop()
        if model in seen:
            continue
        seen.add(model)
        yield model
        fields = model.model_fields.values()
        waiting += [one for field in fields for one in models_in(field) if issubclass(one, Model)]


@pytest.mark.parametrize("model", list(models()), ids=lambda model: model.__name__)
def test_every_field_says_what_it_is(model):
    fields = model.model_json_schema()["properties"]
    assert fields.keys() == model.model_fields.keys()
    silent = [name for name, field in fields.items() if "description" not in field and name not in CHOICES]
    assert not silent


def test_a_model_without_source_has_a_schema_all_the_same():
    made = create_model("Made", __base__=Model, count=(int, 1))
    assert made.model_json_schema()["properties"]["count"] == {"default": 1, "title": "Count", "type": "integer"}


def test_the_page_is_that_of_the_models():
    said = (DOCS / "grid-reference.md").read_text(encoding="utf-8")
    assert said == reference(), "write it anew: mixmae grid reference > docs/grid-reference.md"


@pytest.mark.parametrize("kind", ["grid", "experiment"])
def test_the_schemas_are_those_of_the_models(kind):
    said = json.loads((DOCS / "schema" / f"{kind}.json").read_text(encoding="utf-8"))
    assert said == SCHEMAS()[kind], f"write it anew: mixmae grid reference --schema {kind} > docs/schema/{kind}.json"


@pytest.mark.parametrize(("kind", "path"), FILES, ids=[path.stem for _, path in FILES])
def test_the_schemas_take_every_shipped_file(kind, path):
    jsonschema.validate(plain(load(path)), SCHEMAS()[kind])


def test_the_schemas_take_named_and_plugged_in_evaluations():
    named = {"five": {"kind": "knn", "k": 5}, "more": {"kind": "a.b:SPEC", "c": 1}, "linear": {"start": "five"}}
    jsonschema.validate({"base": "digits_nano", "evaluations": named}, SCHEMAS()["experiment"])


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("grid", {"base": "digits_nano", "sweeps": []}),
        ("grid", {"base": "digits_nano", "sweeps": [{"name": "a"}], "tabels": []}),
        ("grid", {"base": "digits_nano", "sweeps": [{"name": "a"}], "plots": [{"name": "a", "kind": "pie"}]}),
        ("experiment", {"base": "digits_nano", "pretrain": {"epoch": 3}}),
        ("experiment", {"base": "digits_nano", "method": {"name": "mae", "ratio": 1.5}}),
        ("experiment", {"base": "digits_nano", "image_size": [32]}),
        ("experiment", {"base": "digits_nano", "evaluations": {"knn": {"kk": 3}}}),
        ("experiment", {"base": "digits_nano", "evaluations": {"five": {"kind": "knn", "kk": 3}}}),
    ],
)
def test_the_schemas_refuse_what_the_program_refuses(kind, wrong):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, SCHEMAS()[kind])
