"""environment.json: types of CPU, versions and variables, and what is warned of when a run goes on elsewhere."""

from importlib.metadata import version
from types import SimpleNamespace

import pytest
import torch

from mixmae.runs.folder import RunFolder
from mixmae.training.resources import Resources
from mixmae.work import environment
from mixmae.work.environment import cpu_type, record_environment

AMD = """processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 25
model\t\t: 17
model name\t: AMD EPYC
stepping\t: 1
flags\t\t: fpu vme: de

processor\t: 1
vendor_id\t: Other
"""
ARM = "processor\t: 0\nBogoMIPS\t: 50.00\nCPU part\t: 0xd40\n"
ALONE = SimpleNamespace(device=torch.device("cpu"), count=1)


@pytest.fixture
def cpuinfo(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    return tmp_path / "cpuinfo"


@pytest.fixture
def run(tmp_path, monkeypatch):
    for name in ("ATEN_CPU_CAPABILITY", "KMP_AFFINITY", "MKL_CBWR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return RunFolder(tmp_path / "runs", "pretrain", "0" * 16)


@pytest.fixture
def warned(caplog):
    def messages():
        found = [record.getMessage() for record in caplog.records]
        caplog.clear()
        return found

    return messages


def recorded(run):
    record_environment(run, Resources(), ALONE, [])
    return run.read("environment")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (AMD, "AuthenticAMD family 25 model 17 stepping 1, AVX2"),
        (AMD.replace("stepping\t: 1\n", ""), "AuthenticAMD family 25 model 17, AVX2"),
        (ARM, "a processor, AVX2"),
        (None, "a processor, AVX2"),
    ],
)
def test_types_of_cpu(cpuinfo, monkeypatch, text, expected):
    monkeypatch.setattr(environment.platform, "processor", lambda: "a processor")
    if text is not None:
        cpuinfo.write_text(text)
    assert cpu_type() == expected


def test_versions_and_variables_are_recorded(run, cpuinfo, monkeypatch):
    cpuinfo.write_text(AMD)
    monkeypatch.setenv("KMP_AFFINITY", "compact")
    monkeypatch.setenv("KMPX", "no")
    found = recorded(run)
    for name in ("pillow", "torchvision", "pyarrow", "timm"):
        assert found[name] == version(name)
    assert (found["cuda"], found["cudnn"], found["driver"]) == (torch.version.cuda, None, None)
    assert (found["cpu"], found["cpu_type"]) == ("AMD EPYC", "AuthenticAMD family 25 model 17 stepping 1, AVX2")
    named = {name: found["variables"].get(name) for name in ("OMP_NUM_THREADS", "KMP_AFFINITY", "KMPX")}
    assert named == {"OMP_NUM_THREADS": "1", "KMP_AFFINITY": "compact", "KMPX": None}


def test_another_type_of_cpu_is_warned_of(run, cpuinfo, warned):
    cpuinfo.write_text(AMD)
    recorded(run)
    assert recorded(run)["earlier"] == [] and warned() == []
    cpuinfo.write_text(AMD.replace("17", "1"))
    found = recorded(run)
    was, now = (f"AuthenticAMD family 25 model {model} stepping 1, AVX2" for model in (17, 1))
    assert warned() == [f"cpu_type was {was}, is now {now}: the last bits may differ"]
    assert [ran["cpu_type"] for ran in found["earlier"]] == [was]


def test_variables_that_change_kernels_are_warned_of(run, cpuinfo, warned, monkeypatch):
    recorded(run)
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    monkeypatch.setenv("OMP_NUM_THREADS", "4")  # the run's own threads count
    recorded(run)
    assert warned() == ["ATEN_CPU_CAPABILITY was not set, is now avx2: the last bits may differ"]
    monkeypatch.delenv("ATEN_CPU_CAPABILITY")
    recorded(run)
    assert warned() == ["ATEN_CPU_CAPABILITY was avx2, is now not set: the last bits may differ"]


def test_what_an_older_version_did_not_record_is_not_warned_of(run, cpuinfo, warned):
    cpuinfo.write_text(AMD)
    new = ("cpu_type", "variables", "pillow", "torchvision", "pyarrow", "cuda", "cudnn", "driver")
    old = {name: value for name, value in recorded(run).items() if name not in new}
    run.write("environment", {**old, "numpy": "1.0"})
    found = recorded(run)
    assert warned() == [f"numpy was 1.0, is now {version('numpy')}: the last bits may differ"]
    assert "cpu_type" not in found["earlier"][0] and "cpu_type" in found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\n", "535.104.05"),
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.10  Release Build\nGCC 12.2.0 \n",
            "570.86.10",
        ),
        ("something else\n", None),
        (None, None),
    ],
)
def test_the_driver(tmp_path, monkeypatch, text, expected):
    monkeypatch.setattr(environment, "DRIVER", tmp_path / "version")
    if text is not None:
        (tmp_path / "version").write_text(text)
    assert environment._driver() == expected
