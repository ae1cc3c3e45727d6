"""The hash that distinguishes data sets (no torch)."""

import hashlib
from collections.abc import Iterable

HEX_DIGITS = 16


def digest(parts: Iterable[bytes]) -> str:
    """Returns 16 hex digits of the SHA-256 of all parts."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(part)
    return sha.hexdigest()[:HEX_DIGITS]
