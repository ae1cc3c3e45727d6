"""Archives of checkpoints, and whether they are whole (no torch)."""

import errno
from pathlib import Path
from zipfile import ZipFile


def damage(path: Path) -> str | None:
    """Returns what is wrong with a checkpoint by the checksums that torch.save stores and torch.load does not verify;
    None where they all hold.

    Raises OSError where the file system fails.
    """
    try:
        with ZipFile(path) as archive:
            bad = archive.testzip()
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):  # an offset that damage made negative
            raise
        return str(error)
    except Exception as error:  # a damaged archive raises nearly any, such as zlib.error and NotImplementedError
        return str(error) or type(error).__name__
    return f"damaged at {bad}" if bad else None
