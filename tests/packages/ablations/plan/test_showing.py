"""The settings column of a plan: what tells the jobs of a grid apart."""

from pathlib import Path

import pytest

from ablations.grid.file import grid_path, read_grid, shipped
from ablations.plan.plan import plan
from ablations.plan.showing import plan_summary, plan_table, settings
from mixmae.experiment.experiment import Experiment
from mixmae.experiment.jobs import stage_jobs
from mixmae.presentation.row import row_of
from mixmae.runs.state import RunState
from support.torchvision_sets import fashion


class Job:
    """As much of a plan's entry as has settings."""

    def __init__(self, method: dict, epochs: int = 10):
        recipe = {"epochs": epochs, "batch": 24, "base_lr": 1e-3}
        experiment = {"method": method, "encoder": "swin_nano", "image_size": 32, "data": "digits", "pretrain": recipe}
        (planned,) = stage_jobs(Experiment.model_validate(experiment), lambda data: "")
        self.job, self.row = planned.job, row_of([planned.job.model_dump(mode="json")])


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ({"name": "mixmae"}, "ratio 0.5"),
        ({"name": "mixmae", "images": 3}, "ratio 0.667, 3 images"),
        ({"name": "mixmae", "fill": "noise"}, "ratio 0.5, fill noise"),
        ({"name": "mixmae", "dual": False}, "ratio 0.5, no dual"),
        (
            {"name": "mixmae", "masked_attention": False, "mix_embedding": True},
            "ratio 0.5, no masked attention, mix embedding",
        ),
        ({"name": "mae", "normalised_target": False}, "ratio 0.75, no normalised target"),
        (
            {"name": "mae", "decoder_depth": 2, "decoder_width": 32, "decoder_heads": 4},
            "ratio 0.75, decoder 2 x 32 (4 heads)",
        ),
        (
            {"name": "mae", "decoder_heads": 8, "decoder_mlp_ratio": 2},
            "ratio 0.75, decoder 8 x 512 (8 heads), decoder mlp ratio 2",
        ),
        ({"name": "simmim"}, "ratio 0.6, mask unit 8"),
        ({"name": "simmim", "ratio": 0.5, "mask_unit": 4}, "ratio 0.5, mask unit 4"),
    ],
)
def test_a_pretraining_is_told_by_what_is_not_its_methods_default(method, words):
    assert settings(Job(method)) == f"32x32 px, 10 epochs, batch 24, {words}"


def test_one_epoch_is_one():
    assert settings(Job({"name": "mixmae"}, 1)) == "32x32 px, 1 epoch, batch 24, ratio 0.5"


@pytest.mark.parametrize("name", [name for name in shipped() if name.startswith("paper/")])
def test_no_two_rows_of_a_shipped_plan_read_alike(name, tmp_path):
    grid = read_grid(grid_path(Path(name)), "laptop")
    made = plan(grid.name, grid.cases, tmp_path)
    table = plan_table(made, dict.fromkeys((entry.key for entry in made.entries), RunState("planned")))
    told = list(zip(*(list(table.columns[place].cells) for place in (1, 2, 3, 4, 6)), strict=True))
    assert len(set(told)) == len(told)


def test_a_plan_says_the_columns_that_tables_gain_what_stays_empty_and_its_evaluations_names(tmp_path, called):
    (tmp_path / "rates.yaml").write_text(
        "base: digits_nano\n"
        "set:\n"
        "  evaluations: {finetune: null, linear: null, near: {kind: knn, k: 5}}\n"
        "sweeps:\n"
        "  - {name: rates, product: {pretrain.base_lr: [5e-4, 1e-3]}}\n"
        "tables: [{name: rates, stages: [knn, linear]}]\n"
        "plots: [{name: drawn, kind: bars, stages: [linear]}]\n"
    )
    out, _ = called("grid", "plan", "rates.yaml", folder=tmp_path)
    assert "│ knn (near) │" in out and "│ knn        │" in out
    assert out.splitlines()[-5:] == [
        "2 experiments, 6 jobs (2 pretrain, 4 knn): 6 planned",
        "2 jobs run once and serve several others",
        "table rates gains the column pretrain.base_lr (rates.yaml:5:29)",
        "table rates names linear, which no experiment of this grid has: nothing will be shown of it",
        "plot drawn names linear, which no experiment of this grid has: nothing will be shown of it",
    ]


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        ("[digits]", []),
        ("[placed_digits]", ["images: placed digits"]),
        ("[{name: digits, tuning: 0.1}]", ["images: digits; 10 % of each class set aside for tuning"]),
        (
            "[digits, {name: torchvision, dataset: FashionMNIST, path: ., placed: true, tuning: 0.125}]",
            ["images: digits", "images: FashionMNIST, placed; 12.5 % of each class set aside for tuning"],
        ),
    ],
)
def test_a_plan_says_which_images_are_meant(tmp_path, monkeypatch, data, lines):
    fashion(tmp_path, monkeypatch)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "grid.yaml").write_text(
        "base: digits_nano\nset: {pretrain.batch: 2, evaluations: {finetune: null, linear: null, knn: {k: 1}}}\n"
        f"sweeps: [{{name: all, product: {{data: {data}}}}}]\n"
    )
    grid = read_grid(tmp_path / "grid.yaml")
    made = plan(grid.name, grid.cases, tmp_path / "runs")
    states = dict.fromkeys((entry.key for entry in made.entries), RunState("planned"))
    assert plan_summary(made, states)[1:] == lines
