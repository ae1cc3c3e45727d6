"""The best of the settings that a grid tried."""

import pytest
import yaml

from ablations.grid.trials import Draw
from mixmae.presentation.declaration import Selected
from results import best as choosing
from results.rows.collect import collect
from support.made_runs import Made, declared, experiment, write_config

LINEAR = {
    # base_lr: top-1 of both seeds
    1e-4: (50.0, 51.0),
    1e-3: (60.0, 58.0),
    9e-3: (59.5, 59.5),
}
DRAWN = {"pretrain.base_lr": Draw(least=1e-4, most=1e-2, log=True)}


def tried(method: str, base_lr: float, seed: int, **more):
    written = experiment(method, seed=seed, **more).model_dump(mode="json")
    written["pretrain"]["base_lr"] = base_lr
    return type(experiment()).model_validate(written)


@pytest.fixture
def made(tmp_path) -> Made:
    made = Made(tmp_path / "runs")
    for base_lr, figures in LINEAR.items():
        for seed, top1 in enumerate(figures):
            made.add(tried("mixmae", base_lr, seed), linear=top1, knn=90 - top1)
            made.add(tried("simmim", base_lr, seed), linear=top1 - 20)
    return made


def found(made: Made, by: str = "linear", within=("method", "encoder"), **more) -> tuple[list, Selected]:
    declaration = declared(made, swept=("pretrain.base_lr",))
    selected = declaration.select(by)
    return choosing.best(collect(made.root), declaration, selected, within, **more), selected


def test_the_best_mean_over_seeds_comes_first_within_each_method(made):
    groups, _ = found(made)
    assert [group.values["method"] for group in groups] == ["mixmae", "simmim"]
    for group, less in zip(groups, (0, 20), strict=True):
        means = [(one.setting, one.mean, one.seeds) for one in group.tried]
        assert means == [
            ({"pretrain.base_lr": 9e-3}, 59.5 - less, (0, 1)),
            ({"pretrain.base_lr": 1e-3}, 59.0 - less, (0, 1)),
            ({"pretrain.base_lr": 1e-4}, 50.5 - less, (0, 1)),
        ]


def test_another_figure_has_its_own_direction(made):
    def first(by: str) -> float:
        return found(made, by)[0][0].tried[0].setting["pretrain.base_lr"]

    assert first("knn") == 1e-4
    assert first("linear.top5") == 9e-3
    made.add(tried("mixmae", 5e-4, 0), linear=1.0)
    groups, _ = found(made, "linear.loss")
    assert len(groups[0].tried) == 4


def test_a_value_in_the_outer_tenth_is_named(made):
    groups, by = found(made, tried=DRAWN)
    assert [one.outer for one in groups[0].tried] == [("pretrain.base_lr",), (), ("pretrain.base_lr",)]
    said = choosing.lines(groups, by, top=2)
    assert "| 0.009 (outer tenth) | 59.50 | 2 |" in said and "| 0.001 | 59.00 | 2 |" in said
    assert said.count("The best lies in the outer tenth of pretrain.base_lr: widen the range, for every method.") == 2
    assert said.count("The best 2 of 3.") == 2


@pytest.mark.parametrize(
    ("value", "outer"), [(1e-4, True), (1.5e-4, True), (1.7e-4, False), (6e-3, False), (6.4e-3, True), (1e-2, True)]
)
def test_tenths_of_a_logarithmic_range_are_of_the_logarithm(value, outer):
    assert Draw(least=1e-4, most=1e-2, log=True).is_outer(value) is outer


@pytest.mark.parametrize(("value", "outer"), [(1.0, True), (1.9, True), (2.1, False), (9.9, False), (10.1, True)])
def test_tenths_of_an_even_range(value, outer):
    assert Draw(least=1.0, most=11.0).is_outer(value) is outer


def test_runs_without_a_figure_are_counted_and_choose_nothing(made):
    jobs = made.add(tried("simmim", 5e-3, 0))
    (planned,) = [job for job in jobs if job.stage == "linear"]
    write_config(made.root, planned)
    made.members["main"].add((planned.stage, planned.id))
    groups, by = found(made)
    assert [group.unfinished for group in groups] == [0, 1] and len(groups[1].tried) == 3
    assert "1 run of these not done." in choosing.lines(groups, by, top=1)


def test_what_val_chose_is_said(made):
    groups, by = found(made)
    assert any("a figure on val that is too good" in line for line in choosing.lines(groups, by, top=1))
    evaluations = {"linear": {"measure": "tuning"}}
    data = {"name": "digits", "tuning": 0.1}
    made.members.clear()
    made.add(experiment("mixmae", seed=3, evaluations=evaluations, data=data), linear=50.0)
    groups, by = found(made)
    assert [group.scored for group in groups] == [("tuning",)]
    assert choosing.lines(groups, by, top=1)[-1] == "Scored on: tuning."


def test_the_list_is_one_of_a_sweep(made):
    groups, by = found(made)
    assert yaml.safe_load(choosing.as_list(groups, by, top=1)) == {
        "list": [
            {"method": "mixmae", "encoder": "swin_nano", "pretrain.base_lr": 9e-3},
            {"method": "simmim", "encoder": "swin_nano", "pretrain.base_lr": 9e-3},
        ]
    }


def test_a_setting_of_the_evaluation_is_listed_by_the_evaluations_name(tmp_path):
    made = Made(tmp_path / "runs")
    for ratio in (0.3, 0.6):
        for k in (5, 10):
            of = experiment({"name": "mixmae", "ratio": ratio}, evaluations={"knn": {"k": k}})
            made.add(of, knn=10 * ratio + k)
    declaration = declared(made, swept=("ratio", "evaluations.knn.k"))
    by = declaration.select("knn")
    groups = choosing.best(collect(made.root), declaration, by, ["method"])
    (first, *_) = yaml.safe_load(choosing.as_list(groups, by, top=1))["list"]
    assert first == {"method": "mixmae", "method.ratio": 0.6, "evaluations.knn.k": 10}


def test_a_setting_that_alone_was_tried_is_listed_too(tmp_path):
    made = Made(tmp_path / "runs")
    made.add(tried("mixmae", 3e-3, 0), linear=50.0)
    declaration = declared(made, swept=("pretrain.base_lr",))
    by = declaration.select("linear")
    groups = choosing.best(collect(made.root), declaration, by, ["method"], tried={"pretrain.base_lr": None})
    assert yaml.safe_load(choosing.as_list(groups, by, top=1))["list"] == [
        {"method": "mixmae", "pretrain.base_lr": 3e-3}
    ]


def test_equal_means_are_said(made):
    made.add(tried("mixmae", 5e-3, 0), linear=59.5)
    groups, by = found(made)
    assert "The first 2 are equally good." in choosing.lines(groups, by, top=1)


def test_where_nothing_is_scored_so_is_said(made):
    with pytest.raises(ValueError, match="no case of this grid has finetune"):
        found(made, "finetune")


def test_plain_data_hold_the_same(made):
    groups, by = found(made, tried=DRAWN)
    (mixmae, _) = choosing.document(groups, by, top=1)
    assert mixmae["within"] == {"method": "mixmae", "encoder": "swin_nano"} and mixmae["tried"] == 3
    (first,) = mixmae["best"]
    assert first == {
        "setting": {"pretrain.base_lr": 9e-3},
        "linear": 59.5,
        "seeds": [0, 1],
        "outer": ["pretrain.base_lr"],
        "missing": 0,
    }


def test_only_the_sweeps_that_are_asked_for(made):
    made.add(tried("mixmae", 2e-3, 0), sweep="more", linear=99.0)
    assert found(made, sweeps=["main"])[0][0].tried[0].mean == 59.5
    assert found(made)[0][0].tried[0].mean == 99.0
    with pytest.raises(ValueError, match="sweep"):
        found(made, sweeps=["others"])


def test_a_setting_with_missing_runs_stands_last_and_is_not_listed(made):
    jobs = made.add(tried("mixmae", 5e-3, 0), linear=99.0) + made.add(tried("mixmae", 5e-3, 1))
    for planned in jobs:
        if planned.stage == "linear" and planned.job.seed == 1:
            write_config(made.root, planned)
            made.members["main"].add((planned.stage, planned.id))
    groups, by = found(made)
    assert [one.mean for one in groups[0].tried] == [59.5, 59.0, 50.5, 99.0]
    assert any("| 99.00 | 1, 1 missing |" in line for line in choosing.lines(groups, by, top=4))
    assert 5e-3 not in [one.get("pretrain.base_lr") for one in yaml.safe_load(choosing.as_list(groups, by, 9))["list"]]


def test_controls_are_no_setting_to_run_again(made):
    made.add(experiment("supervised"), linear=99.0)
    groups, by = found(made)
    listed = yaml.safe_load(choosing.as_list(groups, by, top=1))["list"]
    assert {one["method"] for one in listed} == {"mixmae", "simmim"}
