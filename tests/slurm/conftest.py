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

CLUSTERS = Path(tempfile.gettempdir()) / "mixmae-slurm"


def slurm_needed() -> bool:
    return os.environ.get("MIXMAE_NEED_SLURM") == "1"


def failed_where_needed(report):
    if slurm_needed() and report.skipped and not hasattr(report, "wasxfail"):
        *_, reason = report.longrepr if isinstance(report.longrepr, tuple) else (report.longrepr,)
        report.outcome = "failed"
        report.longrepr = f"MIXMAE_NEED_SLURM=1 forbids skipping: {reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    return failed_where_needed((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report():
    return failed_where_needed((yield))


def pytest_terminal_summary(terminalreporter):
    """Said aloud, since a suite without its cluster tests looks as green as one with them."""
    root, here = terminalreporter.config.rootpath, Path(__file__).parent
    reports = terminalreporter.stats.get("skipped", [])
    skipped = [report for report in reports if (root / report.nodeid.partition("::")[0]).is_relative_to(here)]
    if skipped and (reason := missing_for_tests()):
        terminalreporter.section("slurm")
        terminalreporter.write_line(f"{len(skipped)} tests of {os.path.relpath(here, root)} skipped: {reason}")


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
