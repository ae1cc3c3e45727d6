"""`cluster` is a real Slurm of three nodes, `scripted` a stand-in for what a real one cannot do on demand.

Without Slurm the tests of the real one skip. Where MIXMAE_NEED_SLURM=1 no test of this folder may skip: it fails.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import Cluster, missing_for_tests
from cluster.handle import LEAKS, end_abandoned
from scripted import Scripted, without_slurm

from support.needed import failed_where_needed, say_skipped

CLUSTERS = Path(tempfile.gettempdir()) / "mixmae-slurm"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    return failed_where_needed((yield), "MIXMAE_NEED_SLURM")


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report():
    return failed_where_needed((yield), "MIXMAE_NEED_SLURM")


def pytest_terminal_summary(terminalreporter):
    if reason := missing_for_tests():
        say_skipped(terminalreporter, Path(__file__).parent, reason)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A running Slurm, one for all tests of the session; this process's SLURM_CONF names it."""
    if reason := missing_for_tests():
        pytest.skip(reason)
    CLUSTERS.mkdir(exist_ok=True)
    end_abandoned(CLUSTERS)
    running = Cluster(CLUSTERS / str(os.getpid()))
    try:
        running.start()
        with pytest.MonkeyPatch.context() as patch:
            for name in [name for name in os.environ if name.startswith(LEAKS)]:
                patch.delenv(name)
            patch.setenv("SLURM_CONF", running.environment["SLURM_CONF"])
            yield running
    finally:
        running.stop()
    shutil.rmtree(running.folder)


@pytest.fixture(scope="session")
def long(pytestconfig) -> bool:
    """True in `make soak-slurm`: all cases at their full length."""
    return pytestconfig.getoption("--long")


@pytest.fixture(scope="session")
def programs_without_slurm(tmp_path_factory) -> str:
    return without_slurm(os.environ["PATH"], tmp_path_factory.mktemp("programs"))


@pytest.fixture
def scripted(tmp_path_factory, programs_without_slurm, monkeypatch) -> Scripted:
    """Stand-ins for Slurm's commands, alone on PATH."""
    stand_in = Scripted(tmp_path_factory.mktemp("scripted"))
    for name in [name for name in os.environ if name.startswith(LEAKS)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", f"{stand_in.programs}:{programs_without_slurm}")
    return stand_in
