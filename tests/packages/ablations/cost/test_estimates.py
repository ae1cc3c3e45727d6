"""What a plan for a cluster says of cost: multiply-adds against counted ones, hours from each source by hand, the wall
time, the disk, and how long it takes for 5,000 jobs."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import cli
from ablations.cost.estimates import Estimate, Estimator, price, wall_hours
from ablations.cost.prices import quote, quote_document, quote_lines
from ablations.grid.file import read_grid
from ablations.plan.plan import plan, states
from ablations.slurm.resources import Array, Slurm, resolved
from mixmae.cost.encoders import resolved_encoder, rows
from mixmae.cost.measured import keep, records
from mixmae.cost.multiply_adds import encoder_costs, split_images
from mixmae.cost.step import Benchmark, _Bench, _experiment
from mixmae.experiment.experiment import Experiment
from mixmae.experiment.jobs import stage_jobs
from mixmae.runs import scheduler
from mixmae.training.resources import Resources

DECODER = "{method.decoder_depth: 8, method.decoder_width: 512, method.decoder_heads: 16}"
HEAD = f"base: digits_nano\nsweeps: [{{name: all, product: {{seed: [0, 1]}}, set: {DECODER}}}]\n"
SLURM = "resources: {executor: slurm, slurm: {time: 60, gpus_per_node: 1, device: Fast}}\n"
RECORD = {
    "method": "mixmae",
    "encoder": "swin_nano",
    "image_size": 32,
    "batch": 64,
    "ratio": 0.5,
    "device": "Fast",
    "processor": "none",
    "threads": 1,
    "precision": "bfloat16",
    "macs": 2_500_000_000,
    "images_per_s": 100.0,
    "measured": "2026-01-02",
    "of": "fast.json",
}


@pytest.fixture(autouse=True)
def no_slurm_here(monkeypatch):
    monkeypatch.setattr(scheduler, "available", lambda: False)


def planned(folder: Path, text: str):
    path = folder / "grid.yaml"
    path.write_text(text)
    grid = read_grid(path)
    return grid, plan(grid.name, grid.cases, folder / "runs")


def estimate(folder: Path, stage: str, found: list[dict], text: str = HEAD + SLURM) -> Estimate:
    grid, made = planned(folder, text)
    slurms = resolved(grid, made.entries)
    entry = next(entry for entry in made.entries if entry.planned.stage == stage)
    return Estimator(found, grid.spec.resources).of(entry, slurms[entry.key])


def work_of(method, encoder: str, size: int = 32, **more):
    written = {"method": method, "encoder": encoder, "image_size": size, **more}
    if method != "supervised":
        written["pretrain"] = {"epochs": 1, "batch": 4, "base_lr": 1e-3}
    job = stage_jobs(Experiment.model_validate(written), lambda data: "")[0].job
    return job.spec.work(job)


# -------------------------------------------------------------------------------------------------------- multiply-adds


@pytest.mark.parametrize(
    ("method", "encoder"),
    [
        ("mixmae", "swin_nano"),
        ("mixmae", "pvt_nano"),
        ("mixmae", "twins_svt_nano"),
        ("mae", "swin_nano"),
        ("mae", "vit_nano"),
        ("simmim", "swin_nano"),
        ("simmim", "vit_nano"),
    ],
)
def test_a_training_step_against_torch_s_flop_counter(method, encoder):
    bench = _Bench(_experiment(Benchmark(method, encoder, 32)), 4, torch.device("cpu"))
    found = work_of(method, encoder)
    assert found.step == pytest.approx(bench.macs() / 4, rel=0.01)
    counted = sum(parameter.numel() for parameter in bench.model.parameters())
    assert found.params == pytest.approx(counted, rel=1e-3), "but the token that stands for hidden ones"


@pytest.mark.parametrize(
    "method",
    [
        {"name": "mixmae", "images": 4},
        {"name": "mixmae", "dual": False},
        {"name": "mixmae", "decoder_depth": 2, "decoder_width": 64, "decoder_heads": 4, "decoder_mlp_ratio": 2},
        {"name": "mae", "ratio": 0.25},
    ],
)
def test_settings_that_change_the_decoders_work(method):
    experiment = Experiment.model_validate(
        {
            "method": method,
            "encoder": "swin_nano",
            "image_size": 32,
            "pretrain": {"epochs": 1, "batch": 4, "base_lr": 1e-3},
        }
    )
    bench = _Bench(experiment, 4, torch.device("cpu"))
    counted = bench.macs() / 4
    assert 0.995 * counted < work_of(method, "swin_nano").step < 1.05 * counted, (
        "masked attention takes less than plain"
    )


def test_encoders_at_counted_sizes_are_exact_others_scaled():
    for row in rows():
        found = encoder_costs(resolved_encoder(row["name"], row["image_size"]), (row["image_size"],) * 2)
        assert (found.forward, found.params, found.exact) == (row["macs"], row["params"], True)
    base = next(row for row in rows() if row["name"] == "swin_base_w14")
    larger = resolved_encoder("swin_base_w14", 384)
    published = larger.model_copy(update={"windows": (16, 16, 24, 12)})
    assert encoder_costs(published, (384, 384)).forward == base["other_sizes"][0]["macs"]
    assert encoder_costs(larger, (384, 384)).exact is False
    wide = encoder_costs(resolved_encoder("swin_base_w14", 224), (224, 256))
    assert (wide.forward, wide.exact) == (round(base["macs"] * 256 / 224), False)
    assert encoder_costs(larger.model_copy(update={"depths": (2, 2, 2, 2)}), (384, 384)) is None


def test_validating_counts_every_epoch():
    experiment = read_base("finetune")
    finetune = stage_jobs(experiment, lambda data: "")[1].job
    found = finetune.spec.work(finetune)
    assert found.passed == finetune.recipe.epochs * 355 == finetune.recipe.epochs * split_images(finetune.data, "val")
    assert found.step == 3 * found.forward


def read_base(stage: str) -> Experiment:
    from mixmae.experiment.reading import read_experiment

    return read_experiment(Path(cli.__file__).parent / "mixmae" / "experiment" / "recipes" / "digits_nano.yaml")[0]


# ------------------------------------------------------------------------------------------ hours, by hand, each source


def test_from_a_record_of_the_same(tmp_path):
    found = estimate(tmp_path, "pretrain", [RECORD])
    # 1442 training digits are 22 batches of 64; 20 epochs at 100 images/s.
    recipe = read_base("pretrain").pretrain
    images = recipe.epochs * (1442 // recipe.batch) * recipe.batch
    assert found.hours == pytest.approx(images / 100 / 3600)
    assert found.source == "measured: mixmae swin_nano 32 px, batch 64, Fast, 2026-01-02 (fast.json)"
    assert found.macs == pytest.approx(images * 2_496_954_368, rel=1e-3)


def test_from_the_speed_of_the_record_most_alike(tmp_path):
    far = {**RECORD, "method": "mixmae", "encoder": "swin_huge_w14", "macs": 10**12, "images_per_s": 1000.0}
    near = {**RECORD, "method": "simmim", "ratio": 0.6, "macs": 60_000_000, "images_per_s": 500.0}
    found = estimate(tmp_path, "knn", [far, near])
    # All 1797 digits go through the encoder once, a third of a step of 3 * (18,644,992 + 128 * 10) multiply-adds each.
    speed = 60_000_000 * 500
    assert found.hours == pytest.approx(1797 * (18_644_992 + 128 * 10) / speed / 3600)
    assert found.source == ("multiply-adds at 30 G/s: simmim swin_nano 32 px, batch 64, Fast, 2026-01-02 (fast.json)")
    assert found.macs == 1797 * 18_644_992


@pytest.mark.parametrize(
    ("change", "slurm", "said"),
    [
        ({"device": "Other"}, SLURM, "nothing measured on Fast, bfloat16"),
        ({"precision": "float32"}, SLURM, "nothing measured on Fast, bfloat16"),
        ({"device": "cpu", "threads": 1}, SLURM.replace(", device: Fast", ""), "which GPU? write device: …"),
        (
            {"device": "cpu", "threads": 2, "precision": "float32"},
            "resources: {slurm: {time: 9}}\n",
            "nothing measured on cpu, float32, 1 thread",
        ),
    ],
)
def test_multiply_adds_only(tmp_path, change, slurm, said):
    found = estimate(tmp_path, "pretrain", [{**RECORD, **change}], HEAD + slurm)
    assert found.hours is None and found.macs > 0
    assert found.source.startswith("multiply-adds only, no hours: ") and said in found.source


def test_the_only_gpu_that_was_measured_is_meant_where_none_is_named(tmp_path):
    text = HEAD + SLURM.replace(", device: Fast", "")
    assert estimate(tmp_path, "pretrain", [RECORD], text).hours
    two = [RECORD, {**RECORD, "device": "Faster"}]
    assert estimate(tmp_path, "pretrain", two, text).hours is None


def test_another_ratio_or_decoder_is_not_the_same(tmp_path):
    assert estimate(tmp_path, "pretrain", [{**RECORD, "ratio": 0.75}]).source.startswith("multiply-adds at")
    smaller = estimate(tmp_path, "pretrain", [RECORD], HEAD.replace(DECODER, "{}") + SLURM)
    assert smaller.source.startswith("multiply-adds at")
    assert smaller.hours < estimate(tmp_path, "pretrain", [RECORD]).hours / 10


def test_processes_share_the_work(tmp_path):
    text = HEAD + "set: {pretrain.chunk: 8, evaluations.finetune.chunk: 4}\n" + SLURM
    one = estimate(tmp_path, "pretrain", [RECORD], text)
    four = estimate(
        tmp_path, "pretrain", [RECORD], text.replace("time: 60", "time: 60, nodes: 2").replace("e: 1", "e: 2")
    )
    assert four.hours == pytest.approx(one.hours / 4)


def test_no_encoder_no_estimate(tmp_path):
    pixels = "set: {method: supervised, evaluations: {finetune: null, linear: null, knn: {features: pixels}}}\n"
    found = estimate(tmp_path, "knn", [RECORD], HEAD.replace(DECODER, "{}") + pixels + SLURM)
    assert (found.macs, found.hours, found.disk) == (None, None, None)
    assert found.source == "no estimate: raw pixels, no encoder"


def test_disk_is_four_checkpoints_and_the_weights(tmp_path):
    assert estimate(tmp_path, "pretrain", []).disk == 26_094_575 * (4 * 12 + 4)
    classes = 709_423 + 129 * 10
    assert estimate(tmp_path, "finetune", []).disk == classes * 52
    averaged = HEAD + "set: {evaluations.finetune.ema_decay: 0.9}\n" + SLURM
    assert estimate(tmp_path, "finetune", [], averaged).disk == classes * 68
    assert estimate(tmp_path, "knn", []).disk == 0


# ------------------------------------------------------------------------------------------------------------ all of it


def prices(made, hours: dict[str, float], max_running: dict[str, int], pack: int = 1):
    found = {entry.key: Estimate(1, hours[entry.planned.stage], "", 1) for entry in made.entries}
    parts = []
    for stage in hours:
        slurm = Slurm(time=60, cpus_per_task=1, max_running=max_running[stage], pack=pack)
        entries = tuple(entry for entry in made.entries if entry.planned.stage == stage)
        parts.append(price(Array(stage, slurm, entries, depth=len(parts)), set(), found))
    return parts, found


THREE = HEAD.replace("[0, 1]", "[0, 1, 2]") + "set: {evaluations: {linear: null, knn: null}}\n"


def test_the_wall_time_by_hand(tmp_path):
    _, made = planned(tmp_path, THREE)
    parts, found = prices(made, {"pretrain": 1.0, "finetune": 0.75}, {"pretrain": 2, "finetune": 1})
    # Pretrainings end at 1, 1 and 2 h; the one evaluation at a time runs 1-1.75, 1.75-2.5, 2.5-3.25.
    assert wall_hours(parts, found) == pytest.approx(3.25)
    assert wall_hours(reversed(parts), found) == pytest.approx(3.25)
    parts, found = prices(made, {"pretrain": 1.0, "finetune": 0.75}, {"pretrain": 3, "finetune": 3}, pack=3)
    assert wall_hours(parts, found) == pytest.approx(3 + 2.25), "packed: one after the other"
    nothing = {key: replace(each, hours=None) for key, each in found.items()}
    unknown = [price(part.array, set(), nothing) for part in parts]
    assert wall_hours(unknown, nothing) is None and unknown[0].unknown == 3


@given(
    hours=st.lists(st.floats(0.01, 9), min_size=2, max_size=2), most=st.lists(st.integers(1, 4), min_size=2, max_size=2)
)
def test_the_wall_time_lies_between_the_longest_chain_and_the_sum(tmp_path_factory, hours, most):
    _, made = planned(tmp_path_factory.mktemp("grid"), THREE)
    stages = ("pretrain", "finetune")
    parts, found = prices(made, dict(zip(stages, hours, strict=True)), dict(zip(stages, most, strict=True)))
    wall = wall_hours(parts, found)
    assert sum(hours) - 1e-9 <= wall <= 3 * sum(hours) + 1e-9


def test_what_is_done_costs_nothing_more_but_disk(tmp_path):
    grid, made = planned(tmp_path, HEAD + SLURM)
    keep(tmp_path / "runs", {name: value for name, value in RECORD.items() if name not in ("of", "measured")})
    found = states(made.entries)
    before = quote_document(quote(grid, made, found))
    done = made.entries[0]
    found[done.key] = replace(found[done.key], state="done")
    after = quote_document(quote(grid, made, found))
    first, second = before["arrays"][0], after["arrays"][0]
    assert (first["to_do"], second["to_do"]) == (2, 1)
    assert second["gpu_hours"] == pytest.approx(first["gpu_hours"] / 2)
    assert second["disk_bytes"] == first["disk_bytes"] == 2 * 26_094_575 * 52
    assert first["hours_a_job"][0] * 2 == pytest.approx(first["gpu_hours"])
    assert after["total"]["jobs"] == before["total"]["jobs"] - 1 == 7
    assert any(
        line.startswith("#1: measured: mixmae swin_nano 32 px") for line in quote_lines(quote(grid, made, found))
    )


def test_nothing_known_is_said_and_not_counted_as_nothing(tmp_path):
    grid, made = planned(tmp_path, HEAD + SLURM)
    quoted = quote(grid, made, states(made.entries))
    total = quote_document(quoted)["total"]
    assert (total["gpu_hours"], total["wall_hours"], total["jobs_without_hours"]) == (None, None, 8)
    assert any(line.endswith("; their hours are not known") for line in quote_lines(quoted))


@pytest.mark.slow
def test_what_bench_records_the_plan_uses(tmp_path, called):
    (tmp_path / "grid.yaml").write_text(HEAD + "resources: {executor: slurm, slurm: {time: 60}}\n")
    size = ["--image-size", "32", "--batch", "2", "--repeats", "1", "--record"]
    out, err = called("bench", "step", "mixmae", "swin_nano", *size, folder=tmp_path)
    measured = json.loads(out)
    assert err.startswith(f"kept: {tmp_path / 'runs' / 'bench'}")
    told, _ = called("grid", "plan", "grid.yaml", "--json", folder=tmp_path)
    array = json.loads(told)["arrays"][0]
    assert array["sources"][0].startswith("measured: mixmae swin_nano 32 px, batch 2, ")
    images = 20 * (1442 // 32) * 32
    assert array["hours_a_job"] == [pytest.approx(images / measured["images_per_s"] / 3600)] * 2


def test_a_limit_that_is_too_short_is_said(tmp_path):
    grid, made = planned(tmp_path, HEAD + SLURM.replace("time: 60", "time: 4"))
    keep(tmp_path / "runs", {**RECORD, "images_per_s": 1.0})
    lines = quote_lines(quote(grid, made, states(made.entries)))
    assert [line for line in lines if "a task may take" in line][0].endswith(
        "it goes on after a time-out as its retries allow"
    )


def test_arrays_are_split_at_the_site_s_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(scheduler, "available", lambda: True)
    monkeypatch.setattr(scheduler, "max_array_size", lambda: 5)
    text = HEAD.replace("[0, 1]", str(list(range(23)))) + SLURM
    grid, made = planned(tmp_path, text)
    array = quote_document(quote(grid, made, states(made.entries)))["arrays"][0]
    assert array["tasks"] == 23
    heads = [next((line for line in script if "--array" in line), None) for script in array["sbatch"]]
    assert heads == ["#SBATCH --array=0-4%5"] * 4 + ["#SBATCH --array=0-2%3"]


def test_a_damaged_record_is_left_out_with_a_warning(tmp_path, caplog):
    path = keep(tmp_path, RECORD)
    shipped = len(records(tmp_path / "none"))
    assert len(records(tmp_path)) == shipped + 1
    path.write_text(path.read_text()[:40])
    assert len(records(tmp_path)) == shipped and "measure it again" in caplog.text


def test_the_records_that_come_with_it_are_whole():
    for record in records(Path("none")):
        assert set(RECORD) <= set(record)
        counted = work_of(record["method"], record["encoder"], record["image_size"], evaluations={"finetune": FINETUNE})
        assert counted.step == pytest.approx(record["macs"], rel=0.05)


FINETUNE = {"epochs": 1, "batch": 4, "base_lr": 1e-3}


@pytest.mark.slow
def test_five_thousand_jobs_take_no_time_and_no_torch(tmp_path):
    many = """\
base: digits_nano
set: {method: mae}
sweeps:
  - name: all
    product:
      seed: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
      encoder: [swin_nano, pvt_nano, twins_svt_nano, vit_nano, swin_tiny_w7]
      image_size: [64]
      method.ratio: [0.3, 0.4, 0.5, 0.6, 0.7]
      pretrain.epochs: [21, 22, 23, 24, 25]
resources: {slurm: {time: 60, memory: 8G}}
"""
    (tmp_path / "many.yaml").write_text(many)
    code = (
        "import sys; sys.argv[1:] = ['grid', 'plan', 'many.yaml', '--executor', 'slurm', '--json']\nimport cli\n"
        "try: cli.main()\nexcept SystemExit: pass\nprint(*sys.modules, file=sys.stderr)"
    )
    before = os.times().children_user
    ended = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert os.times().children_user - before < 15, "seconds of its own, whatever else runs"
    document = json.loads(ended.stdout)
    assert len(document["jobs"]) == 5000 and document["total"]["jobs_without_hours"] == 0
    assert [array["tasks"] for array in document["arrays"]] == [1250] * 4
    assert not set(ended.stderr.split()) & {"torch", "timm", "pandas", "sklearn"}
    assert not (tmp_path / "runs").exists(), "planning writes nothing"


def test_an_estimate_needs_only_what_a_job_is(tmp_path):
    _, made = planned(tmp_path, HEAD)
    with_seed = [
        Estimator([RECORD], Resources()).of(entry, Slurm(gpus_per_node=1, device="Fast")) for entry in made.entries
    ]
    assert with_seed[0] == with_seed[4]
