"""A scale makes of every experiment a smaller one by its rule, and the grid goes on telling what it declares."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ablations.grid.file import grid_path, read_grid, shipped
from ablations.grid.scale import read_scale, shrunk
from ablations.plan.declaring import declare
from ablations.plan.plan import plan
from mixmae.experiment.experiment import Experiment
from mixmae.fields.documents import ConfigError
from mixmae.fields.identity import canonical
from results.rows.collect import collect
from support.made_runs import Made
from support.program import mixmae

FULL = """\
title: Large
base: mixmae_swin_base_600ep
set: {data: digits}
sweeps:
  - name: all
    product: {method: [mixmae, simmim], pretrain.epochs: [300, 601]}
scales:
  laptop: {seeds: [4, 5]}
"""


def grid_of(folder: Path, text: str = FULL, scale: str | None = "laptop"):
    (folder / "large.yaml").write_text(text)
    return read_grid(folder / "large.yaml", scale)


def test_every_case_is_shrunk_by_the_rule(tmp_path):
    grid = grid_of(tmp_path)
    assert (grid.name, grid.scale) == ("large-laptop", "laptop")
    found = [
        (c.experiment.method.name, c.full.pretrain.epochs, c.experiment.pretrain.epochs, c.experiment.seed)
        for c in grid.cases
    ]
    assert found == [
        (method, full, small, seed)
        for method in ("mixmae", "simmim")
        for full, small in ((300, 10), (601, 21))
        for seed in (4, 5)
    ]
    small, full = grid.cases[0].experiment, grid.cases[0].full
    assert (small.encoder.name, full.encoder.name) == ("swin_nano", "swin_base_w14")
    assert (small.method.decoder_depth, small.method.decoder_width, small.method.decoder_heads) == (2, 64, 4)
    assert (small.pretrain.batch, small.pretrain.chunk, small.pretrain.warmup_epochs) == (32, None, 1.0)
    assert (small.image_size, small.data.name) == ((32, 32), "digits")
    assert small.evaluations["finetune"] == read_scale("laptop")[1].evaluations["finetune"]
    assert small.evaluations.get("linear") is None, "the grid asks for fine-tuning alone"


def test_without_a_scale_nothing_is_shrunk_and_seeds_are_the_sweeps(tmp_path):
    grid = grid_of(tmp_path, scale=None)
    assert grid.name == "large" and len(grid.cases) == 4
    assert all(case.full is None and case.experiment.encoder.name == "swin_base_w14" for case in grid.cases)


METHODS = st.one_of(
    st.builds(lambda ratio, dual: {"name": "mixmae", "ratio": ratio, "dual": dual}, st.floats(0.1, 0.9), st.booleans()),
    st.builds(lambda ratio: {"name": "simmim", "ratio": ratio}, st.floats(0.1, 0.9)),
    st.builds(lambda fill: {"name": "mixmae", "fill": fill}, st.sampled_from(["zero", "token", "noise"])),
)


@settings(max_examples=40, deadline=None)
@given(
    METHODS,
    st.sampled_from(["swin_base_w14", "twins_svt_large", "pvt_large"]),
    st.integers(41, 1600),
    st.integers(0, 3),
)
def test_what_an_ablation_is_about_is_kept(method, encoder, epochs, seed):
    full = Experiment.model_validate(
        {
            "method": method,
            "encoder": encoder,
            "pretrain": {"epochs": epochs, "batch": 2048, "base_lr": 1e-4},
            "evaluations": {"knn": {}},
            "seed": seed,
        }
    )
    try:
        small = shrunk(full, "laptop")
    except ValidationError as error:
        assert "hides" in str(error), "only a ratio that 16 units cannot have is refused"
        return
    shrinks = {"decoder_depth", "decoder_width", "decoder_heads"}
    for field in set(type(full.method).model_fields) - shrinks:
        assert getattr(small.method, field) == getattr(full.method, field)
    assert (small.encoder.family, small.seed) == (full.encoder.family, seed)
    assert small.pretrain.epochs == -(-epochs // 30)
    assert [entry.name for entry in small.evaluations] == ["knn"]


def test_what_is_not_possible_at_a_scale_is_refused_by_name(tmp_path):
    text = FULL.replace("method: [mixmae, simmim], ", "").replace(
        "{data: digits}", "{data: digits, method.ratio: 0.05}"
    )
    text = text.replace("{data: digits,", "{data: digits, image_size: 448,")
    grid_of(tmp_path, text, scale=None)
    with pytest.raises(ConfigError) as caught:
        grid_of(tmp_path, text)
    place = f"{tmp_path / 'large.yaml'}:5:5: all: not possible at the scale laptop: "
    made = "image_size 448 x 448 becomes 32 x 32; "
    assert str(caught.value).startswith(f"{place}{made}0.05 hides 0 of 16 units; write a ratio")


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("pretrain.batch: 64", "batch 64 becomes 1 (divided by 64); 1 images cannot be mixed 2 by 2; write a multi"),
        (
            "method: {name: mixmae, decoder_width: 40, decoder_heads: 10}",
            "decoder_width 40 becomes 5 (divided by 8); decoder_heads 10 becomes 3 (divided by 4); 5 is not divisible",
        ),
    ],
)
def test_the_refusal_says_what_a_scale_made_of_what_was_written_and_where(tmp_path, written, message):
    text = FULL.replace("{data: digits}", f"{{data: digits, pretrain.chunk: null, {written}}}")
    text = text.replace("method: [mixmae, simmim], ", "")
    grid_of(tmp_path, text, scale=None)
    with pytest.raises(ConfigError) as caught:
        grid_of(tmp_path, text)
    assert str(caught.value).startswith(
        f"{tmp_path / 'large.yaml'}:5:5: all: not possible at the scale laptop: {message}"
    )


def test_an_unknown_scale_is_refused_with_those_there_are(tmp_path):
    with pytest.raises(ConfigError, match="no scale 'latop'; write one of laptop"):
        grid_of(tmp_path, scale="latop")
    with pytest.raises(ConfigError, match=r"large.yaml:8:3: scales.latop: no such scale; did you mean laptop\?"):
        grid_of(tmp_path, FULL.replace("laptop: {", "latop: {"))


def test_runs_know_what_the_grid_declares_of_them(tmp_path):
    grid = grid_of(tmp_path)
    made = plan(grid.name, grid.cases, tmp_path / "runs")
    declaration = declare(grid, made, ("mixmae demo",))
    assert (declaration.name, declaration.title, declaration.scale) == ("large-laptop", "Large", "laptop")
    assert declaration.commands == ("mixmae demo",)
    for entry in made.entries:
        ((_, full),) = declaration.cases[entry.key]
        assert (full["encoder.name"], full["image_size"], full["data.name"]) == ("swin_base_w14", 224, "digits")
        assert full["method"] == entry.method and full["pretrain.epochs"] in (300, 601)
        assert full["method.ratio"] == (0.5 if entry.method == "mixmae" else 0.6)
    works = {entry.key: entry.job.spec.work(entry.job) for entry in made.entries if entry.planned.stage == "pretrain"}
    assert {key: macs * works[key].trained for key, macs in declaration.macs.items()} == {
        key: found.macs for key, found in works.items()
    }


def test_cases_that_become_one_run_keep_what_each_declares(tmp_path):
    text = FULL.replace("[300, 601]", "[299, 300]").replace("{seeds: [4, 5]}", "{seeds: [4]}")
    grid = grid_of(tmp_path, text)
    made = plan(grid.name, grid.cases, tmp_path / "runs")
    declaration = declare(grid, made)
    assert len(made.entries) == 4
    assert {tuple(one["pretrain.epochs"] for _, one in cases) for cases in declaration.cases.values()} == {(299, 300)}


def test_a_run_of_two_sweeps_is_shown_in_each_as_that_one_declares_it(tmp_path):
    text = """\
base: mixmae_swin_base_600ep
set: {data: digits}
sweeps:
  - {name: short, product: {pretrain.epochs: [299]}}
  - {name: long, product: {pretrain.epochs: [300]}}
scales: {laptop: {seeds: [4]}}
"""
    grid = grid_of(tmp_path, text)
    declaration = declare(grid, plan(grid.name, grid.cases, tmp_path / "runs"))

    def epochs(*sweeps):
        return {run.value("pretrain_epochs") for run in declaration.absent(sweeps)}

    assert (epochs("short"), epochs("long"), epochs()) == ({299}, {300}, {299, 300})


def test_what_is_declared_is_what_collecting_reads(tmp_path):
    """Unscaled, the declared values are those of the run's own folder."""
    text = """\
base: digits_nano
sweeps:
  - {name: all, product: {method: [mixmae, simmim, mae, supervised], seed: [0]}}
  - {name: pixels, set: {method: supervised, evaluations: {finetune: null, linear: null, knn: {features: pixels}}}}
"""
    grid = grid_of(tmp_path, text, scale=None)
    declaration = declare(grid, plan(grid.name, grid.cases, tmp_path / "runs"))
    runs = Made(tmp_path / "made")
    for case in grid.cases:
        runs.add(case.experiment, finetune=1.0, linear=1.0, knn=1.0)
    frame = collect(tmp_path / "made")
    read = {(row["stage"], canonical({**row["row"], "seed": row["seed"]})) for row in frame.to_dict("records")}
    told = {(key[0], canonical(row)) for key, row in declaration.planned.items()}
    assert told == read


# ------------------------------------------------------------------------------------------------- what is shipped


def test_shipped_grids_have_names():
    assert {"demo", "laptop", "paper/methods", "paper/efficiency"} <= set(shipped())
    assert grid_path(Path("paper/methods")).name == "methods.yaml"
    with pytest.raises(ConfigError, match=r"paper/method: no such file; did you mean paper/methods\? mixmae grid list"):
        grid_path(Path("paper/method"))
    with pytest.raises(ConfigError, match="^nowhere.yaml: no such file; write the path of a YAML file; mixmae"):
        grid_path(Path("nowhere.yaml"))


def test_a_file_goes_before_a_shipped_grid(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("demo").write_text(FULL)
    assert grid_path(Path("demo")) == Path("demo")


# ------------------------------------------------------------------------------------------------- several grids as one


@pytest.mark.slow
def test_grids_run_together_run_what_they_share_once(tmp_path, called):
    """Real processes; raw pixels, so that nothing is trained."""
    grid = """\
base: digits_nano
set: {method: supervised, evaluations: {finetune: null, linear: null, knn: {features: pixels}}}
sweeps: [{name: all, product: {seed: SEEDS}}]
"""
    for name, seeds in (("one", "[0, 1]"), ("two", "[1, 2]")):
        (tmp_path / f"{name}.yaml").write_text(grid.replace("SEEDS", seeds))

    assert "3 experiments" in called("grid", "plan", "one.yaml", "two.yaml", folder=tmp_path)[0]
    mixmae("grid", "run", "one.yaml", "two.yaml", folder=tmp_path, check=0)
    jobs = json.loads(called("grid", "status", "one.yaml", "two.yaml", "--json", folder=tmp_path)[0])["jobs"]
    assert [(job["state"], job["tries"]) for job in jobs] == [("done", 1)] * 3
    for name in ("one", "two"):
        alone = json.loads(called("grid", "status", f"{name}.yaml", "--json", folder=tmp_path)[0])["jobs"]
        assert [job["state"] for job in alone] == ["done"] * 2
