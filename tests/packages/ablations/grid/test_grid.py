"""How a grid file expands, the errors it can hold, and which changes make another run."""

import itertools
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from ablations.grid.file import read_grid
from ablations.local.launching import in_order
from ablations.plan import plan as planning
from ablations.plan.launched import remember
from ablations.plan.queueing import WRITERS, cancel, create_run, for_each, queue
from mixmae.data.image_folder.spec import ImageFolderConfig
from mixmae.experiment.experiment import Experiment
from mixmae.experiment.jobs import job_of, stage_jobs
from mixmae.fields.documents import ConfigError
from mixmae.fields.identity import Neutral, Recorded, identity
from mixmae.files.records import write_json
from mixmae.methods.methods import methods
from mixmae.runs.folder import RunFolder

HEAD = "base: digits_nano\n"


def expand(folder: Path, text: str):
    path = folder / "grid.yaml"
    path.write_text(text)
    return read_grid(path)


def errors(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        expand(folder, text)
    return [line.replace(f"{folder}/", "") for line in caught.value.lines]


# ----------------------------------------------------------------------------------------------------------- expansion


def test_product_zip_and_list_are_crossed(tmp_path):
    grid = expand(
        tmp_path,
        HEAD
        + """\
sweeps:
  - name: all
    product: {seed: [0, 1]}
    zip: {pretrain.epochs: [5, 10], pretrain.warmup_epochs: [1, 2]}
    list: [{method.ratio: 0.25}, {method.ratio: 0.5, method.dual: false}]
""",
    )
    seen = [
        (e.seed, e.pretrain.epochs, e.pretrain.warmup_epochs, e.method.ratio, e.method.dual)
        for e in (case.experiment for case in grid.cases)
    ]
    wanted = [
        (seed, epochs, warmup, ratio, dual)
        for seed in (0, 1)
        for epochs, warmup in ((5, 1), (10, 2))
        for ratio, dual in ((0.25, True), (0.5, False))
    ]
    assert seen == wanted


@settings(max_examples=25, deadline=None)
@given(seeds=st.integers(1, 4), pairs=st.integers(1, 4), cases=st.integers(1, 3), data=st.data())
def test_the_number_of_cases_is_the_product_less_the_excluded(tmp_path_factory, seeds, pairs, cases, data):
    gone = data.draw(st.sets(st.tuples(st.integers(0, seeds - 1), st.integers(0, pairs - 1)), max_size=3))
    if len(gone) == seeds * pairs:
        gone.pop()
    text = f"""{HEAD}sweeps:
  - name: all
    product: {{seed: {list(range(seeds))}}}
    zip: {{pretrain.epochs: {[10 + p for p in range(pairs)]}, pretrain.batch: {[64 + 2 * p for p in range(pairs)]}}}
    list: {[{"evaluations.knn.k": 1 + c} for c in range(cases)]}
    exclude: {[{"seed": s, "pretrain.epochs": 10 + p} for s, p in gone]}
"""
    grid = expand(tmp_path_factory.mktemp("grid"), text)
    found = [
        (c.experiment.seed, c.experiment.pretrain.epochs - 10, c.experiment.evaluations["knn"].k - 1)
        for c in grid.cases
    ]
    every = itertools.product(range(seeds), range(pairs), range(cases))
    assert sorted(found) == [case for case in every if case[:2] not in gone]
    assert all(c.experiment.pretrain.batch - 64 == 2 * (c.experiment.pretrain.epochs - 10) for c in grid.cases)


def test_sets_are_laid_over_the_base_and_only_in_their_sweep(tmp_path):
    grid = expand(
        tmp_path,
        HEAD
        + """\
set: {pretrain.epochs: 7, evaluations: {finetune: null}}
sweeps:
  - {name: one, set: {pretrain: {epochs: 8}}}
  - {name: two}
""",
    )
    assert [case.experiment.pretrain.epochs for case in grid.cases] == [8, 7]
    assert all(case.experiment.evaluations.get("finetune") is None for case in grid.cases)


def test_wholes_are_set_before_their_parts(tmp_path):
    text = HEAD + "sweeps: [{name: all, product: {method.ratio: [0.5], method: [mae, simmim]}}]"
    methods = [case.experiment.method for case in expand(tmp_path, text).cases]
    assert [(method.name, method.ratio) for method in methods] == [("mae", 0.5), ("simmim", 0.5)]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("sweeps: []", "grid.yaml:2:1: sweeps: expected at least 1 entries, found 0"),
        ("sweeps: [{name: a}]\nslots: 2", "grid.yaml:3:1: slots: unknown field (did you mean plots?)"),
        (
            "sweeps: [{name: a}, {name: a}]",
            "grid.yaml:2:22: sweeps[1].name: 'a' is taken; write a name of its own",
        ),
        ("sweeps: [{name: a, product: {seed: []}}]", "grid.yaml:2:30: seed: an empty list; write at least one value"),
        ("sweeps: [{name: a, product: {seed: 3}}]", "grid.yaml:2:30: sweeps[0].product.seed: expected a list, found 3"),
        (
            "sweeps: [{name: a, zip: {seed: [0, 1], pretrain.epochs: [3]}}]",
            "grid.yaml:2:40: zip.pretrain.epochs: 1 values beside the 2 of seed; write lists of one length",
        ),
        (
            "sweeps: [{name: a, product: {seed: [0]}, exclude: [{seed: 1}]}]",
            "grid.yaml:2:52: exclude: matches no case; correct it or leave it out",
        ),
        (
            "sweeps: [{name: a, product: {seed: [1]}, exclude: [{seed: 1}]}]",
            "grid.yaml:2:10: a: every case is excluded; exclude fewer",
        ),
        (
            "sweeps: [{name: a, product: {seed: [1]}, list: [{seed: 2}]}]",
            "grid.yaml:2:50: seed: is swept twice, first on line 2; leave one of them out",
        ),
        (
            "sweeps: [{name: a, product: {pretrian.epochs: [1]}}]",
            "grid.yaml:2:48: pretrian.epochs: leads into nothing, there is no pretrian here; did you mean pretrain?",
        ),
        (
            "sweeps: [{name: a, set: {evaluations.linear: null, evaluations.linear.epochs: 3}}]",
            "grid.yaml:2:52: evaluations.linear.epochs: leads into nothing, there is no evaluations.linear here; "
            "write evaluations.linear: {…} as a whole first",
        ),
        (
            "sweeps: [{name: a, product: {pretrain.epochs: [30, ten]}}]",
            "grid.yaml:2:52: pretrain.epochs: expected a whole number, found the text 'ten'",
        ),
        (
            "sweeps: [{name: a, product: {method.ratio: [0.5, 0.001], seed: [0, 1]}}]",
            "grid.yaml:2:50: method.ratio: 0.001 hides 0 of 16 units; "
            "write a ratio that hides at least 1 and leaves one",
        ),
        (
            "set: {evaluations: {linear.measure: tuning}}\nsweeps: [{name: a}]",
            "grid.yaml:2:21: evaluations.linear.measure: unknown field; write linear: {measure: …}; dotted paths stand "
            "at the top of a grid's set or case",
        ),
        (
            "set: {evaluations.linear.optimizer: lbfgs}\nsweeps: [{name: a}]",
            "grid.yaml:2:7: evaluations.linear.optimizer: lbfgs finds the optimum, without steps; write base_lr: null",
        ),
        (
            "set: {evaluations.linear: {optimizer: lbfgs, base_lr: null}}\nsweeps: [{name: a}]",
            "grid.yaml:2:28: evaluations.linear.optimizer: lbfgs needs a penalty, without which separable features "
            "have no optimum; write weight_decay: 1.0e-3, or another number above 0",
        ),
        (
            "sweeps: [{name: one}]\ntables: [{name: t, sweeps: [on]}]",
            "grid.yaml:3:29: tables[0].sweeps[0]: no sweep 'on'; did you mean one?",
        ),
        (
            "sweeps: [{name: one}]\ntables: [{name: t, lengths: [on]}]",
            "grid.yaml:3:30: tables[0].lengths[0]: no sweep 'on'; did you mean one?",
        ),
        (
            "sweeps: [{name: a}]\nresources: {slots: 0}",
            "grid.yaml:3:13: resources.slots: expected a number above 0, found 0",
        ),
    ],
)
def test_errors_by_their_text(tmp_path, text, line):
    assert errors(tmp_path, HEAD + text) == [line]


def test_a_missing_data_folder_points_at_its_place(tmp_path):
    grid = expand(tmp_path, HEAD + f"set: {{data: {{name: image_folder, path: {tmp_path}}}}}\nsweeps: [{{name: a}}]")
    with pytest.raises(ConfigError) as caught:
        planning.plan(grid.name, grid.cases, tmp_path / "runs")
    what = f"no folder {tmp_path}/train; write a path that holds train/CLASS/ and val/CLASS/ images"
    assert caught.value.lines == [f"{tmp_path}/grid.yaml:2:34: data.path: {what}"]


# ------------------------------------------------------------------------------------------------------------ planning

SHARED = HEAD + "sweeps: [{name: a, product: {seed: [0, 1]}}, {name: b, product: {evaluations.knn.k: [20, 5]}}]"


def test_what_is_shared_runs_once(tmp_path):
    grid = expand(tmp_path, SHARED)
    plan = planning.plan(grid.name, grid.cases, tmp_path / "runs")
    stages = [entry.planned.stage for entry in plan.entries]
    assert (len(grid.cases), plan.experiments) == (4, 3)
    assert {stage: stages.count(stage) for stage in stages} == {"pretrain": 2, "finetune": 2, "linear": 2, "knn": 3}
    assert len(plan.members["a"] & plan.members["b"]) == 4
    assert {entry.needs for entry in plan.entries if entry.needs} == {
        entry.key for entry in plan.entries if entry.planned.stage == "pretrain"
    }


def test_what_unblocks_most_is_first_among_pretrainings(tmp_path):
    grid = expand(tmp_path, SHARED)
    plan = planning.plan(grid.name, reversed(grid.cases), tmp_path / "runs")
    order = in_order(plan.entries)
    kinds = [(bool(entry.needs), entry.planned.stage == "pretrain") for entry in order]
    assert kinds == [(True, False)] * 7 + [(False, True)] * 2
    assert order[7].planned.job.seed == 0


@pytest.mark.parametrize("block", ["tables", "plots"])
@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("../../evil", "'../../evil' begins with a dot"),
        ("/evil", "'/evil' holds a /"),
        ("a/b", "'a/b' holds a /"),
        (r"a\b", "'a\\\\b' holds a \\"),
        ("..", "'..' begins with a dot"),
        (".hidden", "'.hidden' begins with a dot"),
        ('""', "is empty"),
        ('" "', "is empty"),
        (r'"a\tb"', r"'a\tb' holds a character that is not printed"),
        (r'"a\u2028b"', r"'a\u2028b' holds a character that is not printed"),
        (101 * "é", "takes 202 bytes, more than 200"),
    ],
)
def test_a_name_that_becomes_a_files_is_a_plain_one(tmp_path, block, name, wrong):
    text = HEAD + f"sweeps: [{{name: a}}]\n{block}:\n  - name: {name}\n"
    instead = "it becomes a file's name, write letters, digits, spaces, - or _"
    assert errors(tmp_path, text) == [f"grid.yaml:4:5: {block}[0].name: {wrong}; {instead}"]


def test_a_name_that_becomes_a_files_may_be_of_any_language(tmp_path):
    text = HEAD + "sweeps: [{name: a}]\ntables: [{name: Größe der Bilder}, {name: 表 1.2}, {name: می\u200cخواهم}]\n"
    assert len(expand(tmp_path, text).spec.tables) == 3


def test_runs_that_a_changed_grid_no_longer_names_are_outside_it(tmp_path):
    root = tmp_path / "runs"
    grid = expand(tmp_path, SHARED)
    before = planning.plan(grid.name, grid.cases, root)
    for entry in before.entries:
        create_run(root, entry.planned)
    remember(before.root, before.name, (entry.key for entry in before.entries))
    grid = expand(tmp_path, SHARED.replace("seed: [0, 1]", "seed: [0]"))
    after = planning.plan(grid.name, grid.cases, root)
    named = {entry.key for entry in after.entries}
    assert {(run.stage, run.id) for run in after.outside} == {entry.key for entry in before.entries} - named
    assert len(after.outside) == 4 and all(run.path.exists() for run in after.outside)


def test_config_json_reads_back_as_the_job_it_was(tmp_path):
    grid = expand(tmp_path, SHARED)
    for entry in planning.plan(grid.name, grid.cases, tmp_path / "runs").entries:
        run = create_run(tmp_path, entry.planned)
        assert job_of(run.read("config")["job"]) == entry.planned.job


def test_states_follow_launch_and_state_files(tmp_path):
    grid = expand(tmp_path, SHARED)
    plan = planning.plan(grid.name, grid.cases, tmp_path)
    pretrain, evaluation = plan.entries[0], plan.entries[1]
    assert {state.state for state in planning.states(plan.entries).values()} == {"planned"}
    for entry in (pretrain, evaluation):
        create_run(plan.root, entry.planned)
        queue(entry.run)
    found = planning.states(plan.entries)
    assert (found[pretrain.key].state, found[evaluation.key].state) == ("pending", "waiting")
    RunFolder(plan.root, *pretrain.key).write("state", {"state": "failed", "reason": "no", "tries": 1})
    found = planning.states(plan.entries)
    assert (found[pretrain.key].state, found[evaluation.key].state) == ("failed", "blocked")
    queue(pretrain.run)
    cancel(evaluation.run)
    found = planning.states(plan.entries)
    assert (found[pretrain.key].state, found[evaluation.key].state) == ("pending", "cancelled")


# ------------------------------------------------------------------------------------------------------------ identity


def examples() -> list[BaseModel]:
    """Stage jobs that together hold every config model."""
    evaluations = {
        "finetune": {"epochs": 5, "batch": 64, "base_lr": 1e-3},
        "linear": {},
        "knn": {},
    }
    pretrain = {"epochs": 5, "batch": 64, "base_lr": 1e-3}
    jobs = []
    for method, encoder, data in (
        ("mixmae", "swin_nano", "digits"),
        ("simmim", "twins_svt_nano", {"name": "image_folder", "path": "/data"}),
        ("mae", "pvt_nano", "digits"),
        ("simmim", "vit_nano", "digits"),
    ):
        written = dict(
            method=method, encoder=encoder, image_size=32, data=data, pretrain=pretrain, evaluations=evaluations
        )
        jobs += [planned.job for planned in stage_jobs(Experiment.model_validate(written), lambda data: "data")]
    return jobs


WEIGHTS = methods["imported"].config(path="/weights.safetensors", sha256="0" * 64)


def changed(model: BaseModel) -> list[tuple[str, bool, BaseModel]]:
    """(path, whether it must change the id, copy) for every field of `model`, one field changed in each copy."""
    copies = []
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            copies += [
                (f"{name}.{path}", counts, model.model_copy(update={name: copy}))
                for path, counts, copy in changed(value)
            ]
        else:
            neutral = [mark.value for mark in field.metadata if isinstance(mark, Neutral)]
            assert value in neutral or not neutral, f"{name} should be neutral in the example"
            other = WEIGHTS if name == "weights" else another(value)
            copies.append((name, Recorded not in field.metadata, model.model_copy(update={name: other})))
    return copies


def another(value):
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, str):
        return value + "x"
    return (*value, 1) if isinstance(value, tuple) else 3


@pytest.mark.parametrize("job", examples(), ids=lambda job: f"{job.stage}-{job.encoder.family}")
def test_every_field_that_counts_changes_the_id_and_no_other_does(job):
    same = identity(job, data="data")
    paths = [path for path, counts, copy in changed(job) if (identity(copy, data="data") != same) != counts]
    assert paths == []


def test_the_data_changes_the_id_and_where_it_lies_does_not():
    job = examples()[4]
    assert isinstance(job.data, ImageFolderConfig)
    elsewhere = job.model_copy(update={"data": job.data.model_copy(update={"path": "/elsewhere"})})
    assert identity(elsewhere, data="data") == identity(job, data="data") != identity(job, data="other")


def test_slots_threads_and_workers_do_not_change_ids(tmp_path):
    ids = set()
    for resources in ("{slots: 1}", "{slots: 4, threads: 2, workers: 3}"):
        grid = expand(tmp_path, f"{SHARED}\nresources: {resources}")
        ids.add(tuple(entry.key for entry in planning.plan(grid.name, grid.cases, tmp_path / "runs").entries))
    assert len(ids) == 1


FROZEN = {
    "pretrain-swin": "523012d1bb064976",
    "finetune-swin": "719f752686ee04f8",
    "linear-twins_svt": "498e32788b111a23",
    "knn-pvt": "669201901fc47c06",
}
"""Ids that were handed out once and never change. A field added later declares its Neutral value."""


def test_frozen_ids():
    found = {f"{job.stage}-{job.encoder.family}": identity(job, data="data") for job in examples()}
    pretrain = next(job for job in examples() if job.stage == "pretrain")
    for job in examples():
        if job.stage == "finetune" and job.encoder.family == "swin":
            assert job.pretraining == identity(pretrain, data="data")
    assert {name: found[name] for name in FROZEN} == FROZEN


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("pretrain.batch: [1500]", "pretrain.batch: 1500 is more than the 1442 training images; write 1442 or less"),
        (
            "evaluations.finetune.batch: [102]",
            "evaluations.finetune.batch: 102 is more than the 100 training images; write 100 or less",
        ),
        (
            "evaluations.knn.k: [1443]",
            "evaluations.knn.k: 1443 is more than the 1442 training images; write 1442 or less",
        ),
        (
            "evaluations.finetune.subset.labels_per_class: [144]",
            "evaluations.finetune.subset.labels_per_class: 144: class 0 has 143 training images; write 143 or fewer",
        ),
        (
            "data.tuning: [0.999]",
            "data.tuning: 0.999 sets aside 143 of the 143 training images of class 0; write a smaller share",
        ),
    ],
)
def test_what_needs_more_images_than_there_are_is_refused_before_anything_starts(tmp_path, line, message):
    grid = expand(tmp_path, HEAD + f"sweeps:\n  - name: all\n    product: {{{line}}}\n")
    with pytest.raises(ConfigError) as caught:
        planning.plan(grid.name, grid.cases, tmp_path / "runs")
    where, what = caught.value.lines[0].removeprefix(f"{tmp_path}/").split(": ", 1)
    assert (where.split(":")[:2], what) == (["grid.yaml", "4"], message)


def test_run_folders_are_written_several_at_once_and_with_the_modes_of_the_umask(tmp_path):
    together = threading.Barrier(WRITERS, timeout=60)

    def write(number: int) -> None:
        together.wait()
        write_json(tmp_path / str(number) / "config.json", {})

    for_each(write, range(WRITERS))
    before = os.umask(0)
    os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("*/config.json")} == {0o666 & ~before}
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o777 & ~before}
    with pytest.raises(ZeroDivisionError):
        for_each(lambda number: 1 // number, [1, 0, 2])
