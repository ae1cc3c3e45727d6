"""The report: what it links to, and that what has not changed is not made again."""

import json
import subprocess
import sys

import pytest
from made_runs import FINGERPRINT, declared, experiment, two_methods_and_references

from mixmae.jobs import stage_jobs
from mixmae.presentation import PlotSpec, TableSpec
from mixmae.runs import RunFolder
from results.collect import collect
from results.report import write_report

TABLE = TableSpec(name="main", title="Methods")
PLOT = PlotSpec(name="loss", title="Losses", kind="loss")


@pytest.fixture
def made(tmp_path):
    return two_methods_and_references(tmp_path / "runs")


def report(made, folder):
    return write_report(collect(made.root), made.root, declared(made, tables=(TABLE,), plots=(PLOT,)), folder)


def test_the_report_links_only_what_it_wrote(made, tmp_path):
    folder = tmp_path / "report"
    for planned in stage_jobs(experiment("mixmae"), FINGERPRINT):
        RunFolder(made.root, planned.stage, planned.id).write("environment", {"torch": "2.15", "cpu": "Z80"})
    made_anew = report(made, folder)
    assert made_anew == ["results", "tables/main", "plots/loss", "README.md", "index.html"]
    page = (folder / "index.html").read_text()
    links = [part.split('"')[0] for part in page.replace('src="', 'href="').split('href="')[1:]]
    assert {"plots/loss.png", "tables/main.csv", "results.parquet"} <= set(links)
    assert all((folder / link).is_file() for link in links)
    assert str(tmp_path) not in page.replace(str(made.root), "")
    assert "91.50 ± 0.71 (n=2)" in page and "no gallery, since" in page
    assert "4 runs: torch 2.15, cpu Z80" in page
    assert "![Losses](plots/loss.png)" in (folder / "README.md").read_text()


def test_an_unchanged_report_is_not_touched_and_imports_nothing_that_draws(made, tmp_path):
    folder = tmp_path / "report"
    report(made, folder)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    members = {name: sorted(pairs) for name, pairs in made.members.items()}
    script = (
        "import json, sys\n"
        "from pathlib import Path\n"
        "from mixmae.presentation import Declaration, PlotSpec, TableSpec\n"
        "from results.collect import collect\n"
        "from results.report import write_report\n"
        "root, folder, members, table, plot = sys.argv[1:]\n"
        "members = {name: {tuple(pair) for pair in pairs} for name, pairs in json.loads(members).items()}\n"
        "table, plot = TableSpec.model_validate_json(table), PlotSpec.model_validate_json(plot)\n"
        "grid = Declaration('made', tables=(table,), plots=(plot,), members=members)\n"
        "made = write_report(collect(Path(root)), Path(root), grid, Path(folder))\n"
        "print(made, [name for name in ('torch', 'seaborn', 'matplotlib', 'timm') if name in sys.modules])\n"
    )
    arguments = [str(made.root), str(folder), json.dumps(members), TABLE.model_dump_json(), PLOT.model_dump_json()]
    run = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
    assert run.stdout == "[] []\n"
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_what_has_changed_is_made_again_and_nothing_else(made, tmp_path):
    folder = tmp_path / "report"
    report(made, folder)
    made.add(experiment("mixmae", seed=2), knn=85.0)
    pretrain = stage_jobs(experiment("mixmae", seed=2), FINGERPRINT)[0]
    assert report(made, folder) == ["results", "tables/main", "plots/loss", "README.md", "index.html"]
    with (RunFolder(made.root, "pretrain", pretrain.id).path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 21, "step": 999, "loss": 0.1, "lr": 0.0}\n')
    assert report(made, folder) == ["plots/loss"]
    (folder / "tables" / "main.tex").unlink()
    assert report(made, folder) == ["tables/main"]
