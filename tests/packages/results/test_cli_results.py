"""The commands that show tables, check runs and compare sets of them: what they print, write and end with."""

import csv
import io
import json
import shutil
from pathlib import Path

import pytest

from ablations.grid.file import read_grid
from ablations.plan.plan import plan
from ablations.plan.queueing import create_run
from cli import main
from support.made_runs import write_evaluation, write_pretraining
from support.torchvision_sets import random_set, write_mnist

GRID = """\
base: digits_nano
set: {evaluations.knn: null}
sweeps:
  - name: all
    product: {seed: [0, 1, 2]}
tables:
  - {name: tuned, title: Fine-tuned, rows: [method], stages: [finetune]}
  - {name: probed, rows: [encoder], stages: [linear]}
expected:
  - {where: {method: mixmae}, top1: 81.0}
  - {where: {pretrain_epochs: 20}, stage: linear, top1: 72.0, tolerance: 1.0}
"""


@pytest.fixture
def folder(tmp_path):
    """A grid and its runs: fine-tuning 80, 81, 82, linear probing 70, 71, 72."""
    (tmp_path / "grid.yaml").write_text(GRID)
    make_runs(tmp_path / "grid.yaml", tmp_path / "runs")
    return tmp_path


def make_runs(grid: Path, root: Path, more: float = 0.0) -> None:
    top1 = {"finetune": 80.0 + more, "linear": 70.0 + more}
    for entry in plan("grid", read_grid(grid).cases, root).entries:
        if entry.planned.stage == "pretrain":
            write_pretraining(root, entry.planned, 0.5)
        else:
            write_evaluation(root, entry.planned, top1[entry.planned.stage] + entry.planned.job.seed)
        create_run(root, entry.planned)


@pytest.fixture
def results(folder, monkeypatch, capsys):
    """Runs a command in the folder, which must end with a code. Gives standard output, of bad input standard error."""
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MIXMAE_ROOT", raising=False)

    def run(*words: str, ends: int = 0) -> str:
        monkeypatch.setattr("sys.argv", ["mixmae", "results", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert (ended.value.code or 0) == ends, said.err
        return said.out if ends < 2 else said.err

    return run


def test_table_writes_all_forms_or_prints_one(folder, results):
    out = results("table", "grid.yaml", "--format", "csv")
    first, second = out.split("\n\n")
    assert [row["finetune_mean"] for row in csv.DictReader(io.StringIO(first))] == ["81.0"]
    assert [row["linear_mean"] for row in csv.DictReader(io.StringIO(second))] == ["71.0"]
    assert not (folder / "runs" / "report-grid").exists()
    out = results("table", "grid.yaml")
    written = folder / "runs" / "report-grid"
    assert sorted(path.name for path in written.iterdir()) == [
        f"{name}.{kind}" for name in ("probed", "tuned") for kind in ("csv", "html", "md", "tex")
    ]
    assert "### Fine-tuned\n" in out and "| MixMAE | 81.00 ± 1.00 (n=3) |\n" in out
    said = results("table", "grid.yaml", "--format", "md", "--out", "x", ends=2)
    assert said == "--format prints and writes nothing; leave out one of --format and --out\n"


def test_what_is_not_launched_has_its_row(folder, results):
    """And is named as it would be run, at a scale too; a grid of which nothing was run has all of its rows."""
    text = GRID.replace("seed: [0, 1, 2]", "seed: [0, 1, 2], method: [mixmae, simmim]")
    (folder / "grid.yaml").write_text(text.replace("  - {name: probed, rows: [encoder], stages: [linear]}\n", ""))
    out = results("table", "grid.yaml", "--format", "md")
    assert "| MixMAE | 81.00 ± 1.00 (n=3) |\n| SimMIM | – |\n" in out
    assert "fine-tuning: no claim, since fewer than three seeds are matched with some rival." in out
    assert "Not counted, not launched or not readable: finetune/" in out
    (folder / "none").mkdir()
    out = results("table", "paper/target", "--scale", "laptop", "--format", "md", "--root", "none")
    assert "| 1 for 4 | 64 for 512 | – |" in out and "| 3 for 12 | 64 for 512 | – |" in out


def test_evaluations_of_a_missing_pretraining_are_in_no_table(folder, results, caplog):
    shutil.rmtree(sorted((folder / "runs" / "pretrain").iterdir())[0])
    assert "(n=2) |\n" in results("table", "grid.yaml", "--format", "md")
    assert any("is missing; its method is unknown, so that no grid shows it" in said for said in caplog.messages)


def test_check_ends_with_what_it_finds(folder, results):
    assert results("check", "grid.yaml").splitlines() == [
        "ok       fine-tuning, method mixmae: expected 81.00, found 81.00, difference +0.00, tolerance 0.30, n = 3",
        "ok       linear, pretrain_epochs 20: expected 72.00, found 71.00, difference -1.00, tolerance 1.00, n = 3",
    ]
    (folder / "strict.yaml").write_text(GRID.replace("tolerance: 1.0", "tolerance: 0.9"))
    found = json.loads(results("check", "strict.yaml", "--json", ends=1))
    assert [(one["verdict"], one["n"]) for one in found["checked"]] == [("ok", 3), ("off", 3)]
    (folder / "small.yaml").write_text(GRID.replace("top1: 8", "scale: laptop, top1: 8").split("  - {where: {pre")[0])
    said = results("check", "small.yaml", ends=2)
    assert said == "small expects nothing at full scale; write expected: [{where: …, top1: …}]\n"
    (folder / "nothing.yaml").write_text(GRID.split("expected:")[0])
    said = results("check", "nothing.yaml", ends=2)
    assert said == "nothing.yaml:1:1: names no expected; write expected: [{where: …, top1: …}]\n"


ELSEWHERE = """\
base: digits_nano
set:
  data: {name: image_folder, path: $IMAGES}
  pretrain: {batch: 2, chunk: 2, warmup_epochs: 0}
  evaluations.finetune: {batch: 2, warmup_epochs: 0}
  evaluations.linear: null
  evaluations.knn: null
sweeps:
  - {name: all, product: {pretrain.epochs: [1, 2]}}
tables:
  - {name: tuned, rows: [pretrain_epochs], stages: [finetune]}
plots:
  - {name: macs, x: pretrain_macs, stages: [finetune]}
expected:
  - {where: {pretrain_epochs: 2}, top1: 80.0}
"""


def images_below(folder: Path, content: bytes) -> None:
    for split in ("train", "val"):
        for name in ("a", "b"):
            (folder / split / name).mkdir(parents=True)
            for number in range(16):
                (folder / split / name / f"{number}.png").write_bytes(content)


def test_results_are_shown_where_the_images_are_not(tmp_path, results, monkeypatch, caplog):
    """Runs are copied from a cluster to a laptop, without the images."""
    images_below(tmp_path / "images", b"some")
    (tmp_path / "far.yaml").write_text(ELSEWHERE)
    monkeypatch.setenv("IMAGES", str(tmp_path / "images"))
    make_runs(tmp_path / "far.yaml", tmp_path / "runs")
    here = results("table", "far.yaml", "--format", "md")
    assert "| 2 | 80.00 (n=1) |\n" in here and not caplog.messages
    results("plot", "far.yaml", "--out", "here", "--format", "svg")
    shutil.rmtree(tmp_path / "images")
    assert results("table", "far.yaml", "--format", "md") == here
    (said,) = caplog.messages
    assert said.startswith("far: its images are not here; taken to be those of its runs, ")
    monkeypatch.delenv("IMAGES")
    assert results("table", "far.yaml", "--format", "md") == here
    assert results("check", "far.yaml").startswith("ok  ")
    results("plot", "far.yaml", "--out", "there", "--format", "svg")
    assert (tmp_path / "here" / "macs.svg").read_bytes() == (tmp_path / "there" / "macs.svg").read_bytes()
    results("report", "far.yaml")


def test_results_on_a_set_of_torchvision_are_shown_where_it_is_not(tmp_path, results, monkeypatch):
    write_mnist(tmp_path / "images", random_set(10, (10, 1), 28, 28))
    written = ELSEWHERE.split("plots:")[0].replace("name: image_folder", "name: torchvision, dataset: FashionMNIST")
    written = written.replace("pretrain.epochs: [1, 2]", "data.placed: [false, true]")
    (tmp_path / "far.yaml").write_text(written.replace("rows: [pretrain_epochs]", "rows: [data.placed]"))
    monkeypatch.setenv("IMAGES", str(tmp_path / "images"))
    make_runs(tmp_path / "far.yaml", tmp_path / "runs")
    here = results("table", "far.yaml", "--format", "md")
    assert "| no | 80.00 (n=1) |\n| yes | 80.00 (n=1) |\n" in here
    shutil.rmtree(tmp_path / "images")
    assert results("table", "far.yaml", "--format", "md") == here
    monkeypatch.delenv("IMAGES")
    assert results("table", "far.yaml", "--format", "md") == here


def test_without_images_it_must_be_plain_which_runs_are_meant(folder, tmp_path, results, monkeypatch):
    (tmp_path / "far.yaml").write_text(ELSEWHERE)
    shutil.rmtree(folder / "runs")
    (folder / "runs").mkdir()
    monkeypatch.delenv("IMAGES", raising=False)
    not_set = (
        "far.yaml:3:30: data.path: the environment variable IMAGES is not set; export IMAGES=… or write a path here"
    )
    assert results("table", "far.yaml", ends=2) == f"{not_set}\n"
    for content in (b"some", b"other"):
        images_below(tmp_path / "images", content)
        monkeypatch.setenv("IMAGES", str(tmp_path / "images"))
        make_runs(tmp_path / "far.yaml", tmp_path / "runs")
        shutil.rmtree(tmp_path / "images")
    monkeypatch.delenv("IMAGES")
    first, second = results("table", "far.yaml", ends=2).splitlines()
    assert first == not_set
    assert second.startswith("far was run on several data sets (") and second.endswith("tell which is meant")


def test_runs_of_several_roots_are_one_table(folder, results):
    """The second root has two of the seeds, one of them too; what both have counts once."""
    for path in sorted((folder / "runs").glob("*/*")):
        seed = json.loads((path / "config.json").read_text())["job"]["seed"]
        other = folder / "others" / path.relative_to(folder / "runs")
        other.parent.mkdir(parents=True, exist_ok=True)
        if seed == 2:
            path.rename(other)
        elif seed == 1:
            shutil.copytree(path, other)
    words = ("grid.yaml", "--format", "md", "--root")
    assert "| MixMAE | 80.50 ± 0.71 (n=2) |\n" in results("table", *words, "runs")
    assert "| MixMAE | 81.00 ± 1.00 (n=3) |\n" in results("table", *words, "runs", "--root", "others")
    assert results("check", "grid.yaml", "--root", "others", "--root", "runs").count("n = 3\n") == 2


@pytest.mark.parametrize(
    "words",
    [["table", "grid.yaml"], ["plot", "grid.yaml"], ["collect"], ["gallery", "0"], ["report", "grid.yaml"]],
    ids=lambda words: words[0],
)
def test_a_file_where_a_folder_is_to_be_written_is_said(folder, results, words):
    (folder / "grid.yaml").write_text(f"{GRID}plots: [{{name: epochs}}]\n")
    if words[0] != "report":
        assert results(*words, "--out", "grid.yaml", ends=2) == "--out grid.yaml: is a file; name a folder\n"
    inside = "--out grid.yaml/out: grid.yaml is a file; name a folder\n"
    assert results(*words, "--out", "grid.yaml/out", ends=2) == inside


def test_a_folder_where_a_page_is_to_be_written_is_said(results):
    said = "--out runs: is a folder; name the page in it, runs/index.html\n"
    assert results("report", "grid.yaml", "--out", "runs", ends=2) == said


def test_diff_ends_with_0_whatever_differs(folder, results):
    make_runs(folder / "grid.yaml", folder / "others", more=1.0)
    assert "\nSame run, other figures or state:\n" in results("diff", "runs", "others")
    found = json.loads(results("diff", "runs", "others", "--json"))
    assert (found["schema"], found["a"], found["runs"]) == (1, "runs", {"a": 9, "b": 9, "both": 9})
    assert len(found["refigured"]) == 6
    assert "no such folder" in results("diff", "runs", "nowhere", ends=2)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            "plots: [{name: a, kind: forest}]",
            "grid.yaml:12:9: plots[0]: plot a: a forest needs the setting that others",
        ),
        (
            "plots: [{name: a, kind: forest, reference: {method: simim}}]",
            "grid.yaml:12:9: plots[0]: plot a: no setting has method: simim; write in reference",
        ),
        (
            "expected: [{where: {method: simim}, top1: 80}]",
            "grid.yaml:12:12: expected[0]: no fine-tuning of this grid has method simim; write one of mixmae",
        ),
        (
            "expected: [{where: {method: mixmae}, stage: knn, top1: 80}]",
            "grid.yaml:12:12: expected[0]: no kNN of this grid has method mixmae; write one of those it runs",
        ),
    ],
)
def test_what_could_never_be_shown_is_refused_before_anything_runs(folder, monkeypatch, capsys, more, message):
    grid = GRID.partition("expected:")[0].replace("seed: [0, 1, 2]", "pretrain.epochs: [20, 30]")
    (folder / "grid.yaml").write_text(grid + "\n\n\n" + more)
    monkeypatch.chdir(folder)
    for command in ("plan", "run"):
        monkeypatch.setattr("sys.argv", ["mixmae", "--root", "new", "grid", command, "grid.yaml"])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2 and capsys.readouterr().err.startswith(message)
    assert not (folder / "new").exists()


def test_the_best_settings_are_told_and_listed(results):
    said = results("best", "grid.yaml", "--by", "linear", "--within", "method", "--root", "runs")
    assert "### MixMAE" in said and "| 71.00 | 3 |" in said
    listed = results("best", "grid.yaml", "--by", "linear", "--list", "--root", "runs")
    assert listed == "list:\n- {method: mixmae, encoder: swin_nano}\n"
    assert json.loads(results("best", "grid.yaml", "--by", "finetune", "--json", "--root", "runs"))["schema"] == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--by", "liner"), "did you mean linear?"),
        (("--by", "linear.top9"), "linear measures no 'top9'"),
        (("--by", "linear", "--within", "methd"), "no case has methd; did you mean method?"),
        (("--by", "linear", "--sweep", "none"), "no sweep 'none'; write one of all"),
        (("--by", "knn"), "no case of this grid has knn"),
        (("--by", "linear", "--list", "--json"), "leave out one of them"),
    ],
)
def test_what_a_grid_has_not_cannot_be_best(results, words, said):
    assert said in results("best", "grid.yaml", "--root", "runs", *words, ends=2)
