"""A Python that has torch loaded when it starts: for jobs, which Slurm and submitit start and no test can fork itself.

What stands for it is a program of a few lines that lives as long as the job's own process, hands on the signals it
gets and ends as that process ends; if it dies, so does that process. To Slurm it is the job. What is spared are the
eight seconds in which Python reads the modules of torch and timm.
"""

import atexit
import functools
import json
import logging
import multiprocessing.util
import os
import runpy
import select
import shutil
import signal
import socket
import sys
import tempfile
import traceback
from pathlib import Path

from support.forked import Forked, enter

MODULE = "submitit.core._submit"
STAND_IN = """\
#!{python} -IS
import json, os, signal, socket, sys

if sys.argv[1:-1] != ["-u", "-m", {module!r}]:
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
door.connect({door!r})
signals = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT]
blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
start = dict(folder=sys.argv[-1], place=os.getcwd(), environment=dict(os.environ), blocked=list(map(int, blocked)))
socket.send_fds(door, [json.dumps(start).encode()], [0, 1, 2])
process = int(door.recv(32))

def hand_on(number, frame):
    try:
        os.kill(process, number)
    except ProcessLookupError:
        pass

for number in signals:
    signal.signal(number, hand_on)
signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
code = int(door.recv(32))
if code < 0:
    signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
os._exit(code)
"""


@functools.cache
def python() -> str:
    """The path of the program; what serves it is forked now and ends with this process."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    door, program = str(folder / "door"), folder / "python"
    program.write_text(STAND_IN.format(python=sys.executable, module=MODULE, door=door))
    program.chmod(0o755)
    listening = Forked(serve, door)
    atexit.register(listening.kill)
    while not os.path.exists(door):
        assert listening.poll() is None, listening.communicate()
    return str(program)


def serve(path: str) -> None:
    """Forks a process for every job that asks at `path`, and one that waits for it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as door:
        door.bind(path + "-")
        door.listen()
        os.rename(path + "-", path)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        while True:
            asked, _ = door.accept()
            if os.fork() == 0:
                door.close()
                try:
                    _attend(asked)
                finally:
                    os._exit(0)
            asked.close()


def _attend(asked: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    said, files, _, _ = socket.recv_fds(asked, 1 << 20, 3)
    job = os.fork()
    if job == 0:
        asked.close()
        _begin(json.loads(said), files)
    asked.send(str(job).encode())
    ended = os.pidfd_open(job)
    if ended not in select.select([asked, ended], [], [])[0]:
        os.kill(job, signal.SIGKILL)  # what stands for it is gone
    _, status = os.waitpid(job, 0)
    asked.send(str(os.waitstatus_to_exitcode(status)).encode())


def _begin(start: dict, files: list[int]) -> None:
    os.setsid()
    signal.pthread_sigmask(signal.SIG_SETMASK, start["blocked"])
    for number, file in enumerate(files):
        os.dup2(file, number)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(write_through=True)
    os.chdir(start["place"])
    enter(start["environment"])
    sys.argv = ["-m", start["folder"]]
    code = 1
    try:
        runpy.run_module(MODULE, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else bool(ended.code)
    except BaseException:
        traceback.print_exc()
    multiprocessing.util._exit_function()
    logging.shutdown()
    os._exit(code)
