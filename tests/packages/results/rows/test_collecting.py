"""Collecting: what pretrainings cost, several roots, and folders that are no run's."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import pytest

from mixmae.experiment.jobs import stage_jobs
from mixmae.runs.folder import RunFolder
from results.rows.collect import collect
from support.made_runs import (
    FINGERPRINT,
    Made,
    experiment,
    runs_of,
    two_methods_and_references,
    write_config,
    write_state,
    write_timing,
)


def row_of(frame: pd.DataFrame, run: RunFolder) -> pd.Series:
    (row,) = (row for _, row in frame[(frame["stage"] == run.stage) & (frame["id"] == run.id)].iterrows())
    return row


# --------------------------------------------------------------------------------------------------------------- costs


def cost(frame: pd.DataFrame, run: RunFolder) -> tuple:
    row = row_of(frame, run)
    return tuple(None if pd.isna(value) else value for value in (row["pretrain_hours"], row["pretrain_device"]))


def test_hours_are_those_of_all_processes_of_the_pretraining(made):
    pretrain, finetune, *_ = runs_of(made.root, "mixmae")
    write_timing(pretrain, [90.0] * 19 + [90.5], processes=8, device="NVIDIA A100")
    frame = collect(made.root)
    hours = 1800.5 * 8 / 3600
    assert cost(frame, pretrain) == cost(frame, finetune) == (hours, "NVIDIA A100")
    assert frame["pretrain_hours"].notna().sum() == 4, "of the pretraining and its evaluations"
    assert not frame.attrs["problems"], "those that were not timed are no problem"


@pytest.mark.parametrize(
    ("earlier", "expected"),
    [
        ([{"processes": 4, "device": "NVIDIA A100"}], (None, "NVIDIA A100")),
        ([{"processes": 8, "device": "NVIDIA H100"}, {"processes": 8, "device": "NVIDIA A100"}],
         (1800 * 8 / 3600, "NVIDIA H100 and NVIDIA A100")),
    ],
)  # fmt: skip
def test_a_pretraining_that_went_on_elsewhere(made, earlier, expected):
    pretrain, *_ = runs_of(made.root, "mixmae")
    write_timing(pretrain, [90.0] * 20, processes=8, device="NVIDIA A100", earlier=earlier)
    assert cost(collect(made.root), pretrain) == expected


def test_costs_that_nothing_tells_or_that_were_damaged_are_unknown(made):
    pretrain, finetune, *_ = runs_of(made.root, "mixmae")
    write_timing(pretrain, [90.0] * 20)
    timing, environment = pretrain.path / "timing.jsonl", pretrain.path / "environment.json"
    whole = {path: path.read_text() for path in (timing, environment)}
    cases = [
        (timing, lambda text: text.replace("90.0", "91.0", 1), "timing.jsonl:1: damaged"),
        (timing, lambda text: text[:-20], "timing.jsonl does not tell of each of 20 epochs once"),
        (timing, lambda text: "\n".join(text.split("\n")[1:]), "timing.jsonl does not tell of each of 20 epochs once"),
        (timing, lambda text: "", "timing.jsonl does not tell of each of 20 epochs once"),
        (timing, lambda text: text.replace("seconds", "minutes"), "timing.jsonl:1: damaged"),
        (environment, lambda text: "{}", "environment.json or timing.jsonl: KeyError('earlier')"),
        (environment, lambda text: text[:-9], "environment.json cannot be read"),
        (environment, lambda text: '{"device": "cpu", "processes": -1, "earlier": []}', "no number of processes"),
        (environment, lambda text: '{"earlier": [], "processes": 1, "device": null}', "environment.json or timing"),
    ]
    for path, change, said in cases:
        path.write_text(change(whole[path]))
        frame = collect(made.root)
        assert cost(frame, pretrain) == cost(frame, finetune) == (None, None), said
        (problem,) = frame.attrs["problems"]
        assert problem.startswith(f"pretrain/{pretrain.id}: ") and said in problem
        assert problem.endswith("; its hours and device are shown as unknown")
        assert (len(frame), row_of(frame, finetune)["top1"]) == (15, 91.0), "the figures are no worse for it"
        path.write_text(whole[path])
    assert cost(collect(made.root), pretrain) == (0.5, "cpu")
    write_state(pretrain, "stopped")
    assert cost(collect(made.root), pretrain) == (None, None)


# ------------------------------------------------------------------------------------------------------- several roots


def test_an_evaluation_finds_its_pretraining_in_another_root(made, tmp_path):
    other = tmp_path / "other"
    pretrain, finetune, *_ = runs_of(made.root, "mixmae")
    alone = collect(made.root)
    shutil.copytree(finetune.path, other / "finetune" / finetune.id)
    shutil.rmtree(finetune.path)
    for roots in ((made.root, other), (other, made.root)):
        frame = collect(*roots)
        pd.testing.assert_frame_equal(frame.drop(columns="root"), alone.drop(columns="root"))
        assert not frame.attrs["problems"]
        assert row_of(frame, finetune)["root"] == str(other) and row_of(frame, pretrain)["root"] == str(made.root)
    assert row_of(collect(other), finetune)["method"] == "unknown"


def test_a_run_waits_for_a_pretraining_in_another_root(made, tmp_path):
    pretrain, finetune, *_ = stage_jobs(experiment("mae"), lambda data: FINGERPRINT)
    write_state(write_config(tmp_path / "other", pretrain), "failed", "diverged")
    write_config(made.root, finetune).write("launch", {"tries": 1, "cancelled": False})
    assert row_of(collect(made.root), RunFolder(made.root, "finetune", finetune.id))["state"] == "pending"
    frame = collect(made.root, tmp_path / "other")
    assert row_of(frame, RunFolder(made.root, "finetune", finetune.id))["state"] == "blocked"


def test_of_a_run_in_two_roots_the_one_that_is_done_is_taken(made, tmp_path):
    other = shutil.copytree(made.root, tmp_path / "other")
    first, second = runs_of(made.root, "mixmae"), runs_of(other, "mixmae")
    write_state(first[1], "stopped")
    write_state(second[2], "failed")
    (first[3].path / "config.json").write_text("{")
    frame = collect(made.root, other)
    assert len(frame) == 15 and not frame.duplicated(["stage", "id"]).any()
    rows = [row_of(frame, run) for run in first]
    assert [row["root"] for row in rows] == [str(made.root), str(other), str(made.root), str(other)]
    assert [row["state"] for row in rows] == ["done"] * 4
    (problem,) = frame.attrs["problems"]
    assert problem.startswith(f"{made.root}/knn/{first[3].id}: config.json cannot be read")


def test_two_results_of_one_run_are_a_problem_where_their_figures_differ(made, tmp_path):
    other = shutil.copytree(made.root, tmp_path / "other")
    theirs = runs_of(other, "mixmae")[1]
    result = theirs.read("result")
    theirs.write("result", {**result, "files": {"checkpoints/final.safetensors": "another"}})
    assert not collect(made.root, other).attrs["problems"], "last bits of weights are not figures"
    theirs.write("result", {**result, "top1": 91.5, "loss": 0.31})
    frame = collect(made.root, other)
    ours = RunFolder(made.root, "finetune", theirs.id)
    said = f"{ours.path} and {theirs.path} differ in loss, top1; the first is taken"
    assert frame.attrs["problems"] == [said]
    assert row_of(frame, ours)["top1"] == 91.0
    assert row_of(collect(other, made.root), ours)["top1"] == 91.5


def test_a_root_named_twice_counts_once(made, tmp_path):
    (tmp_path / "link").symlink_to(made.root)
    frame = collect(made.root, tmp_path / "link", made.root)
    assert len(frame) == 15 and not frame.attrs["problems"]
    assert set(frame["root"]) == {str(made.root)}


def test_the_command_collects_several_roots(made, tmp_path, called):
    other = tmp_path / "other"
    Made(other).add(experiment("mae"), knn=70.0)
    command = ["--root", "nowhere", "results", "collect"]
    out, _ = called(*command, "--root", str(other), "--root", "runs", folder=tmp_path)
    assert out.startswith(f"17 runs: {other / 'results' / 'results.parquet'}, ")
    assert len(pd.read_parquet(other / "results" / "results.parquet")) == 17
    assert "nowhere: no such folder" in called(*command, folder=tmp_path, check=2)[1]


# ------------------------------------------------------------------------------------------------ what is no run folder


def write_plain(path: Path, change: Callable[[dict], None]) -> None:
    """The document at `path`, changed, and without a checksum, as another program would write it."""
    data = json.loads(path.read_text())
    del data["checksum"]
    change(data)
    path.write_text(json.dumps({**data, "last": 0}))


FOREIGN = {
    "seed": ("config", lambda data: data["job"].update(seed="abc")),
    "a large seed": ("config", lambda data: data["job"].update(seed=2**70)),
    "a true seed": ("config", lambda data: data["job"].update(seed=True)),
    "a name that is no text": ("config", lambda data: data["job"]["encoder"].update(name="\ud800")),
    "size": ("config", lambda data: data["job"].update(image_size="ab")),
    "no recipe": ("config", lambda data: data["job"].update(recipe=[])),
    "pretraining": ("config", lambda data: data["job"].update(pretraining=["a"])),
    "fraction": ("config", lambda data: data["job"]["recipe"]["subset"].update(fraction="all")),
    "tries": ("state", lambda data: data.update(state="failed", tries=[])),
    "state": ("state", lambda data: data.update(state="finished")),
    "another state": ("state", lambda data: data.update(state=["done"])),
    "reason": ("state", lambda data: data.update(reason={"a": 1})),
    "top1": ("result", lambda data: data.update(top1="91.0")),
    "no top1": ("result", lambda data: data.update(top1=None)),
    "files": ("result", lambda data: data.update(files=["metrics.jsonl"])),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_values_that_are_not_of_their_type(made, name):
    _, run, *_ = runs_of(made.root, "simmim")
    run.write("launch", {"tries": 1, "cancelled": False})
    document, change = FOREIGN[name]
    write_plain(run.path / f"{document}.json", change)
    frame = collect(made.root)
    assert len(frame) == 14
    (problem,) = frame.attrs["problems"]
    assert problem.startswith(f"finetune/{run.id}: ") and problem.endswith("; left out") and problem.isprintable()


def test_a_document_of_an_older_version_has_no_checksum(made):
    _, run, *_ = runs_of(made.root, "simmim")
    before = collect(made.root)
    for name in ("config", "state", "result"):
        write_plain(run.path / f"{name}.json", lambda data: None)
    after = collect(made.root)
    pd.testing.assert_frame_equal(after.drop(columns="figures"), before.drop(columns="figures"))


def test_what_else_lies_there_is_listed_and_left_alone(made):
    stage = made.root / "pretrain"
    outside = len(list(stage.iterdir()))
    (stage / "notes.txt").write_text("note")
    (stage / ".DS_Store").write_text("")
    (stage / "loop").symlink_to("loop")
    (stage / "gone").symlink_to("nowhere")
    (stage / "empty").mkdir()
    (stage / "lightning_logs" / "version_0").mkdir(parents=True)
    (stage / "a\nb\udcff").mkdir()
    (stage / "pipe" / "sub").mkdir(parents=True)
    os.mkfifo(stage / "pipe" / "config.json")
    (stage / "folder" / "config.json").mkdir(parents=True)
    (stage / "wandb").mkdir()
    (stage / "wandb" / "config.json").write_text('{"project": {"value": 1}}')
    frame = collect(made.root)
    assert len(list(stage.iterdir())) == outside + 10
    assert len(frame) == 15
    assert sorted(frame.attrs["problems"]) == [
        "pretrain/a\\nb\\udcff: no config.json; left out",
        "pretrain/empty: no config.json; left out",
        "pretrain/folder: config.json is not a file; left out",
        "pretrain/gone: not a folder; left out",
        "pretrain/lightning_logs: no config.json; left out",
        "pretrain/loop: not a folder; left out",
        "pretrain/notes.txt: not a folder; left out",
        "pretrain/pipe: config.json is not a file; left out",
        "pretrain/wandb: config.json is not that of pretrain/wandb; left out",
    ]


def test_a_stage_that_is_a_file(made):
    shutil.rmtree(made.root / "knn")
    (made.root / "knn").write_text("")
    frame = collect(made.root)
    assert set(frame["stage"]) == {"pretrain", "finetune", "linear"}
    assert frame.attrs["problems"] == ["knn: cannot be read (Not a directory); left out"]


def test_what_may_not_be_read_is_named():
    with TemporaryDirectory(dir="/tmp") as place:
        os.chmod(place, 0o755)
        made = two_methods_and_references(Path(place) / "runs")
        (closed, file, *_), (metrics, *_) = runs_of(made.root, "mixmae"), runs_of(made.root, "mixmae", 1)
        metrics.commit({"loss": 0.6, "epochs": 20})
        locked = [closed.path, file.path / "result.json", metrics.metrics, made.root / "knn"]
        for path in locked:
            path.chmod(0)
        owner = os.geteuid()
        try:
            if not owner:
                os.seteuid(65534)  # who may do everything is never refused
            frame = collect(made.root)
        finally:
            os.seteuid(owner)
            for path in locked:
                path.chmod(0o755)
        problems = frame.attrs["problems"]
    left_out = [problem.split(": ")[0] for problem in problems if problem.endswith("; left out")]
    assert left_out == [f"pretrain/{run.id}" for run in sorted((closed, metrics), key=lambda run: run.id)] + [
        f"finetune/{file.id}", "knn"
    ]  # fmt: skip
    assert all("Permission denied" in problem for problem in problems if problem.endswith("; left out"))
    assert (frame["method"] == "unknown").sum() == 1, "evaluation of the pretraining whose config cannot be read"
