"""The official recipes: each is an experiment once its data is named, and says what it reproduces."""

import csv
import re
import subprocess
import sys
from importlib import resources

import pytest

from mixmae.experiment.jobs import stage_jobs
from mixmae.experiment.reading import read_experiment
from mixmae.experiment.recipes import headers as recipes
from mixmae.fields.documents import ConfigError

OWN = ["digits_nano", "fashion_nano"]
"""Sized for a laptop; of them nothing was published."""
OFFICIAL = [name for name in recipes.names() if name not in OWN]
LEARNING_RATES = {
    # recipe: absolute learning rates of pretraining and fine-tuning, as published
    "mixmae_swin_base_600ep": (1.2e-3, 2e-3),
    "mixmae_swin_base_300ep": (1.2e-3, 2e-3),
    "simmim_swin_base_100ep": (8e-4, 5e-3),
    "simmim_swin_base_800ep": (4e-4, 5e-3),
    "mae_vit_base_1600ep": (2.4e-3, 2e-3),
    "mae_vit_large_800ep": (2.4e-3, 4e-3),
    "mae_swin_large_w14": (8e-4, 1.5e-3),
    "supervised_swin_base": (None, 1e-3),
    "supervised_twins_svt_base": (None, 1e-3),
    "supervised_pvt_large": (None, 1e-3),
}


def read(name, folder, data="{path: images}"):
    file = folder / f"{name}.yaml"
    file.write_text(f"base: {name}\ndata: {data}\n", encoding="utf-8")
    return read_experiment(file)[0]


def body(name):
    text = (resources.files("mixmae.experiment") / "recipes" / f"{name}.yaml").read_text("utf-8")
    return [line for line in text.splitlines() if not line.startswith("#")]


@pytest.mark.parametrize("name", OFFICIAL)
def test_is_an_experiment_once_data_is_named(name, tmp_path):
    experiment = read(name, tmp_path)
    assert experiment.data.name == "image_folder"
    stages = [job.stage for job in stage_jobs(experiment, lambda data: "")]
    assert "finetune" in stages
    assert ("pretrain" in stages) == (not name.startswith("supervised"))


@pytest.mark.parametrize("name", OFFICIAL)
def test_never_runs_on_the_default_data(name, tmp_path):
    file = tmp_path / "bare.yaml"
    file.write_text(f"base: {name}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"data\.path"):
        read_experiment(file)


def test_the_recipe_of_digits_needs_no_data(tmp_path):
    assert read("digits_nano", tmp_path, "digits").data.name == "digits"


def test_the_recipe_of_fashion_says_what_to_fetch_where_its_folder_is_not_named(tmp_path, monkeypatch, called):
    monkeypatch.delenv("FASHION_MNIST", raising=False)
    (tmp_path / "grid.yaml").write_text("base: fashion_nano\nsweeps: [{name: all}]\n")
    _, said = called("grid", "plan", "grid.yaml", folder=tmp_path, check=2)
    assert re.search("FASHION_MNIST is not set, .*'mixmae data fetch FashionMNIST DIR'", said)


@pytest.mark.parametrize("name", OWN)
def test_own_recipes_say_that_nothing_was_published(name):
    header = recipes.header(name)
    assert header["reproduces"].startswith("nothing published")
    assert f"`base: {name}`" in header["run"]


@pytest.mark.parametrize("name", OFFICIAL)
def test_header_says_what_it_reproduces(name):
    header = recipes.header(name)
    assert {"title", "reproduces", "accuracy", "hardware", "run"} <= header.keys()
    assert re.search(r"@[0-9a-f]{7,}", header["reproduces"]), "no repository@commit"
    assert f"`base: {name}`" in header["run"]


@pytest.mark.parametrize("name", OFFICIAL)
def test_unknown_values_make_a_recipe_approximate(name):
    unknown = [line for line in body(name) if "unknown" in line]
    assert all(re.search(r"# unknown.*\bused\b|# unknown: how", line) for line in unknown), "no reason given"
    assert not unknown or "approximate" in recipes.header(name)


@pytest.mark.parametrize("name", [name for name in OFFICIAL if name != "mae_twins_svt_large"])
def test_expected_accuracy_is_a_published_one(name):
    text = (resources.files("results") / "published.csv").read_text("utf-8")
    method = {"mixmae": "MixMAE", "simmim": "SimMIM", "supervised": "supervised"}.get(name.split("_")[0])
    methods = {method} if method else {"MAE", "GreenMIM"}
    published = {row["value"] for row in csv.DictReader(text.splitlines()) if row["method"] in methods}
    assert re.match(r"[0-9.]+", recipes.header(name)["accuracy"]).group() in published


@pytest.mark.parametrize("name", LEARNING_RATES)
def test_absolute_learning_rates(name, tmp_path):
    experiment = read(name, tmp_path)
    pretrain, finetune = LEARNING_RATES[name]
    assert experiment.evaluations["finetune"].lr == pytest.approx(finetune)
    assert pretrain == (experiment.pretrain and pytest.approx(experiment.pretrain.lr))


def test_windows(tmp_path):
    def windows(name):
        return [job.job.encoder.windows for job in stage_jobs(read(name, tmp_path), lambda data: "")]

    assert windows("mixmae_swin_base_600ep") == [(14, 14, 14, 7), (14, 14, 14, 7)]
    assert windows("mixmae_swin_base_384") == [(14, 14, 14, 7), (16, 16, 24, 12)]
    assert windows("simmim_swin_base_800ep") == [(6, 6, 6, 6), (7, 7, 7, 7)]
    assert windows("simmim_swin_large_800ep") == [(12,) * 4, (14,) * 4]


def test_the_384_px_recipe_shares_the_pretraining(tmp_path):
    first = [stage_jobs(read(f"mixmae_swin_base_{end}", tmp_path), lambda data: "")[0].id for end in ("600ep", "384")]
    assert first[0] == first[1]


def test_the_paper_differs_from_the_code_by_the_mix_embedding_alone(tmp_path):
    paper, code = (read(name, tmp_path) for name in ("mixmae_paper_swin_base_600ep", "mixmae_swin_base_600ep"))
    assert paper.method.mix_embedding and not code.method.mix_embedding
    assert paper.model_copy(update={"method": code.method}) == code


def test_unknown_recipe():
    with pytest.raises(FileNotFoundError):
        recipes.header("no_such_recipe")


def test_recipes_and_costs_are_read_without_torch():
    code = (
        "import sys; from mixmae.experiment.recipes import headers as recipes; from mixmae.cost.encoders import rows; "
        "[recipes.header(n) for n in recipes.names()]; rows(); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
