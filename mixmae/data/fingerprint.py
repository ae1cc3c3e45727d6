"""The hash that distinguishes data sets, and where what is known of them is kept (no torch)."""

import errno
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mixmae.files.records import write_json

HEX_DIGITS = 16
READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
"""Errors of a root that cannot be written to: what is kept there is then made anew each time."""


def digest(parts: Iterable[bytes]) -> str:
    """Returns 16 hex digits of the SHA-256 of all parts."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(part)
    return sha.hexdigest()[:HEX_DIGITS]


def of_files(folder: Path, files: Iterable[tuple[str, str, str]]) -> str:
    """Returns the digest of images that are files: of each its name in the data set, its size and its class.

    files: (path relative to `folder`, name, class) of each. Raises FileNotFoundError where one is not there.
    """
    return digest(f"{name}\0{(folder / path).stat().st_size}\0{label}\n".encode() for path, name, label in files)


def cache_below(root: Path, what: str) -> Path:
    """Returns the file under `root` that keeps what is known of the data called `what`."""
    return root / "fingerprints" / f"{digest([what.encode()])}.json"


def keep(cache: Path, data: dict[str, Any]) -> None:
    """Writes `data` to `cache`, unless the root cannot be written to."""
    try:
        write_json(cache, data)
    except OSError as error:
        if error.errno not in READ_ONLY:
            raise
