"""What was read of runs that are done, kept in `ROOT/.collected`, so that only what has changed is read again.

The file may be lost, damaged, another version's or not writable: then runs are read anew, and nothing is amiss. Its
first bytes are a hash of the rest and of what read it.
"""

import io
import logging
from hashlib import blake2b
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mixmae.files.records import write_atomically
from mixmae.runs.lease import server_time
from results.reading import OWN, frame_of

log = logging.getLogger(__name__)

YOUNG_S = 2.0
"""A file written so short a time before it is read may be written once more without its time becoming another: file
systems count it in steps of up to this."""

READER = (
    blake2b(resources.files("results").joinpath("reading.py").read_bytes()).digest()
    + f"pandas {pd.__version__}, pyarrow {pa.__version__}".encode()
)
"""What rows are read by, and kept."""

_DIGEST = 32


class Cache:
    """The rows known of `root`. Those that are asked for or added are written by `save`, the others are forgotten."""

    def __init__(self, root: Path):
        self._root, self._path = root, root / ".collected"
        self._known = _read(self._path)
        columns = (self._known[name].tolist() for name in ("stage", "id", "mark"))
        self._places = {(stage, id, mark): place for place, (stage, id, mark) in enumerate(zip(*columns, strict=True))}
        self._asked: list[int] = []
        self._added: list[dict[str, Any]] = []
        self._marks: list[str] = []
        self._before_ns = 0
        """Before anything is read that is added, by the clock of the file server."""

    def place(self, stage: str, id: str, mark: str) -> int | None:
        """Of the run's row, if its files still have that mark; None: read them, and `add` what they say."""
        place = self._places.get((stage, id, mark))
        if place is not None:
            self._asked.append(place)
        elif not self._before_ns:
            self._before_ns = int(server_time(self._root) * 1e9)
        return place

    def rows(self, places: list[int]) -> pd.DataFrame:
        as_it_is = places == list(range(len(self._known)))
        return (self._known if as_it_is else self._known.take(places))[list(OWN)]

    def add(self, row: dict[str, Any], mark: str, youngest_ns: int) -> None:
        """Keeps the row of a run whose files had that mark before they were read, unless they are too young."""
        if youngest_ns + YOUNG_S * 1e9 <= self._before_ns:
            self._added.append(row)
            self._marks.append(mark)

    def save(self) -> None:
        if not self._added and len(self._asked) == len(self._known):
            return
        rows = pd.concat([self._known.take(self._asked), _marked(self._added, self._marks)], ignore_index=True)
        content = io.BytesIO()
        pq.write_table(pa.Table.from_pandas(rows, preserve_index=False), content)
        text = content.getvalue()
        try:
            write_atomically(self._path, lambda path: path.write_bytes(_digest(text) + text))
        except OSError as error:
            log.debug("%s: what was collected is not kept: %s", self._path, error)


def _read(path: Path) -> pd.DataFrame:
    try:
        content = path.read_bytes()
    except OSError:
        return _marked([], [])
    if content[:_DIGEST] != _digest(content[_DIGEST:]):
        return _marked([], [])
    return pq.read_table(pa.BufferReader(content[_DIGEST:])).to_pandas()


def _marked(rows: list[dict[str, Any]], marks: list[str]) -> pd.DataFrame:
    return frame_of(rows).assign(mark=pd.Series(marks, dtype="str"))


def _digest(content: bytes) -> bytes:
    return blake2b(READER + content, digest_size=_DIGEST).digest()
