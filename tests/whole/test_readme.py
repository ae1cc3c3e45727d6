"""The examples of README and docs are files that work, and their pictures, links and names of code are there."""

import importlib
import re
from pathlib import Path

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
from results.tables import build_table, write_tables
from support.checkout import CHECKOUT

PAGES = {path.relative_to(CHECKOUT).as_posix(): path for path in (*CHECKOUT.glob("*.md"), *CHECKOUT.glob("docs/*.md"))}
ARCHITECTURE = "docs/architecture.md"


def examples(page: str, language: str = "yaml") -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGES[page].read_text(encoding="utf-8"), re.DOTALL)


EXPERIMENT, SMALL_GRID, ON_SLURM, _ = examples("README.md")
GRID, CONTROLS = examples("docs/grids.md")
SITE, CLUSTER = examples("docs/cluster.md")
(SCALES,) = examples("docs/paper.md")


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


def test_the_grid_with_controls_has_them_below_its_methods(tmp_path):
    (tmp_path / "grid.yaml").write_text(CONTROLS)
    grid = read_grid(tmp_path / "grid.yaml")
    declaration = declare(grid, plan(grid.name, grid.cases, tmp_path / "runs"))
    (tmp_path / "runs").mkdir()
    rows = build_table(collect(tmp_path / "runs"), grid.spec.tables[0], declaration).rows
    assert [(row.values[0], *row.standings) for row in rows] == [
        ("mixmae",), ("mixmae",), ("supervised", "upper reference"),
        ("random init", "control"), ("random init", "control"), ("raw pixels", "control"),
    ]  # fmt: skip


def scales_of_the_grid() -> list[str | None]:
    return [None, *parse(GRID, "grids.md").data["scales"].data]


@pytest.mark.parametrize(
    "text, scale, plots",
    [*((GRID, scale, 3) for scale in scales_of_the_grid()), (SMALL_GRID + SCALES, None, 1)],
)
def test_grids_can_be_planned_and_shown_at_every_scale_they_name(tmp_path, text, scale, plots):
    (tmp_path / "grid.yaml").write_text(text)
    grid = read_grid(tmp_path / "grid.yaml", scale)
    declaration = declare(grid, plan(grid.name, grid.cases, tmp_path / "runs"))
    (tmp_path / "runs").mkdir()
    frame = collect(tmp_path / "runs")
    assert len(write_plots(frame, declaration, tmp_path / "out", ["svg"])) == len(grid.spec.plots) == plots
    assert write_tables(frame, declaration, tmp_path / "out")


@pytest.mark.parametrize("model", [GridFile, Sweep, TableSpec, PlotModel])
def test_the_grid_names_every_key(model):
    for field in model.model_fields:
        assert re.search(rf"(^|[\s{{]){field}:", GRID), field


def asked(path: Path, root: Path) -> set[tuple]:
    grid = read_grid(path)
    entries = plan(grid.name, grid.cases, root).entries
    return {
        (array.stage, array.slurm.time, array.slurm.pack, array.slurm.gpus_per_node)
        for array in arrays(entries, resolved(grid, entries))
    }


def test_the_grid_on_a_cluster_asks_for_what_its_site_says(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "mixmae" / "sites").mkdir(parents=True)
    (tmp_path / "mixmae" / "sites" / "lab.yaml").write_text(SITE)
    (tmp_path / "lab.yaml").write_text(CLUSTER)
    assert asked(tmp_path / "lab.yaml", tmp_path / "runs") == {("pretrain", 1440, 1, 0), ("knn", 10, 4, 0)}


def test_the_small_grid_says_what_it_asks_of_slurm(tmp_path):
    (tmp_path / "ratios.yaml").write_text(SMALL_GRID + ON_SLURM)
    asks = asked(tmp_path / "ratios.yaml", tmp_path / "runs")
    assert asks == {("pretrain", 1440, 1, 1), ("linear", 1440, 1, 1), ("knn", 1440, 1, 1)}


@pytest.mark.slow
def test_the_python_example_runs():
    code, _ = examples("README.md", "python")
    names: dict = {}
    exec(code.replace("swin_base_w14", "swin_nano").replace("224", "32"), names)
    assert [tuple(stage.shape) for stage in names["maps"]] == [(1, 32, 16, 16), (1, 64, 8, 8), (1, 128, 4, 4)]


def anchor(heading: str) -> str:
    """As GitHub makes it of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_pictures_are_there():
    assert [name for name, path in PAGES.items() if "](" in path.read_text("utf-8")]
    for name, path in PAGES.items():
        for picture in re.findall(r"!\[.*?\]\((.*?)\)", path.read_text(encoding="utf-8")):
            assert (path.parent / picture).is_file(), f"{name}: {picture}"


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name):
    for link in re.findall(r"(?<!!)\[[^\]]*\]\(([^)]*)\)", PAGES[name].read_text(encoding="utf-8")):
        if not link.startswith("https://"):
            place, _, wanted = link.partition("#")
            page = PAGES[name].parent / place if place else PAGES[name]
            assert page.exists(), link
            headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE) if wanted else []
            assert not wanted or wanted in map(anchor, headings), link


def test_what_the_architecture_names_is_in_the_code():
    """`name` (`path.py`), and every path on its own."""
    text = PAGES[ARCHITECTURE].read_text(encoding="utf-8")
    pairs = re.findall(r"`([\w.]+)` \(`([\w/]+)\.py`\)", text)
    assert len(pairs) > 20
    for name, module in pairs:
        found = importlib.import_module(module.replace("/", "."))
        for part in name.split("."):
            fields = getattr(found, "model_fields", {}) | getattr(found, "__annotations__", {})
            assert hasattr(found, part) or part in fields, f"{module}.py has no {name}"
            found = getattr(found, part, None)
    for path in re.findall(r"`((?:mixmae|baselines|ablations|results|tests|benchmarks)/[\w/.]*)`", text):
        assert (CHECKOUT / path).exists(), path
