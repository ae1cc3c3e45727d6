"""Files that are made again only when what they are made of has changed (no torch, no matplotlib).

The hashes of the inputs are kept in `.inputs.json` of the folder. Where nothing has changed, nothing is made, and what
would make it is not even imported.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import mixmae
from mixmae.files.records import Damaged, read_json, sha256, write_json

log = logging.getLogger(__name__)

NOTE = ".inputs.json"


@dataclass(frozen=True)
class ReportPart:
    """Some files (paths in the folder), what they are made of (`inputs`, hashed), and what makes them."""

    name: str
    files: tuple[str, ...]
    inputs: str
    make: Callable[[], object]


def make_changed(outputs: Sequence[ReportPart], folder: Path) -> list[str]:
    """Makes the outputs whose inputs or files are not those of the last time, notes each as soon as it is made, and
    returns their names."""
    note = folder / NOTE

    def stamp(output: ReportPart) -> str:
        return hashed(output.inputs, *(file_hash(folder / file) for file in output.files))

    known = _known(note)
    made = []
    for output in outputs:
        complete = all((folder / file).exists() for file in output.files)
        if complete and known.get(output.name) == stamp(output):
            continue
        output.make()
        known[output.name] = stamp(output)
        made.append(output.name)
        write_json(note, {"inputs": known})
    current = {output.name: known[output.name] for output in outputs}
    if known != current:
        write_json(note, {"inputs": current})
    return made


def hashed(*texts: str) -> str:
    """The hash of what an output is made of: `texts`, the code and the published numbers of the package `results`."""
    return hashlib.sha256(json.dumps([mixmae.__version__, _package_hash(), *texts]).encode()).hexdigest()


def file_hash(path: Path) -> str:
    return sha256(path) if path.exists() else "absent"


def _known(note: Path) -> dict[str, str]:
    try:
        return read_json(note)["inputs"]
    except FileNotFoundError:
        return {}
    except Damaged as error:
        log.warning("%s; everything is made anew", error)
        return {}


@cache
def _package_hash() -> str:
    texts = sorted(f"{file.name}\n{file.read_text('utf-8')}" for file in _sources(files("results")))
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def _sources(folder: Traversable) -> Iterator[Traversable]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _sources(entry)
        elif entry.name.endswith(".py") or entry.name == "published.csv":
            yield entry
