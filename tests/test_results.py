"""Collecting run folders, tables against text worked out by hand, and published numbers."""

import json
import shutil

import pandas as pd
import pyarrow.parquet as pq
import pytest
from made_runs import FINGERPRINT, Made, declared, experiment, two_methods_and_references, write_config, write_state

import mixmae
from mixmae.jobs import stage_jobs
from mixmae.presentation import Declaration, TableSpec
from mixmae.runs import NewerSchema, RunFolder, run_state
from results.cells import MixedCell, differing_fields
from results.collect import COLUMNS, collect, write
from results.published import Published, published_for, published_results
from results.tables import build_table, markdown, write_tables


@pytest.fixture
def made(tmp_path):
    return two_methods_and_references(tmp_path / "runs")


def row_of(frame, planned):
    return frame[(frame["stage"] == planned.stage) & (frame["id"] == planned.id)].iloc[0]


# --------------------------------------------------------------------------------------------------------- collecting


def test_an_evaluation_has_the_columns_of_its_pretraining(made):
    pretrain, finetune, *_ = stage_jobs(experiment("mixmae", seed=1), FINGERPRINT)
    frame = collect(made.root)
    assert list(frame.columns) == list(COLUMNS)
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
    jobs = stage_jobs(experiment("mae", seed=0), FINGERPRINT)
    for planned, state in zip(jobs, ("stopped", "failed", None, "running"), strict=True):
        run = write_config(made.root, planned)
        if state:
            write_state(run, state, reason="out of memory" if state == "failed" else None)
    frame = collect(made.root)
    rows = [row_of(frame, planned) for planned in jobs]
    assert [row["state"] for row in rows] == ["stopped", "failed", "planned", "stopped"]
    assert rows[1]["reason"] == "out of memory"
    assert rows[3]["reason"] == "its process ended without a word"
    assert all(pd.isna(row["top1"]) and pd.isna(row["loss"]) for row in rows)


def test_the_state_is_that_of_mixmae_runs(made):
    pretrain, finetune, *_ = stage_jobs(experiment("mae", seed=0), FINGERPRINT)
    write_state(write_config(made.root, pretrain), "failed", "diverged")
    run = write_config(made.root, finetune)
    run.write("launch", {"tries": 1, "cancelled": False})
    needs = run_state(RunFolder(made.root, "pretrain", pretrain.id))
    assert row_of(collect(made.root), finetune)["state"] == run_state(run, needs).state == "blocked"


def test_broken_folders_are_named_and_left_out(made, caplog):
    jobs = stage_jobs(experiment("mae", seed=0), FINGERPRINT)
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
    planned = stage_jobs(experiment("simmim", seed=0), FINGERPRINT)[1]
    (RunFolder(made.root, "finetune", planned.id).path / f"{name}.json").write_text(text)
    frame = collect(made.root)
    assert len(frame) == 14
    assert frame.attrs["problems"][0].startswith(f"finetune/{planned.id}: {name}.json cannot be read")


def test_a_config_without_a_field_is_named(made):
    planned = stage_jobs(experiment("simmim", seed=0), FINGERPRINT)[1]
    run = RunFolder(made.root, "finetune", planned.id)
    config = run.read("config")
    del config["job"]["seed"]
    run.write("config", config)
    assert "lacks a field (KeyError: 'seed')" in collect(made.root).attrs["problems"][0]


def test_a_missing_pretraining_leaves_the_method_unknown(made):
    pretrain, finetune, *_ = stage_jobs(experiment("simmim", seed=0), FINGERPRINT)
    shutil.rmtree(RunFolder(made.root, "pretrain", pretrain.id).path)
    frame = collect(made.root)
    row = row_of(frame, finetune)
    assert (row["method"], row["top1"]) == ("unknown", 90.5)
    assert f"finetune/{finetune.id}: its pretraining {pretrain.id} is missing" in frame.attrs["problems"][0]


@pytest.mark.parametrize("name", ["config", "state", "result"])
def test_a_newer_schema_is_refused_by_its_number(made, name):
    planned = stage_jobs(experiment("simmim", seed=0), FINGERPRINT)[1]
    path = RunFolder(made.root, "finetune", planned.id).path / f"{name}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 7}))
    with pytest.raises(NewerSchema, match="schema 7, this version reads up to 1"):
        collect(made.root)


def test_an_absent_root_is_an_error_and_an_empty_one_an_empty_frame(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        collect(tmp_path / "nowhere")
    assert list(collect(tmp_path).columns) == list(COLUMNS)


def test_written_results_say_their_schema_and_version(made, tmp_path):
    frame = collect(made.root)
    write(frame, tmp_path / "out")
    metadata = pq.read_schema(tmp_path / "out" / "results.parquet").metadata
    assert (metadata[b"mixmae_schema"], metadata[b"mixmae_version"]) == (b"1", mixmae.__version__.encode())
    again = pd.read_parquet(tmp_path / "out" / "results.parquet")
    pd.testing.assert_frame_equal(again, frame.drop(columns="root"))
    plain = pd.read_csv(tmp_path / "out" / "results.csv")
    assert list(plain.columns) == list(COLUMNS)[1:-1] and len(plain) == len(frame)
    assert not list((tmp_path / "out").glob(".*"))


# ------------------------------------------------------------------------------------------------------------- tables

TABLE = TableSpec(name="main", title="Methods")


def test_a_table_is_what_one_works_out_by_hand(made, tmp_path):
    write_tables(collect(made.root), declared(made, tables=(TABLE,)), tmp_path)
    assert (tmp_path / "main.md").read_text() == (
        "### Methods\n"
        "\n"
        "| method | encoder | fine-tuning | linear | kNN |\n"
        "| --- | --- | --- | --- | --- |\n"
        "| MixMAE | swin_nano | 91.50 ± 0.71 (n=2) | 81.00 ± 1.41 (n=2) | 83.00 ± 0.00 (n=2) |\n"
        "| SimMIM | swin_nano | 90.50 (n=1) | 66.60 (n=1) | \N{EN DASH} |\n"
        "| from scratch | swin_nano | 90.25 (n=1) | \N{EN DASH} | \N{EN DASH} |\n"
        "| random init | swin_nano | \N{EN DASH} | 60.00 (n=1) | 65.00 (n=1) |\n"
        "| raw pixels | \N{EN DASH} | \N{EN DASH} | \N{EN DASH} | 88.00 (n=1) |\n"
        "\n"
        "Top-1 accuracy in %, mean ± std (n - 1) over n seeds.\n"
    )
    assert (tmp_path / "main.tex").read_text() == (
        "% Methods\n"
        "\\begin{tabular}{llrrr}\n"
        "\\toprule\n"
        "method & encoder & fine-tuning & linear & kNN \\\\\n"
        "\\midrule\n"
        "MixMAE & swin\\_nano & 91.50 $\\pm$ 0.71 (n=2) & 81.00 $\\pm$ 1.41 (n=2) & 83.00 $\\pm$ 0.00 (n=2) \\\\\n"
        "SimMIM & swin\\_nano & 90.50 (n=1) & 66.60 (n=1) & -- \\\\\n"
        "from scratch & swin\\_nano & 90.25 (n=1) & -- & -- \\\\\n"
        "random init & swin\\_nano & -- & 60.00 (n=1) & 65.00 (n=1) \\\\\n"
        "raw pixels & -- & -- & -- & 88.00 (n=1) \\\\\n"
        "\\bottomrule\n"
        "\\end{tabular}\n"
        "% Top-1 accuracy in %, mean ± std (n - 1) over n seeds.\n"
    )
    assert (tmp_path / "main.csv").read_text() == (
        "method,encoder,finetune_mean,finetune_std,finetune_n,linear_mean,linear_std,linear_n,knn_mean,knn_std,knn_n\n"
        "mixmae,swin_nano,91.5,0.7071067811865476,2,81.0,1.4142135623730951,2,83.0,0.0,2\n"
        "simmim,swin_nano,90.5,,1,66.6,,1,,,0\n"
        "supervised,swin_nano,90.25,,1,,,0,,,0\n"
        "random init,swin_nano,,,0,60.0,,1,65.0,,1\n"
        "raw pixels,-,,,0,,,0,88.0,,1\n"
    )


def test_a_failed_seed_is_a_smaller_n_and_is_named(made):
    finetune = stage_jobs(experiment("mixmae", seed=1), FINGERPRINT)[1]
    run = RunFolder(made.root, "finetune", finetune.id)
    (run.path / "result.json").unlink()
    write_state(run, "failed", "diverged")
    text = markdown(build_table(collect(made.root), TABLE, declared(made)))
    assert "| MixMAE | swin_nano | 91.00 (n=1) | 81.00 ± 1.41 (n=2) |" in text
    assert f"\nNot counted, failed: finetune/{finetune.id}.\n" in text


def test_a_row_whose_runs_have_no_folder_is_named(made):
    planned = stage_jobs(experiment("mixmae", seed=5), FINGERPRINT)[3]
    made.members["main"].add((planned.stage, planned.id))
    text = markdown(build_table(collect(made.root), TABLE, declared(made)))
    assert f"\nNot counted, no readable run folder: knn/{planned.id}.\n" in text


def test_what_differs_in_more_than_the_seed_gets_a_column_of_its_own(made):
    made.add(experiment("mixmae", epochs=40), finetune=93.0)
    made.add(experiment({"name": "mixmae", "ratio": 0.25}), finetune=89.0)
    table = build_table(collect(made.root), TABLE.model_copy(update={"stages": ("finetune",)}), declared(made))
    assert table.columns == ("method", "encoder", "pretrain_epochs", "ratio")
    assert [(values, cell["finetune"].mean) for values, cell in table.rows[:3]] == [
        (("mixmae", "swin_nano", 20, 0.25), 89.0),
        (("mixmae", "swin_nano", 20, 0.5), 91.5),
        (("mixmae", "swin_nano", 40, 0.5), 93.0),
    ]


def test_what_no_column_tells_apart_is_never_averaged(made):
    other = experiment("mixmae", evaluations={"linear": {"base_lr": 0.01}})
    made.add(other, linear=70.0)
    with pytest.raises(MixedCell, match=r"would be averaged though they differ in recipe\.base_lr; show them in separ"):
        build_table(collect(made.root), TABLE, declared(made))


def test_the_pretraining_counts_when_runs_are_told_apart(made):
    other = experiment("mixmae", seed=2, pretrain={"epochs": 20, "batch": 64, "base_lr": 2e-3, "warmup_epochs": 1})
    made.add(other, knn=70.0)
    with pytest.raises(MixedCell, match=r"differ in pretraining\.recipe\.base_lr"):
        build_table(collect(made.root), TABLE, declared(made))


def test_where_the_data_lies_does_not_tell_runs_apart(made):
    for number, finetune in enumerate(collect(made.root).query("stage == 'finetune' and method == 'mixmae'")["id"]):
        run = RunFolder(made.root, "finetune", finetune)
        config = run.read("config")
        config["job"]["data"] = {"name": "image_folder", "path": f"/somewhere/{number}"}
        run.write("config", config)
    cell = build_table(collect(made.root), TABLE, declared(made)).rows[0][1]["finetune"]
    assert cell.n == 2


def test_references_are_named_even_where_the_method_is_no_column(made):
    spec = TableSpec(name="ratio", rows=("ratio",), stages=("linear",))
    table = build_table(collect(made.root), spec, declared(made))
    assert [values for values, _ in table.rows] == [("mixmae", 0.5), ("simmim", 0.6), ("random init", None)]


def test_a_table_shows_its_sweeps_only(made):
    made.add(experiment("mixmae", epochs=40), sweep="epochs", finetune=93.0)
    spec = TableSpec(name="epochs", sweeps=("epochs",), rows=("pretrain_epochs",), stages=("finetune",))
    frame = collect(made.root)
    assert [values for values, _ in build_table(frame, spec, declared(made)).rows] == [(40,)]
    with pytest.raises(ValueError, match="no sweep 'epochs'; write one of main"):
        build_table(frame, spec, Declaration("main", members={"main": made.members["main"]}))


def test_differing_fields_are_dotted():
    assert differing_fields('{"a":{"b":1,"c":2},"d":3}', '{"a":{"b":1,"c":4}}') == ["a.c", "d"]


# ---------------------------------------------------------------------------------------------------------- published

AS_PUBLISHED = {
    "stage": "finetune", "method": "mixmae", "encoder": "swin_base_w14", "data": "image_folder", "image_size": "224",
    "pretrain_epochs": 600, "ratio": 0.5, "images": 2, "fill": "image", "dual": True, "masked_attention": True,
    "mix_embedding": False, "normalised_target": True, "decoder_depth": 8, "decoder_width": 512, "mask_unit": None,
    "labels_per_class": None, "fraction": None, "pretrain_labels_per_class": None, "pretrain_fraction": None,
}  # fmt: skip


def test_published_numbers_are_those_of_the_official_repository():
    found = published_for(AS_PUBLISHED)
    assert found == Published(85.1, "mask ratio 0.5; FT 100 ep", "github.com/Sense-X/MixMIM README.md @2b2f5a9")
    assert published_for({**AS_PUBLISHED, "image_size": "384"}).value == 86.3
    simmim = {"method": "simmim", "encoder": "swin_base_w7", "ratio": 0.6, "mask_unit": 32, "pretrain_epochs": 800}
    assert published_for({**AS_PUBLISHED, **simmim}).value == 84.0
    assert published_for({**AS_PUBLISHED, **simmim, "pretrain_epochs": 100, "image_size": "192"}).value == 82.8
    mae = {"method": "mae", "encoder": "vit_large_p16", "ratio": 0.75, "pretrain_epochs": 1600}
    assert published_for({**AS_PUBLISHED, **mae}).value == 85.9
    assert published_for({**AS_PUBLISHED, **mae, "stage": "linear"}).value == 75.8
    scratch = {"method": "supervised", "encoder": "twins_svt_large", "pretrain_epochs": pd.NA}
    assert published_for({**AS_PUBLISHED, **scratch}).value == 83.7


@pytest.mark.parametrize(
    "other",
    [{"ratio": 0.75}, {"images": 3}, {"dual": False}, {"decoder_depth": 4}, {"data": "digits"}, {"fraction": 0.1},
     {"labels_per_class": 10}, {"pretrain_epochs": 300}, {"encoder": "swin_nano"}, {"stage": "linear"},
     {"image_size": "192"}],
)  # fmt: skip
def test_another_setting_has_no_published_number(other):
    assert published_for({**AS_PUBLISHED, **other}) is None


def test_every_published_name_is_in_the_file():
    from mixmae.encoders.variants import VARIANTS
    from results.published import _ENCODERS, _METHODS

    pairs = set(zip(published_results()["method"], published_results()["encoder"], strict=True))
    for (method, encoder), published in _ENCODERS.items():
        assert encoder in VARIANTS
        assert all((_METHODS[method], name) in pairs for name in published)


def test_published_numbers_stand_beside_ours_with_their_source(tmp_path):
    made = Made(tmp_path / "runs")
    data = {"name": "image_folder", "path": "/images"}
    more = {"image_size": 224, "data": data, "evaluations": {"finetune": {"epochs": 100, "batch": 64, "base_lr": 1e-3}}}
    made.add(experiment("mixmae", "swin_base_w14", epochs=600, **more), finetune=85.0)
    made.add(experiment("mixmae", "swin_tiny_w14", epochs=600, **more), finetune=81.0)
    spec = TableSpec(name="imagenet", stages=("finetune",))
    write_tables(collect(made.root), declared(made, tables=(spec,)), tmp_path)
    assert (tmp_path / "imagenet.md").read_text() == (
        "| method | encoder | fine-tuning | fine-tuning, published |\n"
        "| --- | --- | --- | --- |\n"
        "| MixMAE | swin_tiny_w14 | 81.00 (n=1) | \N{EN DASH} |\n"
        "| MixMAE | swin_base_w14 | 85.00 (n=1) | 85.1 [1] |\n"
        "\n"
        "Top-1 accuracy in %, mean ± std (n - 1) over n seeds.\n"
        "\n"
        "[1] github.com/Sense-X/MixMIM README.md @2b2f5a9: mask ratio 0.5; FT 100 ep\n"
    )
    numbers = pd.read_csv(tmp_path / "imagenet.csv")
    assert numbers["finetune_published"].fillna(0).tolist() == [0, 85.1]
