"""The command line as a program of its own."""

import subprocess
import sys
from pathlib import Path

COMMAND = [sys.executable, "-c", "import cli; cli.main()"]


def mixmae(*words: str, folder: Path, check: int) -> tuple[str, str]:
    """Standard output and error of the command, run in `folder`, which must end with the code `check`."""
    ended = subprocess.run([*COMMAND, *words], cwd=folder, capture_output=True, text=True, timeout=600)
    assert ended.returncode == check, ended.stderr
    return ended.stdout, ended.stderr
