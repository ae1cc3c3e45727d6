"""Two sets of runs compared: which match, what differs in config and figures, and what of it is significant."""

import json
import shutil

import pandas as pd
import pyarrow.parquet as pq
import pytest

from mixmae.experiment.jobs import stage_jobs
from mixmae.files.records import NewerSchema
from mixmae.runs.folder import RunFolder
from results.difference import compare, document, lines, read_runs
from results.rows.collect import collect, write
from support.made_runs import FINETUNE, FINGERPRINT, Made, experiment, two_methods_and_references

RATE = {"epochs": 20, "batch": 64, "base_lr": 2e-3, "warmup_epochs": 1}
"""Of a pretraining with twice the learning rate."""


def of(root, experiments):
    """The frame of a root with these: (experiment, figures)."""
    made = Made(root)
    for what, figures in experiments:
        made.add(what, **figures)
    return collect(root)


def three(top1, seeds=(0, 1, 2), **more):
    return [(experiment("mixmae", seed=seed, **more), {"finetune": y}) for seed, y in zip(seeds, top1, strict=True)]


@pytest.fixture
def frames(tmp_path):
    def build(a, b):
        return of(tmp_path / "a", a), of(tmp_path / "b", b)

    return build


def finetuned(found):
    (pair,) = [pair for pair in found.pairs if pair.a.stage == "finetune"]
    return pair


# ------------------------------------------------------------------------------------------------------------ matching


def test_a_set_does_not_differ_from_itself(tmp_path):
    frame = collect(two_methods_and_references(tmp_path / "runs").root)
    found = compare(frame, frame)
    assert (found.runs, found.refigured, found.only_a, found.only_b) == ((15, 15, 15), [], [], [])
    assert all(pair.alike and pair.verdict == "the same" for pair in found.pairs)
    assert list(lines(found)) == ["15 runs in A, 15 in B, 15 in both, 15 of these the same"]


def test_a_run_with_other_figures_or_another_state_is_named(tmp_path):
    made = two_methods_and_references(tmp_path / "a")
    shutil.copytree(made.root, tmp_path / "b")
    _, finetune, linear, _ = stage_jobs(experiment("mixmae", seed=0), lambda data: FINGERPRINT)
    other = RunFolder(tmp_path / "b", "finetune", finetune.id)
    other.write("result", {**other.read("result"), "top1": 91.25})
    (RunFolder(tmp_path / "b", "linear", linear.id).path / "state.json").unlink()
    found = compare(collect(made.root), collect(tmp_path / "b"))
    assert [(one.stage, one.id, one.changed) for one in found.refigured] == [
        ("finetune", finetune.id, {"top1": (91.0, 91.25)}),
        ("linear", linear.id, {"state": ("done", "planned")}),
    ]
    assert not found.only_a and not found.only_b
    text = list(lines(found))
    assert text[0] == "15 runs in A, 15 in B, 15 in both, 13 of these the same"
    assert f"  finetune/{finetune.id}: top1 91.0 in A, 91.25 in B" in text


def test_a_field_that_one_version_did_not_write_is_no_change(frames):
    """The id is the same, so what is computed is: it was added later, at its neutral value."""
    a, b = frames(three((90.0, 91.0, 92.0)), three((90.0, 91.0, 92.0)))
    b["config"] = [json.dumps({**json.loads(text), "added": 0}) for text in b["config"]]
    assert [pair.changed for pair in compare(a, b).pairs] == [{}, {}]


def test_another_field_is_found_and_told_with_both_values(frames):
    a, b = frames(three((90.0, 91.0, 92.0)), three((93.0, 94.2, 95.1), pretrain=RATE))
    found = compare(a, b)
    assert found.runs == (6, 6, 0) and not found.only_a and not found.only_b
    assert {pair.a.stage: pair.changed for pair in found.pairs} == {
        "pretrain": {"recipe.base_lr": (1e-3, 2e-3)},
        "finetune": {"pretraining.recipe.base_lr": (1e-3, 2e-3)},
    }
    text = list(lines(found))
    assert text[text.index("  pretrain.base_lr 0.001 in A, 0.002 in B") + 1 :][:2] == [
        "    fine-tuning: MixMAE swin_nano",
        "    pretraining: MixMAE swin_nano",
    ]


def test_a_field_of_what_lies_between_is_named_by_its_stage(frames):
    def chain(rate: float):
        finetune = {**FINETUNE, "base_lr": rate}
        return experiment(evaluations={"finetune": finetune, "knn": {"start": "finetune"}}, pretrain=RATE)

    a, b = frames([(chain(1e-3), {"finetune": 90.0, "knn": 80.0})], [(chain(2e-3), {"finetune": 91.0, "knn": 81.0})])
    text = list(lines(compare(a, b)))
    assert "  start.finetune.base_lr 0.001 in A, 0.002 in B" in text


def test_settings_that_no_short_name_tells_apart_are_told_by_their_fields(frames):
    rates = [*three((90.0, 91.0, 92.0)), *three((93.0, 94.2, 95.1), pretrain=RATE)]
    text = list(lines(compare(*frames(rates, three((90.0, 91.0, 92.0))))))
    assert text[text.index("\nOnly in A:") + 1 :][:2] == [
        "  fine-tuning: MixMAE swin_nano, pretrain.base_lr 0.002: seed 0, 1, 2",
        "  pretraining: MixMAE swin_nano, pretrain.base_lr 0.002: seed 0, 1, 2",
    ]


def test_the_nearest_config_is_compared_and_the_rest_is_alone(frames):
    """Each ratio of B has another rate; the nearest of A is that of its own ratio, and one of A is left over."""
    ratios = [({"name": "mixmae", "ratio": ratio}, ratio) for ratio in (0.25, 0.5, 0.75)]
    a, b = frames(
        [(experiment(method), {"knn": 80.0 + ratio}) for method, ratio in ratios],
        [(experiment(method, pretrain=RATE), {"knn": 70.0 + ratio}) for method, ratio in ratios[1:]]
        + [(experiment("simmim"), {"knn": 60.0})],
    )
    found = compare(a, b)
    pairs = [(pair.a.distinct["ratio"], pair.b.distinct["ratio"]) for pair in found.pairs if pair.a.stage == "knn"]
    assert sorted(pairs) == [(0.5, 0.5), (0.75, 0.75)]
    assert [(one.stage, one.distinct.get("ratio")) for one in found.only_a] == [("knn", 0.25), ("pretrain", 0.25)]
    assert [(one.stage, one.method) for one in found.only_b] == [("knn", "simmim"), ("pretrain", "simmim")]
    text = list(lines(found))
    assert text[text.index("\nOnly in A:") + 1] == "  kNN: MixMAE swin_nano, ratio 0.25: seed 0"


def test_a_setting_has_one_name_whichever_side_it_is_on(frames):
    """B has a single number of epochs, which is told nonetheless: A has two."""
    a, b = frames(
        [(experiment("mixmae", epochs=epochs), {"knn": 80.0}) for epochs in (10, 20)],
        [(experiment("mixmae", seed=2, epochs=20), {"knn": 81.0})],
    )
    names = {one.name() for pair in compare(a, b).pairs for one in (pair.a, pair.b) if one.stage == "knn"}
    assert names == {"kNN: MixMAE swin_nano, epochs 20"}


def test_seeds_of_one_side_are_listed_and_not_compared(frames):
    a, b = frames(three((90.0, 91.0, 95.0)), three((90.0, 91.0), seeds=(0, 1)))
    found = compare(a, b)
    assert finetuned(found).alike and [one.ids.keys() for one in found.only_a] == [{2}, {2}]
    assert not found.only_b


# ------------------------------------------------------------------------------------------------------------- figures


def test_matched_seeds_are_paired(frames):
    """Differences 3, 3.2, 3.1: mean 3.1, std 0.1, t = 53.7, p = 0.00035; the pretrainings' losses are the same."""
    pair = finetuned(compare(*frames(three((90.0, 91.0, 92.0)), three((93.0, 94.2, 95.1), pretrain=RATE))))
    assert (pair.test, pair.matched, pair.verdict) == ("paired", 3, "significant")
    assert pair.difference == pytest.approx(3.1) and pair.p == pytest.approx(0.000347, abs=1e-6)
    assert pair.corrected == pair.p


def test_other_seeds_take_welchs_test(frames):
    """Means 91 and 94, variances 1 and 1: t = 3 / sqrt(2 / 3), 4 degrees, p = 0.0213."""
    pair = finetuned(compare(*frames(three((90.0, 91.0, 92.0)), three((93.0, 94.0, 95.0), seeds=(3, 4, 5)))))
    assert (pair.test, pair.matched, pair.changed, pair.verdict) == ("Welch", 0, {}, "significant")
    assert pair.p == pytest.approx(0.0213, abs=1e-4)


@pytest.mark.parametrize(
    ("seeds", "top1"), [((0, 1), (80.0, 81.0)), ((5, 6), (80.0, 81.0)), ((0, 1, 2), (80.0, 81.0, 82.0))]
)
def test_no_claim_of_few_seeds_or_without_variation(frames, seeds, top1):
    pair = finetuned(compare(*frames(three((90.0, 91.0, 92.0)), three(top1, seeds=seeds, pretrain=RATE))))
    assert (pair.test, pair.p, pair.verdict) == (None, None, "no claim")


def test_all_tests_are_corrected_together(frames):
    """Differences 4, 5, 6.6 have p = 0.0213: significant alone, as one of three such they are not."""

    def runs(top1, methods, **more):
        return [
            (experiment(method, seed=seed, **more), {"finetune": figure})
            for method in methods
            for seed, figure in enumerate(top1)
        ]

    methods = ("mixmae", "simmim", "mae")
    a, b = frames(runs((80.0, 80.0, 80.0), methods), runs((84.0, 85.0, 86.6), methods, pretrain=RATE))
    tested = [pair for pair in compare(a, b).pairs if pair.test]
    assert [pair.p for pair in tested] == [pytest.approx(0.0213, abs=1e-3)] * 3
    assert [pair.corrected for pair in tested] == [pytest.approx(3 * pair.p) for pair in tested]
    assert [pair.verdict for pair in tested] == ["not significant"] * 3
    only = compare(a[a["method"] == "mixmae"], b[b["method"] == "mixmae"])
    assert finetuned(only).verdict == "significant"


# ---------------------------------------------------------------------------------------------------------- files, text


def test_collected_files_stand_for_their_roots(tmp_path):
    made = two_methods_and_references(tmp_path / "runs")
    frame = collect(made.root)
    write(frame, tmp_path / "out")
    parquet = tmp_path / "out" / "results.parquet"
    found = compare(read_runs(made.root), read_runs(parquet))
    assert found.runs == (15, 15, 15) and all(pair.alike for pair in found.pairs)
    for path, said in (
        (tmp_path / "out" / "results.csv", "no results.parquet"),
        (tmp_path / "frame.parquet", "not written by mixmae results collect"),
    ):
        pd.DataFrame({"id": ["a"]}).to_parquet(tmp_path / "frame.parquet")
        with pytest.raises(ValueError, match=said):
            read_runs(path)
    table = pq.read_table(parquet)
    newer = table.replace_schema_metadata({**table.schema.metadata, b"mixmae_schema": b"7"})
    pq.write_table(newer, parquet)
    with pytest.raises(NewerSchema, match="schema 7, this version reads up to 1; upgrade mixmae"):
        read_runs(parquet)
    with pytest.raises(FileNotFoundError):
        read_runs(tmp_path / "nowhere")


def test_the_document_holds_what_the_lines_say(frames):
    found = compare(*frames(three((90.0, 91.0, 92.0)), three((93.0, 94.2, 95.1), pretrain=RATE)))
    (pair,) = [pair for pair in json.loads(json.dumps(document(found)))["pairs"] if pair["a"]["stage"] == "finetune"]
    assert pair["changed"] == {"pretraining.recipe.base_lr": [1e-3, 2e-3]}
    assert (pair["a"]["mean"], pair["a"]["n"], pair["verdict"]) == (91.0, 3, "significant")
    assert (
        "  fine-tuning: MixMAE swin_nano: A 91 (n=3), B 94.1 (n=3), difference +3.1, significant "
        "(paired over 3 seeds, corrected p = 0.00035)"
    ) in list(lines(found))
