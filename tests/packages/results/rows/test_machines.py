"""What tables and reports say of where runs were computed."""

from dataclasses import replace

import pytest

from mixmae.presentation.shown import Shown
from mixmae.runs.folder import RunFolder
from results.rows.machines import computed_on, machine

ONE, OTHER = "AuthenticAMD family 25 model 17 stepping 1, AVX512", "GenuineIntel family 6 model 85 stepping 7, AVX2"
CPU = {"device": "cpu", "cpu": "AMD EPYC", "cpu_type": ONE, "earlier": []}
GPU = {"device": "NVIDIA H200", "cpu": "AMD EPYC", "cpu_type": ONE, "earlier": []}
OLD = {"device": "cpu", "cpu": "AMD EPYC", "earlier": []}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        (CPU, f"AMD EPYC ({ONE})"),
        (GPU, "NVIDIA H200"),
        (OLD, "AMD EPYC"),
        ({**CPU, "cpu": None}, ONE),
        ({**CPU, "earlier": [CPU]}, f"AMD EPYC ({ONE})"),
        ({**CPU, "cpu_type": OTHER, "earlier": [CPU]}, f"AMD EPYC ({ONE}) and AMD EPYC ({OTHER})"),
        ({}, None),
    ],
)
def test_a_machine(environment, expected):
    assert machine(environment) == expected


@pytest.mark.parametrize(
    ("environments", "expected"),
    [
        ([CPU, CPU, CPU], [f"Computed on AMD EPYC ({ONE})."]),
        ([OLD, OLD, OLD], []),
        ([None, None, None], []),
        ([CPU, None, CPU], [f"Computed on AMD EPYC ({ONE})."]),
        (
            [CPU, {**CPU, "cpu_type": OTHER}, CPU],
            [
                f"Computed on machines of several kinds, of other last bits each: 2 runs on AMD EPYC ({ONE}); "
                f"1 run on AMD EPYC ({OTHER})."
            ],
        ),
    ],
)
def test_where_a_tables_runs_were_computed(tmp_path, environments, expected):
    """Two evaluations of one pretraining, which is counted once, and one that is not done, which is not."""
    keys = [("pretrain", "a"), ("knn", "b"), ("linear", "c"), ("knn", "d")]
    for key, environment in zip(keys, [*environments, {**CPU, "cpu_type": "another"}], strict=True):
        if environment is not None:
            run = RunFolder(tmp_path, *key)
            run.path.mkdir(parents=True)
            run.write("environment", environment)
    shown = [Shown(key, {"seed": 0}, "", "done", costs={"trained": keys[0]}, root=str(tmp_path)) for key in keys[1:]]
    shown[-1] = replace(shown[-1], state="running")
    assert computed_on(shown) == expected
