"""Without Slurm the tests of this folder skip and say how to get it; where it is needed none of them may skip."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TESTS = """
import pytest

def test_with_a_cluster(cluster): pass

def test_that_skips_itself(): pytest.skip("by hand")

@pytest.mark.skip(reason="by mark")
def test_marked(): pass

def test_that_passes(): pass

@pytest.mark.xfail(strict=True)
def test_known_to_fail(): assert False
"""


def run(folder: Path, needed: str) -> str:
    """The folder's conftest on a machine that lacks Slurm."""
    lacking = '\nmissing_for_tests = lambda: "no Slurm here; daemons.py install"\n'
    (folder / "conftest.py").write_text((HERE / "conftest.py").read_text() + lacking)
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_some.py").write_text(TESTS)
    (folder / "test_module.py").write_text('import pytest\npytest.skip("whole", allow_module_level=True)\n')
    environment = os.environ | {"PYTHONPATH": f"{HERE}:{HERE.parent}", "MIXMAE_NEED_SLURM": needed}
    command = [sys.executable, "-m", "pytest", "-q", "--continue-on-collection-errors", "-p", "no:cacheprovider", "."]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True).stdout


def test_a_machine_without_slurm_skips_and_says_so(tmp_path):
    output = run(tmp_path, "")
    assert "1 passed, 4 skipped, 1 xfailed" in output
    assert "4 tests of . skipped: no Slurm here; daemons.py install" in output


def test_where_slurm_is_needed_a_skip_is_a_failure(tmp_path):
    output = run(tmp_path, "1")
    for reason in ("no Slurm here", "by hand", "by mark", "whole"):
        assert f"MIXMAE_NEED_SLURM=1 forbids skipping: Skipped: {reason}" in output, reason
    assert "skipped" not in output.splitlines()[-1]


def test_what_is_missing_is_named(monkeypatch, tmp_path):
    from cluster import daemons, missing_for_tests

    monkeypatch.setattr(daemons, "DAEMON_PATH", str(tmp_path))
    assert daemons.missing() == list(daemons.PROGRAMS.values())
    assert "slurmctld" in missing_for_tests()
    assert "tests/slurm/cluster/daemons.py install" in missing_for_tests()


@pytest.mark.parametrize("program", ["slurmctld", "mariadbd"])
def test_one_package_alone_is_named(monkeypatch, tmp_path, program):
    from cluster import daemons

    for name in daemons.PROGRAMS:
        if name != program:
            (tmp_path / name).touch(0o755)
    monkeypatch.setattr(daemons, "DAEMON_PATH", str(tmp_path))
    assert daemons.missing() == [daemons.PROGRAMS[program]]
