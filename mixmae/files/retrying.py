"""Retries while a file system fails, and tells system errors from all others (no torch).

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
"""Numbers of errors that may be gone a moment later."""
OF_THE_MACHINE = (*TRANSIENT, errno.ENXIO, errno.EMFILE, errno.ENFILE)
"""Numbers of errors that are the machine's or the mount's, not those of the file that was opened."""
FULL = (errno.ENOSPC, errno.EDQUOT)
DELAYS_S = (1, 2, 4, 8)


def retried(action: Callable[[], T]) -> T:
    """Returns what `action()` returns. Calls it again after each of `DELAYS_S` while it raises an OSError of
    `TRANSIENT`; raises the last error."""
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
    """Turns a system error raised in the block, even one hidden behind another error, into an OSError naming `path`."""
    try:
        yield
    except Exception as error:
        number = _number(error)
        if number is None:
            raise
        advice = "; make room and run it again, it goes on from what is saved" if number in FULL else ""
        raise OSError(number, os.strerror(number) + advice, str(path)) from error


def _number(error: BaseException | None) -> int | None:
    """Returns the errno behind `error`, if any. torch.save hides a system error behind one of its own; safetensors
    writes its number into the message."""
    if error is None:
        return None
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    if match := re.search(r"\(os error (\d+)\)", str(error)):
        return int(match[1])
    return _number(error.__cause__ or error.__context__)
