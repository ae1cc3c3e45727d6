"""YAML by the rules of YAML 1.2, documents laid over each other, and every error by its exact text."""

from pathlib import Path

import pytest

from mixmae.experiment.reading import read_experiment, recipe_files
from mixmae.fields.documents import ConfigError, Value, find, load, mark_of, overlay, parse, plain

COMPLETE = """\
method: mixmae
encoder: swin_nano
image_size: 32
pretrain: {epochs: 5, batch: 64, base_lr: 1e-3}
"""


def read(text: str):
    return plain(parse(text, "file.yaml"))


def errors(folder: Path, text: str | bytes) -> list[str]:
    """The lines of complaint about an experiment file that holds `text`, without the folder."""
    path = folder / "file.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as caught:
        read_experiment(path)
    return [line.replace(f"{folder}/", "") for line in caught.value.lines]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("1e-4", 1e-4),
        ("3e8", 3e8),
        (".5", 0.5),
        ("-2.", -2.0),
        ("+7", 7),
        ("012", 12),
        ("0x1F", 31),
        ("0o17", 15),
        ("true", True),
        ("False", False),
        ("no", "no"),
        ("on", "on"),
        ("y", "y"),
        ("12:30:45", "12:30:45"),
        ("2020-01-01", "2020-01-01"),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("~", None),
        ("", None),
        ("'1e-4'", "1e-4"),
        ("é", "é"),
    ],
)
def test_scalars_follow_yaml_1_2(written, meant):
    value = read(f"a: {written}")["a"]
    assert value == meant and type(value) is type(meant)


def test_a_merge_key_is_a_key_like_any_other():
    assert read("a: &a {x: 1}\nb: {<<: *a}") == {"a": {"x": 1}, "b": {"<<": {"x": 1}}}


def test_marks_are_those_of_keys_and_of_list_items():
    document = parse("a:\n  b: [1,\n    22]\n", "file.yaml")
    assert str(mark_of(document, ("a", "b"))) == "file.yaml:2:3"
    assert str(mark_of(document, ("a", "b", 1))) == "file.yaml:3:5"
    assert str(mark_of(document, ("a", "b", 7, "x"))) == "file.yaml:2:3"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "file.yaml:1:1: the file is empty; write at least one `name: value`"),
        ("# nothing\n", "file.yaml:1:1: the file is empty; write at least one `name: value`"),
        ("a:\n\tb: 1\n", "file.yaml:2:1: a tab cannot indent; write spaces"),
        ("a: {b: 1\nc: 2", "file.yaml:2:2: not YAML: while parsing a flow mapping expected ',' or '}', but got ':'"),
        ("seed: 1\nseed: 2", "file.yaml:2:1: seed: given twice, first on line 1; write it once"),
        ("a: {b: 1, b: 1}", "file.yaml:1:11: b: given twice, first on line 1; write it once"),
        ("a: *b", "file.yaml:1:4: not YAML: found undefined alias 'b'"),
        ("a: &b [*b]", "file.yaml:1:4: an alias of what it lies in; write the value out"),
        (
            "a: !!python/none",
            "file.yaml:1:4: the tag tag:yaml.org,2002:python/none is not known here; write a plain value",
        ),
        ("a: !!int x", "file.yaml:1:4: 'x' does not fit its tag; write a plain value"),
        ("a: .inf", "file.yaml:1:4: .inf is not a finite number; write one"),
        ("[a]: 1", "file.yaml:1:1: a name is expected before the colon; write name: value"),
        (
            "a: 1\n---\nb: 1",
            "file.yaml:2:1: not YAML: expected a single document in the stream but found another document",
        ),
        (b"a: 1\nb: \xff", "file.yaml:2:4: not UTF-8 text; save the file as UTF-8"),
        ("a: \x07", "file.yaml:1:4: the character U+0007 is not allowed; remove it"),
        ("a: " + "[" * 5000, "file.yaml:1:1: nested too deeply; write fewer levels"),
    ],
)
def test_what_is_not_such_a_document_is_refused_in_one_line(tmp_path, text, line):
    assert errors(tmp_path, text) == [line]


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "none.yaml")
    what = "cannot be read: No such file or directory; write the path of a YAML file"
    assert caught.value.lines == [f"{tmp_path / 'none.yaml'}: {what}"]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("- 1", ["file.yaml:1:1: expected a mapping (name: value lines), found a list"]),
        (
            "seed: 1",
            [
                "file.yaml:1:1: encoder: missing field; write encoder: …",
                "file.yaml:1:1: method: missing field; write method: …",
            ],
        ),
        (COMPLETE + "sed: 1", ["file.yaml:5:1: sed: unknown field (did you mean seed?)"]),
        (
            COMPLETE.replace("epochs: 5", "epochs: 5, subset.fraction: 1"),
            [
                "file.yaml:4:23: pretrain.subset.fraction: unknown field; write subset: {fraction: …}; dotted paths "
                "stand at the top of a grid's set or case"
            ],
        ),
        (
            COMPLETE + "evaluations: {linear.subset.fraction: 1}",
            [
                "file.yaml:5:15: evaluations.linear.subset.fraction: unknown field; write linear: {subset: {fraction: "
                "…}}; dotted paths stand at the top of a grid's set or case"
            ],
        ),
        (
            COMPLETE.replace("epochs: 5", "epochs: 5, weight_decay_end: 1"),
            ["file.yaml:4:23: pretrain.weight_decay_end: unknown field (did you mean weight_decay?)"],
        ),
        (
            COMPLETE.replace("epochs: 5", "epochs: 1, warmup_epochs: 2"),
            ["file.yaml:4:12: pretrain.epochs: 1 epoch is no more than the 2 of warmup_epochs; write more, or fewer "
             "there"],
        ),
        (
            COMPLETE.replace("epochs: 5", "epochs: abc"),
            ["file.yaml:4:12: pretrain.epochs: expected a whole number, found the text 'abc'"],
        ),
        (
            COMPLETE.replace("1e-3", "yes"),
            ["file.yaml:4:34: pretrain.base_lr: expected a number, found the text 'yes'"],
        ),
        (
            COMPLETE.replace("1e-3", "0"),
            ["file.yaml:4:34: pretrain.base_lr: expected a number above 0, found 0"],
        ),
        (
            COMPLETE.replace("mixmae", "{name: mixmae, dual: 1}"),
            ["file.yaml:1:24: method.dual: expected true or false, found 1"],
        ),
        (COMPLETE.replace("mixmae", "mixmea"), ["file.yaml:1:1: method: no method 'mixmea'; did you mean mixmae?"]),
        (COMPLETE.replace("mixmae", "{ratio: 0.5}"), ["file.yaml:1:1: method: missing name; write which one it is"]),
        (
            COMPLETE.replace("swin_nano", "swin_nono"),
            ["file.yaml:2:1: encoder.name: no encoder variant 'swin_nono'; did you mean swin_nano?"],
        ),
        (
            COMPLETE.replace("swin_nano", "{name: swin_nano, windows: gird}"),
            ["file.yaml:2:28: encoder.windows: expected 'grid' or a list, found the text 'gird'; did you mean grid?"],
        ),
        (
            COMPLETE.replace("swin_nano", "{name: swin_nano, windows: [8, a, 4]}"),
            ["file.yaml:2:41: encoder.windows[1]: expected a whole number, found the text 'a'"],
        ),
        (
            COMPLETE.replace("swin_nano", "{name: swin_nano, windows: [8]}"),
            ["file.yaml:2:28: encoder.windows: expected at least 2 entries, found 1"],
        ),
        (
            COMPLETE.replace("swin_nano", "{name: pvt_nano, windows: [8, 8, 4]}"),
            ["file.yaml:2:27: encoder.windows: pvt has no windows; leave it out"],
        ),
        (
            COMPLETE.replace("32", "33"),
            ["file.yaml:3:1: image_size: 33 px is not a multiple of the encoder's unit of 8 px; write 32"],
        ),
        (
            COMPLETE.replace("batch: 64", "batch: 63"),
            ["file.yaml:4:23: pretrain.batch: 63 images cannot be mixed 2 by 2; write a multiple of 2"],
        ),
        (
            COMPLETE.replace("mixmae", "{name: mixmae, ratio: 0.01}"),
            [
                "file.yaml:1:24: method.ratio: 0.01 hides 0 of 16 units; "
                "write a ratio that hides at least 1 and leaves one"
            ],
        ),
        (
            COMPLETE.replace("64", "64, precision: float23"),
            ["file.yaml:4:34: pretrain.precision: expected 'auto', 'float32', 'bfloat16' or 'float16', "
             "found the text 'float23'; did you mean float32?"],
        ),
        (
            COMPLETE.replace("64", "64, crop_scale: [0.5]"),
            ["file.yaml:4:34: pretrain.crop_scale[1]: missing entry; write it"],
        ),
    ],
)  # fmt: skip
def test_errors_of_an_experiment_by_their_text(tmp_path, text, lines):
    assert errors(tmp_path, text) == lines


# ------------------------------------------------------------------------------------------------------------ overlays


def over(below: str, above: str) -> Value:
    return overlay(parse(below, "below.yaml"), parse(above, "above.yaml"))


def test_mappings_are_merged_and_keep_where_they_came_from():
    both = over("pretrain: {epochs: 1, batch: 2}\nseed: 0", "pretrain: {batch: 4}")
    assert plain(both) == {"pretrain": {"epochs": 1, "batch": 4}, "seed": 0}
    assert mark_of(both, ("pretrain", "epochs")).file == "below.yaml"
    assert mark_of(both, ("pretrain", "batch")).file == "above.yaml"


@pytest.mark.parametrize(
    ("below", "above", "meant"),
    [
        ("method: {name: mixmae, dual: false}", "method: simmim", {"name": "simmim"}),
        ("method: {name: mixmae, dual: false}", "method: mixmae", {"name": "mixmae", "dual": False}),
        ("method: mixmae", "method: {ratio: 0.25}", {"name": "mixmae", "ratio": 0.25}),
        ("method: {name: mixmae, dual: false}", "method: {name: mae, ratio: 0.5}", {"name": "mae", "ratio": 0.5}),
    ],
)
def test_another_name_replaces_and_the_same_name_adds(below, above, meant):
    assert plain(over(below, above))["method"] == meant


def test_null_switches_an_evaluation_off():
    assert plain(over("evaluations: {knn: {}}", "evaluations: {knn: null}")) == {"evaluations": {"knn": None}}


def test_find_tells_null_from_nothing():
    document = parse("a: null", "file.yaml")
    assert find(document, ("a",)).data is None and find(document, ("b",)) is None and find(document, ("a", "b")) is None


# --------------------------------------------------------------------------------------------------------------- bases


def test_a_base_may_be_a_file_with_a_base_of_its_own(tmp_path):
    (tmp_path / "lower").mkdir()
    (tmp_path / "lower" / "lowest.yaml").write_text(COMPLETE)
    (tmp_path / "lower" / "low.yaml").write_text("base: lowest.yaml\nseed: 3\n")
    (tmp_path / "file.yaml").write_text("base: lower/low.yaml\npretrain: {epochs: 9}\n")
    experiment, document = read_experiment(tmp_path / "file.yaml")
    assert (experiment.seed, experiment.pretrain.epochs, experiment.pretrain.batch) == (3, 9, 64)
    assert mark_of(document, ("pretrain", "batch")).file == str(tmp_path / "lower" / "lowest.yaml")


def test_an_error_inside_the_base_names_the_base(tmp_path):
    (tmp_path / "low.yaml").write_text(COMPLETE + "seed: -1\n")
    assert errors(tmp_path, "base: low.yaml") == ["low.yaml:5:1: seed: expected a number from 0 up, found -1"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("base: file.yaml", "file.yaml:1:1: base: file.yaml is its own base; name another"),
        ("base: low.yaml", "file.yaml:1:1: base: no file low.yaml; write a recipe's name or the path of a YAML file"),
        ("base: digits_nani", "file.yaml:1:1: base: no recipe 'digits_nani'; did you mean digits_nano?"),
        ("base: 3", "file.yaml:1:1: base: expected a recipe's name or a path ending in .yaml"),
    ],
)
def test_a_base_that_cannot_be(tmp_path, text, line):
    assert errors(tmp_path, text) == [line]


@pytest.mark.parametrize("recipe", list(recipe_files()), ids=lambda path: path.stem)
def test_every_recipe_parses(recipe):
    assert isinstance(load(recipe).data, dict)
