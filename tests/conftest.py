import gc
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
import torch

from support.checkout import GOLDEN
from support.forked import server

torch.set_num_threads(1)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Begun in the background of a script, which ignores Ctrl-C: programs under test would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)

SAID = pytest.StashKey[list[str]]()
SLOW = ("tests/browser/", "tests/frozen/", "tests/slurm/", "tests/soak/")
"""Folders in which every test is marked as slow."""


def pytest_addoption(parser):
    help = "folder of tensors from the official implementations that tests/parity runs; default: tests/golden"
    parser.addoption("--golden", metavar="DIR", type=Path, default=GOLDEN, help=help)
    parser.addoption("--compiled", action="store_true", help="run tests/parity with compiled blocks, for some minutes")
    parser.addoption("--long", action="store_true", help="run tests/soak and tests/slurm in their long form")


def pytest_configure(config):
    config.stash[SAID] = []


def pytest_sessionstart(session):
    if hasattr(session.config, "workerinput"):
        server()  # it loads torch while the tests are collected


def scope(nodeid: str) -> str:
    """What one process tests where several do (pytest-xdist): a module, and all of tests/slurm with its cluster."""
    return "tests/slurm" if nodeid.startswith("tests/slurm/") else nodeid.partition("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """By a scheduler of our own: pytest-xdist 3.8 marks groups in node ids, which pytest 9.2 no longer lets it."""
    from xdist.scheduler import LoadScopeScheduling

    class Scopes(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return scope(nodeid)

    config.option.loadscopereorder = False  # the order is that of `first_what_waits`
    return Scopes(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    for item in items:
        if item.nodeid.startswith(SLOW):
            item.add_marker("slow")
    if not config.getoption("--long"):
        left_out = [item for item in items if item.get_closest_marker("long")]
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)
    if hasattr(config, "workerinput"):
        first_what_waits(items)


def first_what_waits(items) -> None:
    """Sorts what several processes share: the cluster, which waits most, then modules with slow tests, then the others,
    so that none is left with much to do when the others have ended."""
    slow = {scope(item.nodeid) for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: ((its := scope(item.nodeid)) != "tests/slurm", its not in slow))


def pytest_collection_finish():
    """What the tests import stays: looking through it for garbage, again and again, takes time that tests wait for."""
    gc.freeze()


@pytest.fixture(scope="session")
def report(pytestconfig):
    """Takes lines that are printed after the tests: what soak tests tried and lost."""
    return pytestconfig.stash[SAID].append


@pytest.fixture
def rounds(pytestconfig):
    """rounds(short, long): how much a soak test tries; the long form is for `make soak` and `make soak-slurm`."""
    return lambda short, long: long if pytestconfig.getoption("--long") else short


@pytest.fixture
def called(monkeypatch, capsys):
    """The command line called in this process; `support.program.mixmae` starts it as one of its own, for what is logged
    and for other imports."""
    import cli

    # Else usage errors name `python -m pytest` as the program.
    monkeypatch.setattr(sys.modules["__main__"], "__package__", None, raising=False)

    def call(*words: str, folder: Path, check: int = 0) -> tuple[str, str]:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["mixmae", *words])
        with mock.patch.dict(os.environ), pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        assert (ended.value.code or 0) == check, said.err
        return said.out, said.err

    return call


@pytest.fixture
def forgotten_plugins(monkeypatch) -> None:
    """What this process is told of plug-ins is forgotten after the test."""
    from mixmae.experiment.plugins import KINDS

    for specs in KINDS.values():
        monkeypatch.setattr(specs, "_plugged_in", {})
        monkeypatch.setattr(specs, "_stand_ins", {})


@pytest.fixture
def mounted(tmp_path) -> Iterator:
    """mounted(*arguments of mount): a new folder, on which something is mounted until the test ends."""
    places = []

    def mount(*words: str, over: Path | None = None) -> Path:
        place = over or tmp_path / f"mounted-{len(places)}"
        place.mkdir(exist_ok=True)
        ended = subprocess.run(["mount", *words, place], capture_output=True, text=True, check=False)
        if ended.returncode:
            pytest.skip(f"mounting is not permitted here: {ended.stderr.strip()}")
        places.append(place)
        return place

    yield mount
    for place in reversed(places):
        # Lazily: a process that is just ending may still stand in it.
        subprocess.run(["umount", "--lazy", place], check=True)


def pytest_sessionfinish(session):
    gc.unfreeze()  # else extension modules complain of objects that outlive them
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["said"] = session.config.stash[SAID]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    node.config.stash[SAID] += getattr(node, "workeroutput", {}).get("said", [])


def pytest_terminal_summary(terminalreporter, config):
    if config.stash[SAID]:
        terminalreporter.section("soak")
        for line in config.stash[SAID]:
            terminalreporter.write_line(line)
