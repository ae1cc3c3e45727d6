"""Paths of data as configs write them, and as they are on this machine (no torch)."""

import os
import re
from pathlib import Path

from mixmae.data.sources import DataNotHere


def expanded(written: str, remedy: str = "") -> Path:
    """Returns the field `path` of a data's config as an absolute path, environment variables and ~ expanded.

    Raises DataNotHere naming the first variable that is not set, and `remedy`, what may be done about it.
    """
    if missing := [name for name in re.findall(r"\$\{?(\w+)", written) if name not in os.environ]:
        raise DataNotHere(("path",), f"the environment variable {missing[0]} is not set{remedy}", missing[0])
    return Path(os.path.expandvars(written)).expanduser().resolve()
