"""Collecting run folders into one frame."""

import json
import shutil

import pandas as pd
import pyarrow.parquet as pq
import pytest

import mixmae
from mixmae.experiment.jobs import stage_jobs
from mixmae.files.records import NewerSchema
from mixmae.runs.folder import RunFolder
from mixmae.runs.state import run_state
from results.rows.collect import COLUMNS, UNWRITTEN, collect, write
from support.made_runs import FINETUNE, FINGERPRINT, PRETRAIN, experiment, write_config, write_pretraining, write_state


def row_of(frame, planned):
    return frame[(frame["stage"] == planned.stage) & (frame["id"] == planned.id)].iloc[0]


# --------------------------------------------------------------------------------------------------------- collecting


def test_an_evaluation_has_the_columns_of_its_pretraining(made):
    pretrain, finetune, *_ = stage_jobs(experiment("mixmae", seed=1), lambda data: FINGERPRINT)
    frame = collect(made.root)
    assert list(frame.columns) == [*COLUMNS, *UNWRITTEN[1:]]
    assert len(frame) == 15
    row = row_of(frame, finetune)
    expected = {
        "state": "done", "method": "mixmae", "encoder": "swin_nano", "seed": 1, "data": "digits", "image_size": "32",
        "pretrain_epochs": 20, "ratio": 0.5, "images": 2, "fill": "image", "dual": True, "masked_attention": True,
        "mix_embedding": False, "normalised_target": True, "decoder_depth": 8, "decoder_width": 512, "epochs": 4,
        "top1": 92.0, "top5": 97.0, "pretrain_loss": 0.6, "pretraining": pretrain.id,
    }  # fmt: skip
    assert {name: row[name] for name in expected} == expected
    assert row_of(frame, pretrain)["loss"] == 0.6


def test_without_pretraining_the_method_says_what_was_evaluated(made):
    frame = collect(made.root)
    plain = frame[frame["pretraining"].isna() & (frame["stage"] != "pretrain")]
    said = {(row.stage, row.method, row.encoder) for row in plain.itertuples()}
    assert said == {
        ("finetune", "supervised", "swin_nano"),
        ("linear", "random init", "swin_nano"),
        ("knn", "random init", "swin_nano"),
        ("knn", "raw pixels", "-"),
    }
    assert plain["ratio"].isna().all() and plain["pretrain_epochs"].isna().all()


def test_states_other_than_done_are_rows_without_figures(made):
    jobs = stage_jobs(experiment("mae", seed=0), lambda data: FINGERPRINT)
    for planned, state in zip(jobs, ("stopped", "failed", None, "running"), strict=True):
        run = write_config(made.root, planned)
        if state:
            write_state(run, state, reason="out of memory" if state == "failed" else None)
    frame = collect(made.root)
    rows = [row_of(frame, planned) for planned in jobs]
    assert [row["state"] for row in rows] == ["stopped", "failed", "planned", "stopped"]
    assert rows[1]["reason"] == "out of memory"
    assert rows[3]["reason"] == "its process died"
    assert all(pd.isna(row["top1"]) and pd.isna(row["loss"]) for row in rows)


def test_the_state_is_that_of_mixmae_runs(made):
    pretrain, finetune, *_ = stage_jobs(experiment("mae", seed=0), lambda data: FINGERPRINT)
    write_state(write_config(made.root, pretrain), "failed", "diverged")
    run = write_config(made.root, finetune)
    run.write("launch", {"tries": 1, "cancelled": False})
    needs = run_state(RunFolder(made.root, "pretrain", pretrain.id))
    assert row_of(collect(made.root), finetune)["state"] == run_state(run, needs).state == "blocked"


def test_broken_folders_are_named_and_left_out(made, caplog):
    jobs = stage_jobs(experiment("mae", seed=0), lambda data: FINGERPRINT)
    half, no_result, renamed, empty = (write_config(made.root, planned) for planned in jobs)
    (half.path / "config.json").write_text('{"schema": 1, "id": "ab')
    write_state(no_result, "done")
    renamed.path.rename(renamed.path.with_name("0123456789abcdef"))
    (empty.path / "config.json").unlink()
    frame = collect(made.root)
    assert len(frame) == 15
    problems = sorted(frame.attrs["problems"])
    assert [problem.split(": ")[0] for problem in problems] == [
        f"finetune/{no_result.id}",
        f"knn/{empty.id}",
        "linear/0123456789abcdef",
        f"pretrain/{half.id}",
    ]
    assert problems[0].endswith("state.json says done but there is no result.json; left out")
    assert problems[1].endswith("no config.json; left out")
    assert problems[2].endswith("config.json is not that of linear/0123456789abcdef; left out")
    assert "config.json cannot be read" in problems[3]
    assert sorted(record.getMessage() for record in caplog.records) == problems


@pytest.mark.parametrize("name", ["state", "launch", "result"])
@pytest.mark.parametrize("text", ["", "[1]", "null", '{"state": "done"', "\x00\x00"])
def test_half_written_files_are_never_fatal(made, name, text):
    planned = stage_jobs(experiment("simmim", seed=0), lambda data: FINGERPRINT)[1]
    (RunFolder(made.root, "finetune", planned.id).path / f"{name}.json").write_text(text)
    frame = collect(made.root)
    assert len(frame) == 14
    assert frame.attrs["problems"][0].startswith(f"finetune/{planned.id}: {name}.json cannot be read")


def test_a_config_without_a_field_is_named(made):
    planned = stage_jobs(experiment("simmim", seed=0), lambda data: FINGERPRINT)[1]
    run = RunFolder(made.root, "finetune", planned.id)
    config = run.read("config")
    del config["job"]["seed"]
    run.write("config", config)
    assert "lacks a field (KeyError: 'seed')" in collect(made.root).attrs["problems"][0]


def test_a_missing_pretraining_leaves_the_method_unknown(made):
    pretrain, finetune, *_ = stage_jobs(experiment("simmim", seed=0), lambda data: FINGERPRINT)
    shutil.rmtree(RunFolder(made.root, "pretrain", pretrain.id).path)
    frame = collect(made.root)
    row = row_of(frame, finetune)
    assert (row["method"], row["top1"]) == ("unknown", 90.5)
    assert f"finetune/{finetune.id}: its pretraining {pretrain.id} is missing" in frame.attrs["problems"][0]


def test_a_run_that_is_blocked_says_what_it_started_from(tmp_path):
    after = {"knn": None, "linear": {"kind": "linear", "start": "finetune"}}
    jobs = stage_jobs(experiment(evaluations={"finetune": FINETUNE, **after}), lambda data: FINGERPRINT)
    pretrain, finetune, linear = jobs
    write_pretraining(tmp_path, pretrain, 0.5)
    write_state(write_config(tmp_path, finetune), "failed")
    write_config(tmp_path, linear)
    frame = collect(tmp_path)
    row = row_of(frame, linear)
    assert (row["state"], row["reason"]) == ("blocked", "its fine-tuning: failed")


def test_a_damaged_pretraining_still_says_what_it_was(made):
    """Its config is whole: evaluations of it are those of other seeds, and stay in their table."""
    pretrain, finetune, *_ = stage_jobs(experiment("mixmae", seed=0), lambda data: FINGERPRINT)
    whole = row_of(collect(made.root), finetune)
    (RunFolder(made.root, "pretrain", pretrain.id).path / "result.json").write_text("{")
    frame = collect(made.root)
    assert (frame["id"] != pretrain.id).all()
    assert [problem.split(":")[0] for problem in frame.attrs["problems"]] == [f"pretrain/{pretrain.id}"]
    row = row_of(frame, finetune)
    for column in ("method", "pretrain_epochs", "ratio", "top1", "config"):
        assert row[column] == whole[column]


def test_what_is_swept_without_a_short_name_is_a_column_of_files(made, tmp_path):
    rates = {"pretrain": {**PRETRAIN, "base_lr": 2e-3}}
    for planned in stage_jobs(experiment("mixmae", seed=0, **rates), lambda data: FINGERPRINT):
        write_config(made.root, planned)
    write(collect(made.root), tmp_path)
    for frame in (pd.read_parquet(tmp_path / "results.parquet"), pd.read_csv(tmp_path / "results.csv")):
        further = [name for name in frame.columns if name not in COLUMNS]
        assert further == ["pretrain.base_lr"]
        of_knn = frame[(frame["stage"] == "knn") & (frame["method"] == "mixmae")]
        assert set(of_knn["pretrain.base_lr"]) == {1e-3, 2e-3}


@pytest.mark.parametrize(
    ("field", "values", "kind", "written"),
    [
        ("flip", (True, False), "boolean", {True, False}),
        ("batch", (32, 64), "Int64", {32, 64}),
        ("weight_decay", (0.0, 1.0), "float64", {0.0, 1.0}),
        ("betas", ([0.9, 0.95], [0.9, 0.99]), "str", {"0.9, 0.95", "0.9, 0.99"}),
    ],
)
def test_a_setting_is_of_the_same_type_in_all_files(tmp_path, field, values, kind, written):
    for value in values:
        of_value = experiment("simmim", pretrain={**PRETRAIN, field: value})
        for planned in stage_jobs(of_value, lambda data: FINGERPRINT):
            write_config(tmp_path / "runs", planned)
    write(collect(tmp_path / "runs"), tmp_path)
    frame = pd.read_parquet(tmp_path / "results.parquet")
    assert [name for name in frame.columns if name not in COLUMNS] == [f"pretrain.{field}"]
    assert frame[f"pretrain.{field}"].dtype == kind and set(frame[f"pretrain.{field}"]) == written


@pytest.mark.parametrize("name", ["config", "state", "result"])
def test_a_newer_schema_is_refused_by_its_number(made, name):
    planned = stage_jobs(experiment("simmim", seed=0), lambda data: FINGERPRINT)[1]
    path = RunFolder(made.root, "finetune", planned.id).path / f"{name}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 7}))
    with pytest.raises(NewerSchema, match="schema 7, this version reads up to 1"):
        collect(made.root)


def test_an_absent_root_is_an_error_and_an_empty_one_an_empty_frame(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        collect(tmp_path / "nowhere")
    assert list(collect(tmp_path).columns) == [*COLUMNS, *UNWRITTEN[1:]]


def test_written_results_say_their_schema_and_version(made, tmp_path):
    frame = collect(made.root)
    write(frame, tmp_path / "out")
    metadata = pq.read_schema(tmp_path / "out" / "results.parquet").metadata
    assert (metadata[b"mixmae_schema"], metadata[b"mixmae_version"]) == (b"1", mixmae.__version__.encode())
    again = pd.read_parquet(tmp_path / "out" / "results.parquet")
    pd.testing.assert_frame_equal(again, frame.drop(columns=list(UNWRITTEN)))
    plain = pd.read_csv(tmp_path / "out" / "results.csv")
    assert list(plain.columns) == list(COLUMNS)[1:-1] and len(plain) == len(frame)
    assert not list((tmp_path / "out").glob(".*"))
