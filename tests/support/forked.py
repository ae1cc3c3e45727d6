"""Processes that have torch and timm loaded already: forked from one that has loaded them and computed nothing.

Each is a process of its own, with its own environment, signals and standard streams; only the seconds that Python takes
to read their modules are spared.
"""

import functools
import multiprocessing
import multiprocessing.forkserver
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path
from unittest import mock

from mixmae.runs.folder import RunFolder
from mixmae.training.resources import Resources


@functools.cache
def server() -> ForkServerContext:
    """Its process is started by the first call and still loads when that returns."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["support.loaded"])
    # Python before 3.13 does not hand on sys.path, and is silent where it cannot import what it shall load.
    found = os.pathsep.join(filter(None, sys.path))
    with mock.patch.dict(os.environ, OMP_NUM_THREADS="1", TORCH_CPP_LOG_LEVEL="ERROR", PYTHONPATH=found):
        multiprocessing.forkserver.ensure_running()
    return context


class Forked:
    """As much of `subprocess.Popen` as tests use. It calls `target(*arguments)` of an importable module."""

    def __init__(self, target: Callable, *arguments: str, folder: Path | None = None, **environment: str):
        self._said = [tempfile.NamedTemporaryFile("r") for _ in range(2)]  # noqa: SIM115
        paths = [file.name for file in self._said]
        place = str(folder or Path.cwd())
        self._process = server().Process(
            target=_begin, args=(target, arguments, place, {**os.environ, **environment}, *paths)
        )
        self._process.start()
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired([str(self._process)], timeout)
        return self._process.exitcode

    def join(self, timeout: float) -> None:
        self._process.join(timeout)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Standard output and error, once it has ended."""
        self.wait(timeout)
        out, err = (file.read() for file in self._said)
        return out, err

    def send_signal(self, number: int) -> None:
        if self._process.exitcode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()


def program(*words: str, folder: Path | None = None, python: str = sys.executable, **environment: str) -> Forked:
    """The command line, in `folder`; `python` runs the jobs that it launches."""
    return Forked(_program, python, *words, folder=folder, **environment)


def job(run: RunFolder, resources: Resources, **environment: str) -> Forked:
    """A stage job; it prints how it ended."""
    return Forked(run_job, str(run.path), resources.model_dump_json(), **environment)


def _begin(
    target: Callable, arguments: tuple[str, ...], folder: str, environment: dict[str, str], out: str, err: str
) -> None:
    assert "timm" in sys.modules, "support.loaded was not loaded"
    os.setsid()  # a process group of its own, as a shell makes one
    os.chdir(folder)
    enter(environment)
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY), number)
    target(*arguments)


def enter(environment: dict[str, str]) -> None:
    """Makes `environment` this process's, and finds modules where it says."""
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))


def _program(python: str, *words: str) -> None:
    import cli

    sys.executable = python
    sys.argv = ["mixmae", *words]
    cli.main()


def run_job(path: str, resources: str) -> None:
    from mixmae.work.execution import execute

    run = Path(path)
    folder = RunFolder(run.parents[1], run.parent.name, run.name)
    print(execute(folder, Resources.model_validate_json(resources), lambda: False))
