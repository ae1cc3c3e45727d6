"""The command line as a program of its own."""

import sys
from pathlib import Path

from support.forked import program

COMMAND = [sys.executable, "-c", "import cli; cli.main()"]


def mixmae(*words: str, folder: Path, check: int) -> tuple[str, str]:
    """Standard output and error of the command, run in `folder`, which must end with the code `check`."""
    ended = program(*words, folder=folder)
    out, err = ended.communicate(600)
    assert ended.returncode == check, err
    return out, err
