"""The README's examples are files that work."""

import re

import pytest

from ablations.grid.file import GridFile, Sweep, read_grid
from ablations.plan.declaring import declare
from ablations.plan.plan import plan
from ablations.slurm.resources import arrays, resolved
from mixmae.experiment.reading import read_experiment
from mixmae.fields.documents import parse
from mixmae.presentation.declaration import TableSpec
from mixmae.presentation.plots import PlotModel
from results.plots.drawing import write_plots
from results.rows.collect import collect
from results.tables import write_tables
from support.checkout import CHECKOUT

README = CHECKOUT / "README.md"
EXPERIMENT, GRID, SITE, CLUSTER = re.findall(r"```yaml\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def test_the_experiment_names_a_recipe(tmp_path):
    (tmp_path / "mixmae_base.yaml").write_text(EXPERIMENT)
    experiment, _ = read_experiment(tmp_path / "mixmae_base.yaml")
    assert experiment.encoder.name == "swin_base_w14"
    assert experiment.data.path == "/data/imagenet"


def test_the_grid_expands(tmp_path):
    (tmp_path / "grid.yaml").write_text(GRID)
    grid = read_grid(tmp_path / "grid.yaml")
    sweeps = [case.sweep for case in grid.cases]
    assert (sweeps.count("methods"), sweeps.count("budgets")) == (6, 6)


def scales_of_the_grid() -> list[str | None]:
    return [None, *parse(GRID, "README.md").data["scales"].data]


@pytest.mark.parametrize("scale", scales_of_the_grid())
def test_the_grid_can_be_planned_and_shown_at_every_scale_it_names(tmp_path, scale):
    (tmp_path / "grid.yaml").write_text(GRID)
    grid = read_grid(tmp_path / "grid.yaml", scale)
    declaration = declare(grid, plan(grid.name, grid.cases, tmp_path / "runs"))
    (tmp_path / "runs").mkdir()
    frame = collect(tmp_path / "runs")
    assert len(write_plots(frame, declaration, tmp_path / "out", ["svg"])) == len(grid.spec.plots) == 3
    assert write_tables(frame, declaration, tmp_path / "out")


@pytest.mark.parametrize("model", [GridFile, Sweep, TableSpec, PlotModel])
def test_the_grid_names_every_key(model):
    for field in model.model_fields:
        assert re.search(rf"(^|[\s{{]){field}:", GRID), field


def test_the_grid_on_a_cluster_asks_for_what_its_site_says(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "mixmae" / "sites").mkdir(parents=True)
    (tmp_path / "mixmae" / "sites" / "lab.yaml").write_text(SITE)
    (tmp_path / "lab.yaml").write_text(CLUSTER)
    grid = read_grid(tmp_path / "lab.yaml")
    entries = plan(grid.name, grid.cases, tmp_path / "runs").entries
    asked = {(array.stage, array.slurm.time, array.slurm.pack) for array in arrays(entries, resolved(grid, entries))}
    assert asked == {("pretrain", 1440, 1), ("knn", 10, 4)}


@pytest.mark.slow
def test_the_python_example_runs():
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    names: dict = {}
    exec(code.replace("swin_base_w14", "swin_nano").replace("224", "32"), names)
    assert [tuple(stage.shape) for stage in names["maps"]] == [(1, 32, 16, 16), (1, 64, 8, 8), (1, 128, 4, 4)]


def test_pictures_are_there():
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", README.read_text(encoding="utf-8"))
    assert pictures and all((README.parent / picture).is_file() for picture in pictures)
