"""Plug-ins: a package with its distribution and a single module, from the grid to the report, in real workers."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from mixmae.experiment.plugins import recall
from mixmae.experiment.stages import stages
from mixmae.fields.specs import UnknownName
from mixmae.runs.folder import RunFolder
from mixmae.training.resources import Resources
from results.rows.collect import collect
from support.checkout import write_readme_plugin
from support.forked import job, program
from support.program import COMMAND

HERE = Path(__file__).parent


def mixmae(*words: str, folder: Path, path: Path | None, check: int = 0, anew: bool = False) -> CompletedProcess:
    """The command in `folder`, with `path` on PYTHONPATH, which must end with the code `check`; anew: by a Python of
    its own, as a shell starts it."""
    before = os.environ.get("PYTHONPATH", "")
    found = {"PYTHONPATH": os.pathsep.join(filter(None, (str(path) if path else "", before)))}
    words = ("--root", "runs", *words)
    if anew:
        command, options = [*COMMAND, *words], {"capture_output": True, "text": True, "timeout": 900}
        ended = subprocess.run(command, cwd=folder, env=os.environ | found, **options)
    else:
        forked = program(*words, folder=folder, **found)
        said = forked.communicate(900)
        ended = CompletedProcess(words, forked.returncode, *said)
    assert ended.returncode == check, ended.stdout + ended.stderr
    return ended


pytestmark = pytest.mark.usefixtures("forgotten_plugins")


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    """A folder to put on PYTHONPATH: the toy package, and the module that the README shows."""
    found = tmp_path_factory.mktemp("path")
    shutil.copytree(HERE / "site", found, dirs_exist_ok=True)
    write_readme_plugin(found)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory, path) -> Path:
    """Where the toy grid has run."""
    found = tmp_path_factory.mktemp("toys")
    shutil.copy(HERE / "toys.yaml", found)
    ended = mixmae("grid", "run", "toys.yaml", folder=found, path=path, anew=True)
    assert "24/24 done" in ended.stderr
    return found


def configs(folder: Path, stage: str) -> list[dict]:
    return [json.loads(file.read_text()) for file in sorted((folder / "runs" / stage).glob("*/config.json"))]


def test_the_plan_names_the_toys_settings_and_the_columns_it_adds(folder, path):
    said = mixmae("grid", "plan", "toys.yaml", folder=folder, path=path).stdout
    assert "share 0.75" in said and "disc_size" in said
    assert re.search(r"method\.share", said)


def test_an_evaluation_of_three_figures_is_tabulated_by_its_error(folder, path):
    mixmae("results", "table", "toys.yaml", folder=folder, path=path)
    rows = list(csv.DictReader((next(folder.glob("runs/**/toys.csv"))).open(encoding="utf-8")))
    assert [(row["method"], row["encoder"], row["method.share"]) for row in rows] == [
        ("mixmae", "swin_nano", ""),
        ("context", "toy_mixer_nano", "0.5"),
        ("context", "toy_mixer_nano", "0.75"),
    ]
    text = next(folder.glob("runs/**/toys.md")).read_text(encoding="utf-8")
    assert "Mean absolute error in sizes, lower is better (size)" in text
    assert "top-1 accuracy in % (mean, fine-tuning)" in text
    header = next(line for line in text.splitlines() if line.startswith("| method"))
    assert header == "| method | encoder | method.share | size | size, within one | mean | fine-tuning |"


def test_plots_and_report_are_drawn(folder, path):
    mixmae("results", "report", "toys.yaml", folder=folder, path=path)
    drawn = {file.name for file in folder.glob("runs/**/*.png")}
    assert {"dots.png", "bars.png", "losses.png"} <= drawn
    page = next(folder.glob("runs/**/index.html")).read_text(encoding="utf-8")
    assert "size of discs" in page and "Context" in page


def test_an_epoch_that_was_not_evaluated_has_no_metrics_and_the_last_has(folder):
    for metrics in folder.glob("runs/disc_size/*/metrics.jsonl"):
        lines = [json.loads(line) for line in metrics.read_text().splitlines()]
        evaluated = [{"error", "rms", "within_one"} <= line.keys() for line in lines[-3:]]
        assert evaluated == [False, True, True]


def test_a_file_that_an_evaluation_leaves_is_hashed(folder):
    for result in folder.glob("runs/disc_size/*/result.json"):
        assert "predictions.csv" in json.loads(result.read_text())["files"]


def test_it_starts_from_the_fine_tuning(folder):
    for config in configs(folder, "disc_size"):
        assert config["job"]["start_stage"] == "finetune"


def test_configs_say_where_plug_ins_come_from(folder, path):
    by_name = {one["name"]: one for config in configs(folder, "disc_size") for one in config.get("plugins", [])}
    assert by_name["disc_size"]["distribution"] == by_name["discs"]["distribution"] == "toybox 1.2"
    assert by_name["disc_size"]["metrics"][0]["higher_is_better"] is False
    (alone,) = {json.dumps(one) for config in configs(folder, "nearest_mean:SPEC") for one in config["plugins"]
                if one["kind"] == "evaluation"}  # fmt: skip
    assert json.loads(alone)["distribution"] is None and len(json.loads(alone)["sha256"]) == 64
    environment = json.loads(next(folder.glob("runs/disc_size/*/environment.json")).read_text())
    assert environment["evaluation disc_size"].startswith("toybox 1.2, version 1, sha256 ")


def test_runs_are_read_where_no_plug_in_is(folder):
    code = (
        "import sys\nfrom pathlib import Path\nfrom results.rows.collect import collect\n"
        "from mixmae.presentation.row import method_labels, stage_label\nfor _ in range(2):\n"
        "    frame = collect(Path('runs'))\n"
        "    assert not frame.attrs['problems'], frame.attrs['problems']\n"
        "assert frame[frame.stage == 'disc_size'].error.notna().all()\n"
        "print(stage_label('disc_size'), stage_label('nearest_mean:SPEC'), method_labels()['context'], sep='|')\n"
        "assert not [name for name in sys.modules if 'toybox' in name or name == 'nearest_mean']\n"
    )
    ended = subprocess.run([sys.executable, "-P", "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "size of discs|nearest mean|Context\n"
    ended = mixmae("results", "diff", "runs", "runs", folder=folder, path=None)
    assert "disc_size" not in ended.stderr


def test_a_record_never_stands_in_for_what_is_here():
    record = {"kind": "evaluation", "name": "knn", "label": "forged", "metrics": [], "leaves_encoder": False}
    recall([{**record, "metrics": [{"name": "a", "label": "a", "short": "a"}]}])
    assert stages["knn"].label == "kNN" and "forged" not in [spec.label for spec in stages]


def test_a_damaged_record_breaks_its_run_alone(folder, tmp_path):
    shutil.copytree(folder / "runs", tmp_path / "runs")
    run = RunFolder(tmp_path / "runs", "disc_size", next((tmp_path / "runs" / "disc_size").iterdir()).name)
    run.write("config", run.read("config") | {"plugins": [{"kind": "evaluation"}]})
    frame = collect(tmp_path / "runs")
    assert len(frame) == 23 and "lacks a field" in frame.attrs["problems"][0]


def test_a_plan_without_the_plug_in_is_refused_with_its_place(folder):
    said = mixmae("grid", "plan", "toys.yaml", folder=folder, path=None, check=2).stderr
    assert "toys.yaml:" in said and "dots" in said
    said = mixmae("grid", "plan", "toys.yaml", folder=folder, path=HERE / "site", check=2).stderr
    assert re.search(r"toys.yaml:13:\d+: evaluations.mean.kind: no evaluation 'nearest_mean:SPEC': No module", said)
    assert "put its folder on PYTHONPATH" in said


def pretrainings(folder: Path, path: Path) -> set[str]:
    """The ids that the grid plans."""
    said = mixmae("grid", "status", "toys.yaml", "--json", folder=folder, path=path).stdout
    return {job["id"] for job in json.loads(said)["jobs"] if job["stage"] == "pretrain"}


def edited(path: Path, tmp_path: Path, module: str, old: str, new: str) -> Path:
    """A copy of what lies in `path`, with a text in one of its modules replaced."""
    copy = tmp_path / "edited"
    shutil.copytree(path, copy)
    text = (copy / module).read_text()
    assert old in text
    (copy / module).write_text(text.replace(old, new))
    return copy


def test_a_version_that_is_raised_is_another_id(folder, path, tmp_path):
    newer = edited(path, tmp_path, "toybox/context_spec.py", "    hidden_by =", "    version = 2\n    hidden_by =")
    before, after = pretrainings(folder, path), pretrainings(folder, newer)
    assert len(before) == len(after) == 6
    assert len(before & after) == 2, "only those of MixMAE stay"


def test_a_file_that_changed_since_the_plan_is_warned_of(folder, path, tmp_path):
    newer = edited(path, tmp_path, "toybox/disc_size_spec.py", "SPEC =", "# another file\nSPEC =")
    shutil.copytree(folder / "runs", tmp_path / "runs")
    run = RunFolder(tmp_path / "runs", "disc_size", next((tmp_path / "runs" / "disc_size").iterdir()).name)
    for name in ("result.json", "state.json"):
        (run.path / name).unlink()
    ended = job(run, Resources(workers=0), PYTHONPATH=os.pathsep.join([str(newer), os.environ.get("PYTHONPATH", "")]))
    assert ended.communicate(300)[0] == "done\n"
    assert "disc_size was planned as toybox 1.2, version 1, sha256 " in (run.path / "log.txt").read_text()
    (recorded,) = [one for one in run.read("config")["plugins"] if one["name"] == "disc_size"]
    assert recorded["sha256"] in run.read("environment")["evaluation disc_size"]


def test_what_is_done_keeps_the_plug_in_that_computed_it_and_other_files_are_named(folder, path, tmp_path):
    """By plan, run, tables and report: a plug-in that was changed while its version stayed."""
    shutil.copytree(folder / "runs", tmp_path / "runs")
    shutil.copy(folder / "toys.yaml", tmp_path)
    newer = edited(path, tmp_path, "nearest_mean.py", "100 * hits", "99 * hits")
    before = configs(tmp_path, "nearest_mean:SPEC")
    changed = "6 done runs of nearest_mean:SPEC used no distribution, version 1, sha256 "
    assert changed in mixmae("grid", "plan", "toys.yaml", folder=tmp_path, path=newer).stdout
    assert changed in mixmae("grid", "run", "toys.yaml", folder=tmp_path, path=newer).stderr
    assert configs(tmp_path, "nearest_mean:SPEC") == before

    run = RunFolder(tmp_path / "runs", "nearest_mean:SPEC", before[0]["id"])
    for name in ("result.json", "state.json"):
        (run.path / name).unlink()
    mixmae("grid", "run", "toys.yaml", folder=tmp_path, path=newer)
    mixmae("results", "report", "toys.yaml", folder=tmp_path, path=newer)
    page = next(tmp_path.glob("runs/**/index.html")).read_text(encoding="utf-8")
    assert "are repetitions, but used different files of evaluation nearest_mean:SPEC (sha256 " in page
    shas = {one["sha256"] for config in configs(tmp_path, "nearest_mean:SPEC") for one in config["plugins"]
            if one["kind"] == "evaluation"}  # fmt: skip
    assert len(shas) == 2 and all(sha in page for sha in shas)


def test_only_another_file_is_another_plug_in(folder, tmp_path):
    """Not the same file of another distribution."""
    shutil.copytree(folder / "runs", tmp_path / "runs")
    runs = [RunFolder(tmp_path / "runs", "disc_size", place.name) for place in (tmp_path / "runs/disc_size").iterdir()]
    for run in runs[:3]:
        config = run.read("config")
        newer = [{**one, "distribution": "toybox 1.3"} for one in config["plugins"]]
        run.write("config", {**config, "plugins": newer})
    assert collect(tmp_path / "runs").attrs["problems"] == []
    other = [{**one, "sha256": "0" * 64} for one in newer]
    run.write("config", {**config, "plugins": other})
    problems = collect(tmp_path / "runs").attrs["problems"]
    assert problems and all("are repetitions, but used different files of " in problem for problem in problems)


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("a_class", "NearestMean()", "NearestMean", "it is a class; write SPEC = NearestMean(); mend"),
        ("a_function", "SPEC = NearestMean()", "SPEC = run", "it is a function and no spec; name an object of a class"),
        ("no_run", ' "nearest_mean:run", (TOP1,)', " (TOP1,)", "it has no run; mend"),
        (
            "text",
            "    recipe, run",
            '    version = "2"\n    recipe, run',
            "its version is '2', which is no whole number",
        ),
        ("nothing", "SPEC = NearestMean()", "", "has no attribute 'SPEC'; mend it, or what names it"),
    ],
)
def test_what_cannot_be_a_spec_is_refused_by_what_it_lacks(path, tmp_path, monkeypatch, name, old, new, said):
    text = (path / "nearest_mean.py").read_text()
    assert old in text
    text = text.replace(old, new).replace("recipe, run, metrics = Recipe, (", "recipe, metrics = Recipe, (")
    (tmp_path / f"{name}.py").write_text(text.replace("nearest_mean:SPEC", f"{name}:SPEC"))
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UnknownName, match=re.escape(said)):
        stages[f"{name}:SPEC"]


@pytest.mark.parametrize(
    ("figure", "what"),
    [
        ('{"top2": 100', "returned top2, loss, epochs, and not top1, which is one of its metrics"),
        ('{"top1": float("nan"), "all": 100', "returned nan as top1, which is no number"),
    ],
)
def test_an_evaluation_without_its_metric_fails_and_names_it(folder, path, tmp_path, figure, what):
    other = edited(path, tmp_path, "nearest_mean.py", '{"top1": 100', figure)
    shutil.copytree(folder / "runs", tmp_path / "runs")
    run = RunFolder(tmp_path / "runs", "nearest_mean:SPEC", configs(tmp_path, "nearest_mean:SPEC")[0]["id"])
    for name in ("result.json", "state.json"):
        (run.path / name).unlink()
    ended = job(run, Resources(workers=0), PYTHONPATH=os.pathsep.join([str(other), os.environ.get("PYTHONPATH", "")]))
    assert ended.communicate(300)[0] == "failed\n"
    assert what in run.read("state")["reason"]
    assert run.read("result") is None


def test_a_plug_in_by_another_name_than_its_own_is_refused(folder, path, tmp_path):
    other = edited(path, tmp_path, "nearest_mean.py", '"nearest_mean:SPEC", "', '"other", "')
    said = mixmae("grid", "plan", "toys.yaml", folder=folder, path=other, check=2).stderr
    assert "no evaluation 'nearest_mean:SPEC': it calls itself 'other'" in said
