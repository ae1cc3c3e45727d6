"""The grids of the laptop's tables, of the trials that chose its values and of twins: nothing that chose is shown."""

from pathlib import Path

import pytest

import ablations
from ablations.grid.file import read_grid
from mixmae.data.torchvision_sets.fetch import fetch
from support.torchvision_sets import DEBIAN, needs_debian

FOLDER = Path(ablations.__file__).parent
LENGTHS = ("few_lengths", "all_lengths")
"""Sweeps of laptop_labels.yaml that say how long to fine-tune."""


@pytest.fixture(scope="module")
def fashion(tmp_path_factory):
    """The folder of the real set."""
    needs_debian()
    folder = tmp_path_factory.mktemp("sets")
    fetch("FashionMNIST", folder, DEBIAN, lambda line: None)
    return folder


@pytest.fixture
def cases(fashion, monkeypatch):
    monkeypatch.setenv("FASHION_MNIST", str(fashion))
    return lambda name: read_grid(FOLDER / f"{name}.yaml").cases


def test_no_value_was_chosen_by_images_or_seeds_of_a_table(cases):
    labels = cases("laptop_labels")
    lengths = [case for case in labels if case.sweep in LENGTHS]
    choosing = [*cases("tuning"), *lengths]
    shown = [*cases("laptop"), *(case for case in labels if case.sweep not in LENGTHS)]
    assert {case.experiment.data.tuning for case in (*choosing, *shown)} == {0.1}
    for some, split in ((choosing, "tuning"), (shown, "val")):
        assert {entry.recipe.measure for case in some for entry in case.experiment.evaluations} == {split}
    assert not {case.experiment.seed for case in choosing} & {case.experiment.seed for case in shown}


def test_lengths_are_shown_in_no_table_and_are_of_what_tables_show(cases):
    document = read_grid(FOLDER / "laptop_labels.yaml").spec
    assert {sweep for table in document.tables for sweep in table.sweeps} == {"few", "all"}
    found = {sweep: set() for sweep in ("few", "all", *LENGTHS)}
    for case in cases("laptop_labels"):
        (evaluation,) = case.experiment.evaluations
        recipe, pretrain = evaluation.recipe, case.experiment.pretrain
        plain = recipe.model_copy(update={"measure": "val", "epochs": 0, "warmup_epochs": 0})
        assert recipe.warmup_epochs == recipe.epochs / 10
        found[case.sweep].add((case.experiment.method, pretrain, plain))
    assert all(found[name] == found[f"{name}_lengths"] and len(found[name]) == 4 for name in ("few", "all"))


def test_every_method_was_given_the_same_trials(cases):
    trials = {}
    for case in cases("tuning"):
        if case.sweep == "pretraining":
            one = case.experiment
            trials.setdefault(one.method.name, set()).add((one.pretrain.base_lr, one.method.ratio))
    assert len({frozenset(tried) for tried in trials.values()}) == 1
    assert all(len(tried) == 8 for tried in trials.values())
    for case in cases("laptop"):
        one = case.experiment
        if case.sweep in ("time", "epochs", "cost"):
            assert (one.pretrain.base_lr, one.method.ratio) in trials[one.method.name]


@pytest.mark.parametrize(
    ("twins", "of", "sweeps"),
    [("twins", "demo", {"methods", "cost", "random"}), ("laptop_twins", "laptop", {"time", "random"})],
)
def test_twins_are_those_of_what_is_shown_but_for_pixels(cases, twins, of, sweeps):
    """Its settings stand in both files."""
    found = [case.experiment for case in cases(twins)]
    shown = [case.experiment for case in cases(of) if case.sweep in sweeps]
    assert [one for one in found if not one.perturb] == shown
    moved = [one.model_copy(update={"perturb": n}) for one in shown if not one.seed for n in range(1, 6)]
    assert {one for one in found if one.perturb} == set(moved)


@pytest.mark.parametrize("name", ["tuning", "laptop", "laptop_labels", "twins", "laptop_twins"])
def test_they_plan(name, fashion, monkeypatch, called, tmp_path):
    monkeypatch.setenv("FASHION_MNIST", str(fashion))
    out, _ = called("grid", "plan", str(FOLDER / f"{name}.yaml"), folder=tmp_path)
    assert " experiments, " in out
