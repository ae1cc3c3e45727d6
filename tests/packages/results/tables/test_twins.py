"""The deviation over runs that differ in last bits alone, against numpy."""

import numpy as np
import pytest

from mixmae.experiment.metric import TOP1
from mixmae.presentation.declaration import TableSpec
from mixmae.presentation.shown import Shown, by_setting
from mixmae.runs.folder import RunFolder
from results.rows.collect import collect
from results.tables import build_table, markdown
from results.tables.forms import numeric
from results.tables.twins import OF_TWINS, of_no_setting, twins_of
from support.made_runs import Made, declared, experiment, write_state

FIGURES = {0: (70.0, 71.0, 73.0), 1: (60.0, 60.5), 2: (99.0,)}
"""Of twins, by seed."""


@pytest.fixture
def made(tmp_path):
    made = Made(tmp_path / "runs")
    for method in ("mixmae", "simmim"):
        for seed in (0, 1):
            made.add(experiment(method, seed=seed), linear=70.0 + seed, knn=50.0)
    for seed, figures in FIGURES.items():
        for place, figure in enumerate(figures):
            made.add(experiment("mixmae", seed=seed, perturb=place + 1), "twins", linear=figure)
            made.add(experiment("mixmae", seed=seed, perturb=place + 1, epochs=40), "twins", linear=figure + place * 9)
    return made


def table_of(made, twins=("twins",)):
    spec = TableSpec(name="t", sweeps=("main",), rows=("method",), stages=("linear", "knn"), twins=twins)
    return build_table(collect(made.root), spec, declared(made))


def test_the_deviation_of_twins_is_pooled_over_seeds(made):
    table = table_of(made)
    pooled = np.sqrt((2 * np.var(FIGURES[0], ddof=1) + np.var(FIGURES[1], ddof=1)) / 3)
    (mixmae, _), (simmim, _) = (row.cells for row in table.rows)
    assert mixmae.twins.std == pytest.approx(pooled)
    assert mixmae.twins.n == 5, "a twin alone tells nothing"
    assert simmim.twins is None
    assert OF_TWINS in table.notes
    written = markdown(table)
    assert "| linear, ± of twins |" in written
    assert f"| 70.50 ± 0.71 (n=2) | {pooled:.2f} (n=5) |" in written
    assert "kNN, ± of twins" not in written
    assert list(numeric(table)["linear_twins_std"]) == [pytest.approx(pooled), None]


def test_only_twins_that_are_done_count(made):
    twin = made.add(experiment("mixmae", seed=0, perturb=3), "twins", linear=73.0)
    (linear,) = (planned for planned in twin if planned.stage == "linear")
    write_state(RunFolder(made.root, "linear", linear.id), "failed", "no reason")
    pooled = np.sqrt((np.var(FIGURES[0][:2], ddof=1) + np.var(FIGURES[1], ddof=1)) / 2)
    assert table_of(made).rows[0].cells[0].twins.std == pytest.approx(pooled)


def test_a_table_that_names_no_twins_says_nothing_of_them(made):
    assert "twins" not in markdown(table_of(made, ()))


def test_twins_of_a_budget_are_those_of_its_epochs():
    """Of which each case says other hours."""

    def run(perturb, figure, budget):
        row = {"method": "mae", "seed": 0, "perturb": perturb, "pretrain.epochs": 20, "pretrain.budget": budget}
        return Shown(("knn", f"{perturb}"), row, "", "done", {"top1": figure}, name="knn", declared=row)

    others = by_setting([run(1, 50.0, None), run(2, 52.0, "2 hours")], of_no_setting)
    twins = twins_of([run(0, 1.0, "1 hour")], others, TOP1)
    assert twins.std == pytest.approx(np.std([50, 52], ddof=1)) and twins.n == 2
