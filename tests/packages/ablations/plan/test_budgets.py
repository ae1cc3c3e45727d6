"""Budgets of pretrainings: the epochs they come to, what runs are known by, and what is refused."""

import json
import re
from math import floor
from pathlib import Path

import pytest

from ablations.grid.file import read_grid
from ablations.plan.budgets import lines
from ablations.plan.declaring import declare
from ablations.plan.plan import plan
from mixmae.cost.budgets import epoch_multiply_adds
from mixmae.cost.multiply_adds import pretraining_step
from mixmae.cost.step_records import step_name
from mixmae.data.digits.spec import DigitsConfig
from mixmae.data.subset import Subset, training_images
from mixmae.fields.documents import ConfigError
from mixmae.files.records import read_json, write_json
from mixmae.presentation.checks import mistakes
from mixmae.presentation.columns import MISSING
from mixmae.training.resources import Resources
from results.rows.collect import collect
from results.tables.building import build_table
from support.made_runs import write_evaluation, write_pretraining

HEAD = "base: digits_nano\nset: {seed: 1}\n"
WARM_UP = 0.1
"""Share of digits_nano's epochs."""


def planned(folder, sweep, scale=None):
    (folder / "grid.yaml").write_text(f"{HEAD}sweeps:\n  - {{name: all, {sweep}}}\n")
    grid = read_grid(folder / "grid.yaml", scale)
    return plan(grid.name, grid.cases, folder / "runs")


def jobs(made):
    """The pretrainings' jobs by method and encoder."""
    return {(e.method, e.encoder): e.job for e in made.entries if e.stage == "pretrain"}


def ids(made):
    return {entry.key for entry in made.entries}


def steps_an_epoch(job):
    return training_images(DigitsConfig(), Subset()) // job.recipe.batch


def written(folder, found, peaks=None, **changed):
    """Writes a record of the steps of jobs: pairs of a job and the seconds of its rounds; peaks: bytes by method."""
    one = Resources().of_speed()
    steps = [{"step": step_name(job, one), "rounds": rounds} for job, rounds in found]
    for step, (job, _) in zip(steps, found, strict=True):
        step |= {"peak_memory": peaks[job.method.name]} if peaks else {}
    record = {"processor": "a CPU", "device": "cpu", "measured": "2026-01-01", "load": 0.1}
    (folder / "record.json").write_text(json.dumps({**record, "steps": steps, **changed}))


# --------------------------------------------------------------------------------------------------------- the epochs


def test_a_budget_of_the_written_epochs_is_the_plain_run(tmp_path):
    written = "set: {method: mixmae, pretrain.epochs: 6, pretrain.warmup_epochs: 0.7"
    plain, budget = (planned(tmp_path, f"{written}{more}}}") for more in ("", ", pretrain.budget: {epochs_of: mixmae}"))
    assert {entry.key for entry in plain.entries} == {entry.key for entry in budget.entries}


def test_multiply_adds_become_whole_epochs_rounded_down(tmp_path):
    product = "product: {method: [mixmae, simmim, mae], encoder: [swin_nano, pvt_nano]}"
    plain = jobs(planned(tmp_path, product))
    found = jobs(planned(tmp_path, f"{product}, set: {{pretrain.budget: {{multiply_adds: 1e13}}}}"))
    assert len(found) == 6
    for key, job in found.items():
        an_epoch = pretraining_step(plain[key]) * steps_an_epoch(job) * job.recipe.batch
        assert job.recipe.epochs == floor(1e13 / an_epoch)
        assert job.recipe.epochs * an_epoch <= 1e13 < (job.recipe.epochs + 1) * an_epoch


def test_epochs_of_a_method_are_those_of_the_same_encoder(tmp_path):
    product = "product: {method: [mixmae, simmim, mae], encoder: [swin_nano, twins_svt_nano]}"
    plain = jobs(planned(tmp_path, product))
    found = jobs(planned(tmp_path, f"{product}, set: {{pretrain.epochs: 40, pretrain.budget: {{epochs_of: mixmae}}}}"))
    for (method, encoder), job in found.items():
        own, others = (pretraining_step(plain[name, encoder]) for name in (method, "mixmae"))
        assert job.recipe.epochs == 40 * others // own
    assert found["mixmae", "swin_nano"].recipe.epochs == 40
    assert found["mae", "swin_nano"].recipe.epochs != found["mae", "twins_svt_nano"].recipe.epochs


def test_the_length_is_that_of_the_other_method_as_the_grid_has_it(tmp_path):
    cases = "list: [{method: {name: mae, ratio: 0.5, decoder_depth: 1}}, {method: {name: mixmae, decoder_depth: 8}}]"
    of = "{methods.mixmae.decoder_depth: 4, pretrain.budget: {epochs_of: mixmae}}"
    found = jobs(planned(tmp_path, f"{cases}, set: {of}"))
    plain = jobs(planned(tmp_path, "list: [{method: {name: mixmae, decoder_depth: 4}}]"))
    reference = plain["mixmae", "swin_nano"]
    mae, mixmae = found["mae", "swin_nano"], found["mixmae", "swin_nano"]
    assert mae.recipe.epochs == 20 * pretraining_step(reference) // pretraining_step(mae)
    assert mixmae.recipe.epochs == 20, "a method's own case is its own length"


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        # 20 epochs of 4,000 are 80,000 an image: 26.7 of 3,000, 53.3 of 1,500.
        ("epochs_of: mixmae", {"mixmae": (20, 100.0), "simmim": (26, 97.5), "mae": (53, 99.375)}),
        # 45 steps of 32 images are 1,440 an epoch; 10^8 are 69,444 each: 17.4, 23.1 and 46.3 epochs.
        ("multiply_adds: 1e8", {"mixmae": (17, 97.92), "simmim": (23, 99.36), "mae": (46, 99.36)}),
    ],
)
def test_epochs_by_hand(tmp_path, monkeypatch, budget, expected):
    an_image = {"mixmae": 4000, "simmim": 3000, "mae": 1500}
    monkeypatch.setattr("mixmae.cost.budgets.pretraining_step", lambda job: an_image[job.method.name])
    sweep = f"product: {{method: [mixmae, simmim, mae]}}, set: {{pretrain.budget: {{{budget}}}}}"
    made = planned(tmp_path, sweep)
    found = {
        arm.method: (arm.resolution.epochs, pytest.approx(arm.resolution.reached))
        for entry in made.entries
        for arm in entry.arms
    }
    assert found == expected
    assert {name: job.recipe.epochs for (name, _), job in jobs(made).items()} == {
        name: epochs for name, (epochs, _) in expected.items()
    }
    for job in jobs(made).values():
        assert job.recipe.warmup_epochs == pytest.approx(job.recipe.epochs * WARM_UP)


def test_a_budget_of_exactly_so_many_epochs_is_these(tmp_path):
    job = jobs(planned(tmp_path, "product: {method: [mae]}"))["mae", "swin_nano"]
    an_epoch = epoch_multiply_adds(job)
    for count in (3, 7, 1000):
        sweep = f"set: {{method: mae, pretrain.budget: {{multiply_adds: {count * an_epoch}}}}}"
        assert jobs(planned(tmp_path, sweep))["mae", "swin_nano"].recipe.epochs == count
        sweep = f"set: {{method: mae, pretrain.budget: {{multiply_adds: {count * an_epoch * (1 - 1e-9)}}}}}"
        assert jobs(planned(tmp_path, sweep))["mae", "swin_nano"].recipe.epochs == count - 1


def test_hours_are_those_of_the_median_step_of_the_record(tmp_path):
    plain = jobs(planned(tmp_path, "product: {method: [mixmae, mae]}"))
    seconds = {("mixmae", "swin_nano"): 0.05, ("mae", "swin_nano"): 0.02}
    written(tmp_path, [(job, [9.0, 0.001, seconds[key], seconds[key], 9.0]) for key, job in plain.items()])
    sweep = "product: {method: [mixmae, mae]}, set: {pretrain.budget: {hours: 0.0204, measured_on: record.json}}"
    made = planned(tmp_path, sweep)
    epochs = {key: job.recipe.epochs for key, job in jobs(made).items()}
    # 45 steps are 2.25 and 0.9 seconds an epoch, of 73.44.
    assert steps_an_epoch(plain["mae", "swin_nano"]) == 45
    assert epochs == {("mixmae", "swin_nano"): 32, ("mae", "swin_nano"): 81}
    line, *notes = lines(arm for entry in made.entries for arm in entry.arms)
    assert line == (
        "budget of 0.0204 hours: mixmae swin_nano 32 epochs (98.0 %), 27 at 0.85 and 37 at 1.15 of the measured speed; "
        "mae swin_nano 81 epochs (99.3 %), 69 at 0.85 and 93 at 1.15 of the measured speed"
    )
    assert notes[0] == "hours are those of record.json: a CPU, 2026-01-01"
    assert notes[-1].startswith("record.json does not tell the memory of each step; measure it on the machine that is")


def test_the_hours_of_steps_are_known_of_every_pretraining_that_the_record_has(tmp_path):
    plain = jobs(planned(tmp_path, "product: {method: [mixmae, mae, simmim]}"))
    seconds = {"mixmae": 0.05, "mae": 0.02}
    written(tmp_path, [(job, [seconds[key[0]]] * 5) for key, job in plain.items() if key[0] in seconds])
    (tmp_path / "grid.yaml").write_text(
        f"{HEAD}sweeps:\n"
        "  - {name: plain, product: {method: [mixmae, mae, simmim]}}\n"
        "  - name: time\n"
        "    list: [{method: mae}, {method: supervised}]\n"
        "    set: {pretrain.budget: {hours: 0.0204, measured_on: record.json}}\n"
        "plots: [{name: hours, kind: curve, x: pretrain_step_hours}]\n"
    )
    grid = read_grid(tmp_path / "grid.yaml")
    made = plan(grid.name, grid.cases, tmp_path / "runs")
    declaration = declare(grid, made)
    pretrainings = {entry.key: entry.job for entry in made.entries if entry.stage == "pretrain"}
    timed = {key: job for key, job in pretrainings.items() if job.method.name in seconds}
    assert {key: found.hours for key, found in declaration.hours.items()} == {
        key: pytest.approx(job.recipe.epochs * 45 * seconds[job.method.name] / 3600) for key, job in timed.items()
    }
    assert len(declaration.hours) == 3, "MAE's twice, at 20 and 81 epochs"
    sources = {found.source for found in declaration.hours.values()}
    assert sources == {"hours are those of record.json: a CPU, 2026-01-01"}
    assert not list(mistakes(declaration))


def test_a_plot_against_the_hours_of_steps_needs_a_record(tmp_path):
    (tmp_path / "grid.yaml").write_text(
        f"{HEAD}sweeps: [{{name: plain}}]\nplots: [{{name: hours, kind: curve, x: pretrain_step_hours}}]\n"
    )
    grid = read_grid(tmp_path / "grid.yaml")
    ((path, what),) = mistakes(declare(grid, plan(grid.name, grid.cases, tmp_path / "runs")))
    assert path == ("plots", 0)
    assert "mixmae bench grid FILE --output RECORD" in what
    assert what.endswith("{hours: …, measured_on: RECORD}, or write x: pretrain_hours")


# ------------------------------------------------------------------------------------------------ identity and warm-up


def test_runs_are_those_of_the_epochs(tmp_path):
    with_budget = planned(tmp_path, "set: {method: mae, pretrain.budget: {epochs_of: mixmae}}")
    epochs = jobs(with_budget)["mae", "swin_nano"].recipe.epochs
    assert epochs > 60
    plain = planned(tmp_path, f"set: {{method: mae, pretrain: {{epochs: {epochs}, warmup_epochs: {epochs / 10}}}}}")
    assert ids(with_budget) == ids(plain)


@pytest.mark.parametrize(
    ("recipe", "kept"),
    [
        ("warmup_epochs: 2", {"warmup_epochs": 0.1}),
        ("warmup_epochs: 0, warmup_steps: 88", {"warmup_steps": 4.4}),
        ("schedule: multistep, decay_epochs: [10, 15]", {"decay_epochs": (0.5, 0.75)}),
    ],
)
def test_warm_up_and_decays_keep_their_share(tmp_path, recipe, kept):
    sweep = f"set: {{method: mae, pretrain: {{{recipe}, budget: {{epochs_of: mixmae}}}}}}"
    found = jobs(planned(tmp_path, sweep))["mae", "swin_nano"].recipe
    for name, share in kept.items():
        value = getattr(found, name)
        if isinstance(value, tuple):
            assert value == tuple(round(part * found.epochs) for part in share)
        else:
            assert value == pytest.approx(share * found.epochs, abs=0.5 if name == "warmup_steps" else 1e-9)
    assert found.budget is None


def test_a_scale_keeps_the_length_of_another_method(tmp_path):
    sweep = "product: {method: [mixmae, mae]}, set: {pretrain.budget: {epochs_of: mixmae}}"
    sweep = sweep.replace("set: {", "set: {pretrain.batch: 1024, pretrain.epochs: 600, ")
    found = jobs(planned(tmp_path, sweep, "laptop"))
    mixmae, mae = found["mixmae", "swin_nano"], found["mae", "swin_nano"]
    assert mae.recipe.epochs == mixmae.recipe.epochs * pretraining_step(mixmae) // pretraining_step(mae)


# ------------------------------------------------------------------------------------------------- what stays as it was


def test_a_plan_keeps_the_epochs_that_it_first_came_to(tmp_path, caplog):
    sweep = "set: {method: mae, pretrain.budget: {multiply_adds: 1e13}}"
    first = planned(tmp_path, sweep)
    (kept,) = (tmp_path / "runs" / "budgets").glob("*.json")
    assert ids(planned(tmp_path, sweep)) == ids(first)
    assert not caplog.text
    kept.write_text(kept.read_text().replace('"epochs": 3', '"epochs": 4'))  # no longer what its checksum says
    assert ids(planned(tmp_path, sweep)) == ids(first)
    assert "resolved anew" in caplog.text


def test_what_was_kept_of_an_hour_is_said_as_today(tmp_path):
    written(tmp_path, [(jobs(planned(tmp_path, "set: {method: mixmae}"))["mixmae", "swin_nano"], [1.8] * 5)])
    made = [planned(tmp_path, f"set: {{{BUDGET}}}")]
    (kept,) = (tmp_path / "runs" / "budgets").glob("*.json")
    write_json(kept, {**read_json(kept), "of": "1 hours"})
    made.append(planned(tmp_path, f"set: {{{BUDGET}}}"))
    assert [arm.columns["pretrain.budget"] for one in made for entry in one.entries for arm in entry.arms] == (
        ["1 hour"] * 2
    )


# ------------------------------------------------------------------------------------------------------ plan and table


def test_plan_says_the_cost_reached(tmp_path, called):
    (tmp_path / "grid.yaml").write_text(
        f"{HEAD}sweeps: [{{name: all, product: {{method: [mixmae, mae]}}, "
        "set: {pretrain.budget: {epochs_of: mixmae}}}]\n"
    )
    out, _ = called("grid", "plan", "grid.yaml", folder=tmp_path)
    line = "budget of 20 epochs of mixmae: mixmae swin_nano 20 epochs (100.0 %); mae swin_nano 69 epochs (99.3 %)"
    assert line in out.splitlines()
    out, _ = called("grid", "plan", "grid.yaml", "--json", folder=tmp_path)
    reached = [job["budgets"][0] for job in json.loads(out)["jobs"] if job["stage"] == "pretrain"]
    assert [(one["epochs"], round(one["reached"], 1)) for one in reached] == [(20, 100.0), (69, 99.3)]


def test_a_table_has_equal_epochs_beside_equal_cost_and_shows_the_cost_reached(tmp_path):
    (tmp_path / "grid.yaml").write_text(
        f"{HEAD}sweeps:\n"
        "  - {name: epochs, product: {method: [mixmae, mae]}}\n"
        "  - {name: cost, product: {method: [mixmae, mae]}, set: {pretrain.budget: {epochs_of: mixmae}}}\n"
        "tables:\n"
        "  - {name: both, rows: [method, budget, budget_reached]}\n"
        "  - {name: epochs, sweeps: [epochs], rows: [method]}\n"
    )
    grid = read_grid(tmp_path / "grid.yaml")
    made = plan(grid.name, grid.cases, tmp_path / "runs")
    assert len(made.entries) == 12, "MixMAE's 20 epochs are one run"
    declaration = declare(grid, made)
    both, epochs = (build_table(collect(made.root), spec, declaration) for spec in grid.spec.tables)
    assert both.text()[0][:3] == ["method", "budget", "budget reached, %"]
    assert [line[:3] for line in both.text()[1]] == [
        ["MixMAE", "20 epochs of mixmae", "100"],
        ["MixMAE", MISSING, MISSING],
        ["MAE", "20 epochs of mixmae", "99.3"],
        ["MAE", MISSING, MISSING],
    ]
    assert "Cost reached of 20 epochs of mixmae: MixMAE 100 % (20 epochs), MAE 99.3 % (69 epochs)." in both.notes
    assert [line[0] for line in epochs.text()[1]] == ["MixMAE", "MAE"]
    assert not any("Cost reached" in note for note in epochs.notes)
    (untuned,) = (note for note in both.notes if note.startswith("A budget changes the length of pretraining alone"))
    assert untuned not in epochs.notes, "none of its runs has a budget"
    assert not any(note.startswith("Memory") for note in both.notes), "no record tells it"


def test_memory_stands_beside_the_cost_reached(tmp_path, called):
    plain = jobs(planned(tmp_path, "product: {method: [mixmae, mae]}"))
    peaks = {"mixmae": 70 * 2**20, "mae": 3 * 2**30}
    written(tmp_path, [(job, [0.05] * 5) for job in plain.values()], peaks)
    (tmp_path / "grid.yaml").write_text(
        f"{HEAD}sweeps:\n"
        "  - name: time\n"
        "    product: {method: [mixmae, mae]}\n"
        "    set: {pretrain.budget: {hours: 0.0204, measured_on: record.json}}\n"
        "tables: [{name: time, rows: [method, budget_memory], stages: [knn]}]\n"
    )
    grid = read_grid(tmp_path / "grid.yaml")
    made = plan(grid.name, grid.cases, tmp_path / "runs")
    line, _, *notes = lines(arm for entry in made.entries for arm in entry.arms)
    assert "mixmae swin_nano 32 epochs (98.0 %), 70 MiB a step, 27 at 0.85" in line
    assert "mae swin_nano 32 epochs (98.0 %), 3 GiB a step, 27 at 0.85" in line
    assert notes[-1] == "memory is the most that torch had allocated in a step, by record.json: cpu, 2026-01-01"
    table = build_table(collect(made.root), grid.spec.tables[0], declare(grid, made))
    assert table.text()[0][:2] == ["method", "memory a step"]
    assert [row[:2] for row in table.text()[1]] == [["MixMAE", "70 MiB"], ["MAE", "3 GiB"]]
    (note,) = (note for note in table.notes if note.startswith("Cost reached"))
    assert note == (
        "Cost reached of 0.0204 hours: MixMAE 98 % (32 epochs, 70 MiB a step), MAE 98 % (32 epochs, 3 GiB a step)."
    )
    (note,) = (note for note in table.notes if note.startswith("Memory is the most that torch"))
    out, _ = called("grid", "plan", "grid.yaml", "--json", folder=tmp_path)
    found = {job["method"]: job["budgets"][0] for job in json.loads(out)["jobs"] if job["stage"] == "pretrain"}
    assert {method: one["peak_memory"] for method, one in found.items()} == peaks


@pytest.mark.parametrize(
    ("longer", "said"),
    [(71.0, "kNN at 0.0204 hours (swin_nano): holds"), (99.0, "does not hold for MixMAE and MAE")],
)
def test_a_table_at_equal_time_says_whether_its_ranking_holds_at_other_speeds(tmp_path, longer, said):
    plain = jobs(planned(tmp_path, "product: {method: [mixmae, mae]}"))
    seconds = {"mixmae": 0.05, "mae": 0.02}
    written(tmp_path, [(job, [seconds[key[0]]] * 5) for key, job in plain.items()])
    (tmp_path / "grid.yaml").write_text(
        f"{HEAD}sweeps:\n"
        "  - name: time\n"
        "    product: {method: [mixmae, mae]}\n"
        "    set: {pretrain.budget: {hours: 0.0204, measured_on: record.json}}\n"
        "  - name: lengths\n"
        "    set: {method: mae}\n"
        "    zip: {pretrain.epochs: [40, 160], pretrain.warmup_epochs: [4, 16]}\n"
        "tables: [{name: time, sweeps: [time], rows: [method, encoder], stages: [knn]}]\n"
    )
    grid = read_grid(tmp_path / "grid.yaml")
    made = plan(grid.name, grid.cases, tmp_path / "runs")
    figures = {32: 75.0, 81: 70.0, 40: 69.0, 160: longer}
    epochs = {entry.key: entry.job.recipe.epochs for entry in made.entries if entry.stage == "pretrain"}
    for entry in made.entries:
        if entry.stage == "pretrain":
            write_pretraining(made.root, entry.planned, 0.5)
        elif entry.stage == "knn":
            write_evaluation(made.root, entry.planned, figures[epochs[entry.needs]])
    table = build_table(collect(made.root), grid.spec.tables[0], declare(grid, made))
    (note,) = (note for note in table.notes if note.startswith("Ranking at equal time"))
    assert said in note
    assert len(table.rows) == 2


# ------------------------------------------------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("sweep", "complaint"),
    [
        (
            "set: {pretrain.budget: {multiply_adds: 1e9}}",
            r"grid\.yaml:4:23: pretrain\.budget: 1 G multiply-adds: an epoch of mixmae on swin_nano takes 93\.6 times "
            r"as much; write multiply_adds: 9\.36\de\+10 or more",
        ),
        (
            "set: {method: simmim, methods.mae.decoder_depth: 4, pretrain.epochs: 1, pretrain.warmup_epochs: 0, "
            "pretrain.budget: {epochs_of: mae}}",
            r"pretrain\.budget: 1 epoch of mae: an epoch of simmim on swin_nano takes 2\.\d+ times as much; "
            "write epochs: 3 or more",
        ),
        (
            "set: {method: mae, encoder: vit_nano, pretrain.budget: {epochs_of: mixmae}}",
            r"grid\.yaml:4:\d+: pretrain\.budget\.epochs_of: mixmae cannot be had here: .*needs a hierarchical encoder",
        ),
        (
            "set: {pretrain.budget: {epochs_of: supervised}}",
            r"pretrain\.budget\.epochs_of: supervised pretrains nothing; write one of mixmae, simmim, mae",
        ),
        ("set: {pretrain.budget: {epochs_of: mixmea}}", r"pretrain\.budget\.epochs_of: .*did you mean mixmae\?"),
        ("set: {pretrain.budget: {hours: 1}}", r"pretrain\.budget\.measured_on: hours need it; write the path"),
        ("set: {pretrain.budget: {}}", r"pretrain\.budget: expected one of .*, found none; write one"),
        (
            "set: {pretrain.budget: {hours: 1, epochs_of: mae}}",
            r"^grid\.yaml:4:23: pretrain\.budget: expected one of .*, found epochs_of and hours; write one$",
        ),
        (
            "set: {pretrain.budget: {multiply_adds: 1e300}}",
            r"pretrain\.budget: comes to 1\.07e\+289 epochs of mixmae on swin_nano, and at most 1,000,000 are taken "
            r"for meant; write less$",
        ),
        ("set: {pretrain.budget: {multiply_adds: 0}}", r"pretrain\.budget\.multiply_adds: "),
        (
            "set: {pretrain.budget: {hours: 1, measured_on: none.json}}",
            r"pretrain\.budget: no file .*none\.json; measure it .*mixmae bench grid FILE --output",
        ),
        (
            "set: {pretrain.budget: {epochs_of: mixmae, measured_on: none.json}}",
            r"budget: no file .*none\.json; measure",
        ),
    ],
)
def test_bad_input_is_refused_when_it_is_planned(tmp_path, sweep, complaint):
    with pytest.raises(ConfigError) as refused:
        planned(tmp_path, sweep)
    assert re.search(complaint, str(refused.value).replace(f"{tmp_path}/", "", 1))


BUDGET = "pretrain.budget: {hours: 1, measured_on: record.json}"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("method.decoder_depth: 3", "has no step of mixmae on swin_nano, batch 32, 1 thread"),
        ("method.ratio: 0.25", "has no step of"),
        ("pretrain.batch: 16", "has no step of mixmae on swin_nano, batch 16"),
        ("pretrain.precision: float32", "has no step of"),
        ("pretrain.clip_grad: 1.0", "has no step of"),
        ("pretrain.drop_path: 0.1", "has no step of"),
        ("data.tuning: 0.1", None),
        ("pretrain.subset.fraction: 0.5", None),
        ("pretrain.epochs: 30", None),
        ("pretrain.base_lr: 0.1", None),
    ],
)
def test_a_record_is_of_this_exact_step(tmp_path, change, complaint):
    written(tmp_path, [(jobs(planned(tmp_path, "set: {method: mixmae}"))["mixmae", "swin_nano"], [0.05] * 5)])
    if complaint is None:
        assert jobs(planned(tmp_path, f"set: {{{change}, {BUDGET}}}"))
        return
    with pytest.raises(ConfigError, match=rf"record\.json {complaint}.*mixmae bench grid"):
        planned(tmp_path, f"set: {{{change}, {BUDGET}}}")


@pytest.mark.parametrize("resources", ["threads: 2", "workers: 1", "checkpoint_activations: true"])
def test_a_record_is_of_these_resources(tmp_path, resources):
    written(tmp_path, [(jobs(planned(tmp_path, "set: {method: mixmae}"))["mixmae", "swin_nano"], [0.05] * 5)])
    (tmp_path / "grid.yaml").write_text(
        f"{HEAD}sweeps: [{{name: all, set: {{{BUDGET}}}}}]\nresources: {{save_minutes: 3, {resources}}}\n"
    )
    grid = read_grid(tmp_path / "grid.yaml")
    with pytest.raises(ConfigError, match=r"record\.json has no step of mixmae on swin_nano, batch 32, \d thread"):
        plan(grid.name, grid.cases, tmp_path / "runs")


@pytest.mark.parametrize(
    ("rounds", "changed", "complaint"),
    [
        (4, {}, "has 4 rounds of mixmae on swin_nano"),
        (5, {"load": 1.7}, r"was measured on a machine that was not idle \(load 1\.7\); measure it"),
        (5, {"load": "idle"}, r"is no record of steps \(load\)"),
        (5, {"steps": [{"step": "a"}]}, r"is no record of steps \(rounds\)"),
        *(
            (5, {"steps": [{"step": "a", "rounds": rounds}]}, r"is no record of steps \(rounds\)")
            for rounds in (5, ["a"] * 5, [0.0] * 5, [float("nan")] * 5)
        ),
        *(
            (5, {"steps": [{"step": "a", "rounds": [1.0] * 5, "peak_memory": peak}]}, r"of steps \(peak_memory\)")
            for peak in (0, 1.5, True, "1 GiB")
        ),
    ],
)
def test_records_that_say_too_little_are_refused(tmp_path, rounds, changed, complaint):
    job = jobs(planned(tmp_path, "set: {method: mixmae}"))["mixmae", "swin_nano"]
    written(tmp_path, [(job, [0.05] * rounds)], **changed)
    with pytest.raises(ConfigError, match=complaint):
        planned(tmp_path, f"set: {{{BUDGET}}}")


def test_what_is_to_be_known_of_a_record_is_said(tmp_path):
    job = jobs(planned(tmp_path, "set: {method: mixmae}"))["mixmae", "swin_nano"]
    written(tmp_path, [(job, [0.05] * 5)])
    made = planned(tmp_path, f"set: {{{BUDGET}}}")
    notes = lines(arm for entry in made.entries for arm in entry.arms)[1:]
    assert notes[1].startswith("record.json is of another processor than this machine's")


@pytest.mark.parametrize("budget", ["epochs_of: mixmae", "multiply_adds: 1e14"])
def test_other_budgets_read_a_record_for_its_memory_alone(tmp_path, budget):
    product = "product: {method: [mixmae, mae]}"
    plain = planned(tmp_path, f"{product}, set: {{pretrain.budget: {{{budget}}}}}")
    (job,) = (job for (method, _), job in jobs(plain).items() if method == "mixmae")
    written(tmp_path, [(job, [0.05])], {"mixmae": 70 * 2**20}, load=9.0)
    made = planned(tmp_path, f"{product}, set: {{pretrain.budget: {{{budget}, measured_on: record.json}}}}")
    assert ids(made) == ids(plain)
    found = {arm.method: arm.peak_memory for entry in made.entries for arm in entry.arms}
    assert found == {"mixmae": 70 * 2**20, "mae": None}
    line, *notes = lines(arm for entry in made.entries for arm in entry.arms)
    assert "%), 70 MiB a step; mae swin_nano" in line
    assert line.endswith("%)")
    assert notes[0] == "memory is the most that torch had allocated in a step, by record.json: cpu, 2026-01-01"
    assert notes[1].startswith("record.json does not tell the memory of each step")
    assert len(notes) == 2, "nothing of hours"


@pytest.mark.parametrize("budget", ["{multiply_adds: 1e15}", "{hours: 1, measured_on: record.json}"])
def test_a_scale_refuses_what_means_the_full_one(tmp_path, budget):
    with pytest.raises(ConfigError, match=r"pretrain\.budget: is of the full scale.*write epochs_of"):
        planned(tmp_path, f"set: {{pretrain.budget: {budget}}}", "laptop")


# ------------------------------------------------------------------------------------------------------ one experiment


def test_one_experiment_has_a_budget_too(tmp_path):
    from mixmae.experiment.reading import read_experiment, read_reference

    path = Path(tmp_path / "one.yaml")
    path.write_text("base: digits_nano\nmethod: mae\npretrain: {budget: {epochs_of: mixmae}}\n")
    assert read_experiment(path)[0].pretrain.budget.epochs_of == "mixmae"
    assert read_reference(path).method.name == "mixmae"
    path.write_text("base: digits_nano\npretrain: {budget: {epochs_of: mixmae}}\n")
    assert read_reference(path) is None
    path.write_text("base: digits_nano\nmethod: mae\nencoder: vit_nano\npretrain: {budget: {epochs_of: mixmae}}\n")
    with pytest.raises(ConfigError, match=r"one\.yaml:4:\d+: pretrain\.budget\.epochs_of: mixmae cannot be had here"):
        read_reference(path)
