"""What is tried again when the file system fails for a while, and errors of the system told from all others (no torch).

Network file systems (NFS, Lustre, FUSE) fail for seconds when a server restarts or a mount is renewed.
"""

import errno
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")

TRANSIENT = (
    errno.EIO,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.EAGAIN,
    errno.EBUSY,
    errno.ENOTCONN,
    errno.EREMOTEIO,
    errno.EINTR,
)
"""Errors that may be gone a moment later."""
OF_THE_MACHINE = (*TRANSIENT, errno.ENXIO, errno.EMFILE, errno.ENFILE)
"""Errors that say nothing of the file they were met at."""
FULL = (errno.ENOSPC, errno.EDQUOT)
DELAYS_S = (1, 2, 4, 8)


def retried(action: Callable[[], T]) -> T:
    """What `action()` returns. It is called again after each of `DELAYS_S` while it raises an OSError of `TRANSIENT`;
    the last error is raised."""
    for delay in DELAYS_S:
        try:
            return action()
        except OSError as error:
            if error.errno not in TRANSIENT:
                raise
            log.warning("%s; tried again in %d s", error, delay)
            time.sleep(delay)
    return action()


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turns whatever error of the system is raised within, also behind another, into an OSError that names `path`."""
    try:
        yield
    except Exception as error:
        number = _number(error)
        if number is None:
            raise
        advice = "; make room and run it again, it goes on from what is saved" if number in FULL else ""
        raise OSError(number, os.strerror(number) + advice, str(path)) from error


def _number(error: BaseException | None) -> int | None:
    """torch.save hides the error of the file it writes to behind one of its own, safetensors puts it into words."""
    if error is None:
        return None
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    if said := re.search(r"\(os error (\d+)\)", str(error)):
        return int(said[1])
    return _number(error.__cause__ or error.__context__)
