"""The README's examples are files that work."""

import re
from pathlib import Path

import pytest

from ablations.grid import GridFile, Sweep, read_grid
from mixmae.documents import read_experiment
from mixmae.presentation import PlotSpec, TableSpec

README = Path(__file__).parents[1] / "README.md"
EXPERIMENT, GRID = re.findall(r"```yaml\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


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


@pytest.mark.parametrize("model", [GridFile, Sweep, TableSpec, PlotSpec])
def test_the_grid_names_every_key(model):
    for field in model.model_fields:
        assert re.search(rf"(^|[\s{{]){field}:", GRID), field


def test_the_python_example_runs():
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    names: dict = {}
    exec(code.replace("swin_base_w14", "swin_nano").replace("224", "32"), names)
    assert [tuple(stage.shape) for stage in names["maps"]] == [(1, 32, 16, 16), (1, 64, 8, 8), (1, 128, 4, 4)]


def test_pictures_are_there():
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", README.read_text(encoding="utf-8"))
    assert pictures and all((README.parent / picture).is_file() for picture in pictures)
