"""What a recipe says of each method: laid below what is written for the one that is chosen, layer by layer."""

from pathlib import Path

import pytest

from mixmae.experiment.reading import read_experiment
from mixmae.fields.documents import ConfigError

BASE = "base: digits_nano\n"
RECIPE = """\
base: digits_nano
method: {name: mixmae, decoder_depth: 3}
methods:
  mixmae: {decoder_width: 32}
  mae: {decoder_depth: 5, ratio: 0.5}
"""


@pytest.fixture
def read(tmp_path):
    def read(text: str, recipe: str = RECIPE):
        (tmp_path / "recipe.yaml").write_text(recipe)
        (tmp_path / "file.yaml").write_text(text)
        return read_experiment(tmp_path / "file.yaml")[0]

    return read


def decoder(experiment) -> tuple[int, int, int]:
    method = experiment.method
    return method.decoder_depth, method.decoder_width, method.decoder_heads


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("", (2, 64, 4)),
        ("method: mae", (2, 64, 4)),
        ("method: {name: mae, decoder_depth: 8}", (8, 64, 4)),
        ("method: {decoder_depth: 8}", (8, 64, 4)),
        ("methods: {mixmae: {decoder_width: 32}}", (2, 32, 4)),
        ("method: mae\nmethods: {mae: {decoder_width: 32}}", (2, 32, 4)),
        ("method: {name: mae, decoder_width: 16}\nmethods: {mae: {decoder_width: 32, decoder_depth: 1}}", (1, 16, 4)),
    ],
)
def test_every_method_has_the_recipes_decoder_unless_more_is_written(read, written, wanted):
    assert decoder(read(f"{BASE}{written}\n")) == wanted


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("", (3, 32, 4)),
        ("method: mae", (5, 64, 4)),
        ("methods: {mixmae: {decoder_depth: 1}}", (1, 32, 4)),  # a later layer wins over what an earlier one chose
        ("methods: {mae: {decoder_heads: 2}}\nmethod: mae", (5, 64, 2)),
    ],
)
def test_layers_of_bases_are_merged(read, written, wanted):
    assert decoder(read(f"base: recipe.yaml\n{written}\n")) == wanted
    assert read("base: recipe.yaml\nmethod: mae\n").method.ratio == 0.5


def test_what_is_said_of_others_changes_nothing(read):
    assert read(f"{BASE}methods: {{mae: {{ratio: 0.5}}}}\n") == read(BASE)
    assert read(f"{BASE}method: simmim\n").method.ratio == 0.6


@pytest.mark.parametrize(
    ("written", "line"),
    [
        ("methods: {maee: {ratio: 0.5}}", "file.yaml:2:11: methods.maee: no method 'maee'; did you mean mae?"),
        ("methods: {mae: {rato: 0.5}}", "file.yaml:2:17: methods.mae.rato: unknown field (did you mean ratio?)"),
        ("methods: {mae: {ratio: 2}}", "file.yaml:2:17: methods.mae.ratio: expected a number below 1, found 2"),
        ("methods: {mae: 3}", "file.yaml:2:11: methods.mae: expected a mapping (name: value lines)"),
        ("methods: [mae]", "file.yaml:2:1: methods: expected a mapping (name: value lines), a method each"),
        ("tuned_for: mae", "file.yaml:2:1: tuned_for: expected a list of methods, such as [mixmae]"),
        ("tuned_for: [maee]", "file.yaml:2:13: tuned_for[0]: no method 'maee'; did you mean mae?"),
    ],
)
def test_unknown_methods_and_fields_are_refused_where_they_stand(read, tmp_path, written, line):
    with pytest.raises(ConfigError) as caught:
        read(f"{BASE}{written}\n")
    assert [text.replace(f"{tmp_path}/", "") for text in caught.value.lines] == [line]


def test_what_a_method_needs_may_be_written_where_it_is_chosen(read):
    """Imported weights need a path, which what is said of them for all files need not have."""
    read(f"{BASE}methods: {{imported: {{}}}}\n")


def test_a_recipe_is_read_with_its_methods(tmp_path):
    from mixmae.experiment.reading import recipe_files

    (recipe,) = [path for path in recipe_files() if path.stem == "digits_nano"]
    assert decoder(read_experiment(Path(recipe))[0]) == (2, 64, 4)
