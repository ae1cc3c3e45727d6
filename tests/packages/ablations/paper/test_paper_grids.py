"""The grids of the paper: what each sweeps, what it expects and from where, what its header says it costs."""

import re
from importlib import resources

import pytest

from ablations.grid.file import read_grid, shipped
from ablations.plan.plan import plan
from mixmae.cost import multiply_adds
from mixmae.data.sources import sources
from mixmae.experiment.jobs import stage_jobs
from mixmae.fields.documents import ConfigError
from mixmae.presentation.declaration import Declaration
from results.published import published_results, unverified

PAPER = sorted(name for name in shipped() if name.startswith("paper/"))
THREE_SEEDS = ("paper/methods", "paper/mixing", "paper/reconstruction")


def text_of(name: str) -> str:
    return shipped()[name].read_text("utf-8")


def test_there_are_nine():
    found = [name.removeprefix("paper/") for name in PAPER]
    nine = "attention efficiency encoders epochs filling methods mixing reconstruction target"
    assert found == nine.split()


@pytest.mark.parametrize("name", PAPER)
def test_a_header_says_what_it_must(name):
    header = [line for line in text_of(name).splitlines() if line.startswith("#")]
    labels = [line[2:16].strip() for line in header[1:] if re.match(r"# \w+  ", line)]
    assert set(labels) >= {"Paper", "Expected", "Cost", "Run"}
    assert f"mixmae grid run {name} --scale laptop" in " ".join(header)


@pytest.mark.parametrize("name", PAPER)
def test_it_has_tables_and_plots_and_shrinks_to_a_laptop(name, tmp_path):
    full, small = read_grid(shipped()[name]), read_grid(shipped()[name], "laptop")
    assert full.spec.tables and full.spec.plots and full.spec.title
    seeds = 3 if name in THREE_SEEDS else 1
    assert len(small.cases) == seeds * len(full.cases)
    made = plan(small.name, small.cases, tmp_path)
    assert {entry.encoder for entry in made.entries} <= {"swin_nano", "twins_svt_nano", "pvt_nano"}
    assert len({entry.planned.job.seed for entry in made.entries}) == seeds


@pytest.mark.parametrize("name", PAPER)
def test_what_it_expects_was_published(name):
    expected = read_grid(shipped()[name]).spec.expected
    assert expected and all(one.published for one in expected)
    assert unverified(Declaration(name, expected=expected)) == []


@pytest.mark.parametrize("name", PAPER)
def test_what_it_expects_is_of_runs_it_has(name, monkeypatch, tmp_path):
    from ablations.plan.declaring import declare

    for split in ("train", "val"):
        (tmp_path / split / "a").mkdir(parents=True)
    monkeypatch.setenv("IMAGENET", str(tmp_path))
    monkeypatch.setattr("ablations.plan.plan.too_few_images", lambda experiment: [])
    monkeypatch.setattr("mixmae.data.image_folder.spec.ImageFolderSpec.fingerprint", lambda spec, data, root: "0" * 16)
    grid = read_grid(shipped()[name])
    declaration = declare(grid, plan(grid.name, grid.cases, tmp_path))
    for expected in grid.spec.expected:
        met = [run for run in declaration.absent() if run.name == expected.stage and run.meets(expected.where)]
        settings = {(run.value("encoder"), run.value("pretrain_epochs")) for run in met}
        assert len(settings) == 1, expected


@pytest.mark.parametrize("name", PAPER)
def test_its_header_says_what_it_costs(name, monkeypatch):
    """With ImageNet's counts; hours from MAE's published fine-tuning of ViT-B/16 on 32 V100."""
    monkeypatch.setattr(multiply_adds, "training_images", lambda data, subset: 1_281_167)
    counts = {"train": (1281,) * 1000, "val": (50,) * 1000}
    monkeypatch.setattr(type(sources["image_folder"]), "counts", lambda self, config, split: counts[split])
    jobs = {
        (one.stage, one.id): one.job
        for case in read_grid(shipped()[name]).cases
        for one in stage_jobs(case.experiment, lambda data: "")
    }
    macs = sum(job.spec.work(job).macs for job in jobs.values())
    row = published_results().query("task == 'finetune_cost' and encoder == 'ViT-B/16'").iloc[0]
    assert row["setting"] == "7h11m on 32 V100"
    speed = 3 * 17.58e9 * 1_281_167 * 100 / ((7 + 11 / 60) * 32 * 3600)
    hours = float(f"{macs / speed / 3600:.2g}")
    assert f"{macs / 1e18:.3g} E multiply-adds, about {hours:,.0f} V100 hours in float16" in text_of(name)
    assert f"{speed / 1e12:.3g} T multiply-adds/s" in text_of(name)


def test_where_the_images_lie_is_the_environments(tmp_path, monkeypatch):
    grid = read_grid(shipped()["paper/filling"])
    monkeypatch.delenv("IMAGENET", raising=False)
    instead = "export IMAGENET=…, or run it at a scale that needs no images: --scale laptop"
    with pytest.raises(ConfigError, match=rf"filling.yaml:\d+:\d+: data.path: .* IMAGENET is not set; {instead}$"):
        plan(grid.name, grid.cases, tmp_path)
    own = tmp_path / "own.yaml"
    own.write_text(text_of("paper/filling"), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"own.yaml:\d+:\d+: .* not set; export IMAGENET=… or write a path here$"):
        plan("own", read_grid(own).cases, tmp_path)
    monkeypatch.setenv("IMAGENET", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="no folder .*nowhere/train"):
        plan(grid.name, grid.cases, tmp_path)


def test_the_published_speed_is_the_one_that_comes_with_it():
    import json

    found = json.loads(resources.files("mixmae.cost").joinpath("measured.json").read_text("utf-8"))
    (record,) = [record for record in found if record.get("published")]
    assert record["images_per_s"] == pytest.approx(1_281_167 * 100 / ((7 + 11 / 60) * 32 * 3600), abs=0.005)
    assert record["macs"] == 3 * 17_580_000_000
