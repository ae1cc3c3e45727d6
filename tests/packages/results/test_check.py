"""Runs against what their grid expects of them."""

import json

import pytest

from mixmae.experiment.jobs import stage_jobs
from mixmae.presentation.declaration import Expected
from mixmae.runs.folder import RunFolder
from results.check import check
from results.rows.collect import collect
from support.made_runs import FINGERPRINT, Made, declared, experiment, write_config


@pytest.fixture
def made(tmp_path):
    made = Made(tmp_path / "runs")
    for seed, top1 in enumerate((84.0, 85.0, 86.3)):
        made.add(experiment("mixmae", seed=seed), finetune=top1, linear=70.0 + seed)
    made.add(experiment("simmim"), finetune=80.0)
    return made


def checked(made, *expected, **more):
    return check(collect(made.root), declared(made, expected=expected, **more))


def declared_for(made, *encoders):
    """What a grid declares of the runs, which ran for each of some encoders."""
    rows = {(row["stage"], row["id"]): row["row"] for row in collect(made.root).to_dict("records")}
    return {key: tuple(("main", {**row, "encoder.name": name}) for name in encoders) for key, row in rows.items()}


def test_the_mean_over_seeds_is_what_is_compared(made):
    (found,) = checked(made, Expected(where={"method": "mixmae", "pretrain_epochs": 20, "image_size": 32}, top1=85.0))
    assert (found.mean, len(found.runs), found.verdict) == (pytest.approx(85.1), 3, "ok")
    assert found.line() == (
        "ok       fine-tuning, method mixmae, pretrain_epochs 20, image_size 32: expected 85.00, found 85.10, "
        "difference +0.10, tolerance 0.30, n = 3"
    )
    json.dumps(found.document())


@pytest.mark.parametrize(
    ("top1", "tolerance", "verdict"),
    [(85.1, 0.0, "ok"), (85.3, 0.2, "ok"), (84.9, 0.2, "ok"), (85.31, 0.2, "off"), (84.89, 0.2, "off")],
)
def test_a_tolerance_is_of_both_sides_and_holds_its_end(made, top1, tolerance, verdict):
    (found,) = checked(made, Expected(where={"method": "mixmae"}, top1=top1, tolerance=tolerance))
    assert found.verdict == verdict


def test_each_stage_has_its_own(made):
    (found,) = checked(made, Expected(where={"method": "mixmae"}, stage="linear", top1=71.0))
    assert (found.mean, found.verdict) == (71.0, "ok")


def test_what_is_not_finished_is_missing(made):
    (planned,) = [job for job in stage_jobs(experiment("mae"), lambda data: FINGERPRINT) if job.stage == "finetune"]
    write_config(made.root, planned)
    made.members["main"].add((planned.stage, planned.id))
    found = checked(made, Expected(where={"method": "mae"}, top1=85.0), Expected(where={"ratio": 0.1}, top1=85.0))
    assert [(one.verdict, one.mean, one.runs) for one in found] == [("missing", None, ())] * 2
    assert found[0].line().startswith("missing  fine-tuning, method mae: expected 85.00, found –, difference –, ")


def test_runs_of_other_grids_do_not_count(made):
    made.add(experiment("mixmae", seed=7), sweep="other", finetune=10.0)
    made.members.pop("other")
    (found,) = checked(made, Expected(where={"method": "mixmae"}, top1=85.1, tolerance=0.0))
    assert found.verdict == "ok"


def test_where_nothing_was_run_all_is_missing(made, tmp_path):
    (tmp_path / "empty").mkdir()
    asked = Expected(where={"method": "mixmae"}, top1=82.5)
    (found,) = check(collect(tmp_path / "empty"), declared(made, expected=(asked,)))
    assert (found.verdict, found.runs) == ("missing", ())


def test_settings_are_not_averaged_but_told_apart(made):
    """85.1 and 79.9 have a mean within the tolerance, which neither is."""
    made.add(experiment("mixmae", epochs=40), finetune=79.9)
    found = checked(made, Expected(where={"method": "mixmae"}, top1=82.5, tolerance=1.0))
    assert [(one.distinct, one.verdict) for one in found] == [(("epochs 20",), "off"), (("epochs 40",), "off")]
    assert found[1].line().startswith("off      fine-tuning, method mixmae, epochs 40: expected 82.50, found 79.90, ")


def test_settings_that_no_short_name_tells_apart_are_named_by_what_does(made):
    pretrain = {"epochs": 20, "batch": 64, "base_lr": 2e-3, "warmup_epochs": 1}
    made.add(experiment("mixmae", pretrain=pretrain), finetune=79.9)
    found = checked(made, Expected(where={"method": "mixmae"}, top1=85.1))
    runs = {("pretrain.base_lr 0.001",): 3, ("pretrain.base_lr 0.002",): 1}
    assert {one.distinct: len(one.runs) for one in found} == runs


def test_settings_that_nothing_tells_apart_are_named_by_a_run(made):
    _, finetune, *_ = made.add(experiment("mixmae", seed=9), finetune=79.9)
    run = RunFolder(made.root, finetune.stage, finetune.id)
    run.write("config", {**run.read("config"), "data_fingerprint": "0" * 16})
    found = checked(made, Expected(where={"method": "mixmae"}, top1=85.1))
    assert sorted(len(one.runs) for one in found) == [1, 3]
    assert (f"{finetune.id[:8]} …",) in [one.distinct for one in found]


def test_only_what_is_expected_at_the_scale_counts(made):
    full = Expected(where={"method": "mixmae"}, top1=85.0)
    small = Expected(where={"method": "mixmae", "encoder": "swin_base_w14"}, top1=60.0, scale="laptop")
    declares = declared_for(made, "swin_base_w14")
    (found,) = checked(made, full, small)
    assert found.expected == full
    (found,) = checked(made, full, small, scale="laptop", cases=declares)
    assert (found.expected, found.mean) == (small, pytest.approx(85.1))
    with pytest.raises(ValueError, match="made expects nothing at the scale laptop; write expected: "):
        checked(made, full, scale="laptop")
    with pytest.raises(ValueError, match="made expects nothing at full scale; write expected: "):
        checked(made, small)


def test_a_run_that_stands_for_two_settings_counts_once(made):
    declares = declared_for(made, "swin_base_w14", "swin_large_w14")
    asked = Expected(where={"method": "mixmae"}, top1=85.0, scale="laptop")
    (found,) = checked(made, asked, scale="laptop", cases=declares)
    assert len(found.runs) == 3
