"""What a grid has launched, in ROOT/grids (no torch)."""

import logging
from collections.abc import Iterable
from pathlib import Path

from mixmae.fields.identity import Key
from mixmae.files.records import Damaged, read_json, write_json

log = logging.getLogger(__name__)


def grid_folder(root: Path, name: str) -> Path:
    """Where the launcher of a grid keeps its own files."""
    return root / "grids" / name


def remember(root: Path, name: str, keys: Iterable[Key]) -> None:
    """Adds runs to those that this grid has launched."""
    known = launched_by(root, name) | set(keys)
    write_json(root / "grids" / f"{name}.json", {"launched": sorted(known)})


def launched_by(root: Path, name: str) -> set[Key]:
    try:
        return {(stage, id) for stage, id in read_json(root / "grids" / f"{name}.json")["launched"]}
    except FileNotFoundError:
        return set()
    except Damaged as error:
        log.warning("%s; runs that it launched before and no longer names are not known; written anew", error)
        return set()
