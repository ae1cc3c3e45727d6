"""What was read of runs that are done, kept in `ROOT/.collected`, so that only what has changed is read again.

The file may be lost, damaged, another version's or not writable: then runs are read anew, and nothing is amiss. Its
first bytes are a hash of the rest and of what read it.
"""

import io
import json
import logging
from collections.abc import Sequence
from hashlib import blake2b
from importlib import resources
from itertools import repeat
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mixmae.experiment.plugins import recall
from mixmae.files.records import write_atomically
from mixmae.runs.lease import server_time
from results.rows.reading import Read

log = logging.getLogger(__name__)

YOUNG_S = 2.0
"""A file written so short a time before it is read may be written once more without its time becoming another: file
systems count it in steps of up to this."""

READER = (
    blake2b(resources.files("results.rows").joinpath("reading.py").read_bytes()).digest()
    + f"pandas {pd.__version__}, pyarrow {pa.__version__}".encode()
)
"""The code and the libraries by which runs are read and kept."""

KEPT = {"stage": pa.string(), "id": pa.string(), "seed": pa.int64(), "config": pa.string(), "reason": pa.string(),
        "start_stage": pa.string(), "start_id": pa.string(), "figures": pa.string(), "hours": pa.float64(),
        "device": pa.string(), "plugins": pa.string(), "mark": pa.string()}  # fmt: skip
"""The columns of the file: each run as it was read, nothing that is made of it."""

_DIGEST = 32


class Cache:
    """The runs known of `root`. Those that are asked for or added are written by `save`, the others are forgotten."""

    def __init__(self, root: Path):
        self._root, self._path = root, root / ".collected"
        self._known = _read(self._path)
        self._used: list[tuple[Read, str]] = []
        self._added: list[tuple[Read, str]] = []
        self._before_ns = 0
        """A time before the first run that is added was read, in ns, by the clock of the file server."""

    def get(self, stage: str, id: str, mark: str) -> Read | None:
        """The run, if its files still have that mark; None: read them, and `add` what they say."""
        run = self._known.get((stage, id, mark))
        if run is not None:
            self._used.append((run, mark))
        elif not self._before_ns:
            self._before_ns = int(server_time(self._root) * 1e9)
        return run

    def add(self, run: Read, mark: str, youngest_ns: int) -> None:
        """Keeps a run whose files had that mark before they were read, unless they are too young."""
        if youngest_ns + YOUNG_S * 1e9 <= self._before_ns:
            self._added.append((run, mark))

    def save(self) -> None:
        if not self._added and len(self._used) == len(self._known):
            return
        content = io.BytesIO()
        pq.write_table(_table([*self._used, *self._added]), content)
        text = content.getvalue()
        try:
            write_atomically(self._path, lambda path: path.write_bytes(_digest(text) + text))
        except OSError as error:
            log.debug("%s: what was collected is not kept: %s", self._path, error)


def _table(runs: Sequence[tuple[Read, str]]) -> pa.Table:
    columns: dict[str, list] = {name: [] for name in KEPT}
    for run, mark in runs:
        start_stage, start_id = run.start or (None, None)
        extra = {"start_stage": start_stage, "start_id": start_id, "mark": mark}
        for name, values in columns.items():
            values.append(extra[name] if name in extra else getattr(run, name))
    return pa.table({name: pa.array(columns[name], kind) for name, kind in KEPT.items()})


def _read(path: Path) -> dict[tuple[str, str, str], Read]:
    try:
        content = path.read_bytes()
    except OSError:
        return {}
    if content[:_DIGEST] != _digest(content[_DIGEST:]):
        return {}
    table = pq.read_table(pa.BufferReader(content[_DIGEST:]))
    stage, id, seed, config, reason, start_stage, start_id, figures, hours, device, plugins, marks = (
        table[name].to_pylist() for name in KEPT
    )
    for text in {text for text in plugins if text}:
        recall(json.loads(text))
    starts = [key if key[1] else None for key in zip(start_stage, start_id, strict=True)]
    runs = map(Read, stage, id, seed, config, starts, repeat("done"), reason, figures, hours, device, plugins)
    return dict(zip(zip(stage, id, marks, strict=True), runs, strict=True))


def _digest(content: bytes) -> bytes:
    return blake2b(READER + content, digest_size=_DIGEST).digest()
