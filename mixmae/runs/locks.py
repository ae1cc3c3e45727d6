"""Locks that the system lets go of however a process ends (no torch)."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# -------------------------------------------------------------------------------------------------------------- locks


@contextmanager
def lock(path: Path) -> Iterator[bool]:
    """Yields whether the lock at `path` is this process's until the block ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def is_locked(path: Path) -> bool:
    """Whether some process holds the lock at `path`. Asks with a shared lock, which readers do not deny each other."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
