"""JSON documents and lines that are written whole and checked when they are read, and checksums of files (no torch)."""

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from mixmae.fields.identity import canonical
from mixmae.files.retrying import naming, retried

log = logging.getLogger(__name__)


SCHEMA = 1


CHECKSUM = "checksum"
"""The last key of every JSON document written here: a hash of the rest. Older documents have none."""


CHECKSUM_DIGITS = 16
"""Hex digits of it."""


class NewerSchema(ValueError):
    """The file was written by a newer version of this program."""


class Damaged(ValueError):
    """The file does not hold what was once written to it; the message begins with its path."""


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Calls `write(temporary)` on a file in the same folder, flushes it and renames it to `path`, which therefore holds
    the old or the new content, never half of one.

    Retries where the file system fails for a moment. Raises OSError naming `path` where it cannot be written.
    """
    retried(lambda: _write_once(path, write))


def _write_once(path: Path, write: Callable[[Path], object]) -> None:
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        temporary = Path(name)
        try:
            write(temporary)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.chmod(0o666 & ~UMASK)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        _flush_folder(path.parent)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


UMASK = _umask()
"""This process's umask, read once: reading it changes it for a moment, which other threads would notice."""


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sealed(data: dict[str, Any]) -> dict[str, Any]:
    """Returns `data` with its checksum."""
    return {**data, CHECKSUM: _checksum(data)}


def _checksum(data: dict[str, Any]) -> str:
    return hashlib.blake2b(canonical(data).encode(), digest_size=CHECKSUM_DIGITS // 2).hexdigest()


def _parsed(content: bytes) -> Any:
    """Returns what the JSON says: by the faster parser, or where it refuses by Python's, whose errors are known."""
    try:
        return from_json(content)
    except ValueError:
        return json.loads(content)


def _unsealed(content: bytes) -> dict[str, Any]:
    """Returns the object in `content` without its checksum. Raises ValueError where the checksum does not match."""
    data = _parsed(content)
    if not isinstance(data, dict):
        raise ValueError("no JSON object")
    if isinstance(schema := data.get("schema"), int) and schema > SCHEMA:
        raise NewerSchema(f"schema {schema}, this version reads up to {SCHEMA}; upgrade mixmae")
    last = next(reversed(data.values()), None)
    checksum = data.pop(CHECKSUM, None)
    if checksum is not None:
        if checksum != _checksum(data):
            raise ValueError("its checksum is another")
    elif isinstance(last, str):  # no older document ends in a string
        raise ValueError("its checksum has lost its name")
    return data


def document_of(data: dict[str, Any]) -> str:
    """Returns `data` as the text of a `.json` file."""
    return json.dumps(sealed({"schema": SCHEMA, **data}), indent=1, ensure_ascii=False) + "\n"


def write_json(path: Path, data: dict[str, Any]) -> None:
    text = document_of(data)
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def read_json(path: Path) -> dict[str, Any]:
    """Returns the document at `path`, without its checksum.

    Raises FileNotFoundError, Damaged where it is not what was written, or NewerSchema where a newer version wrote it.
    """
    content = retried(path.read_bytes)
    try:
        return _unsealed(content)
    except NewerSchema as error:
        raise NewerSchema(f"{path}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{path}: damaged ({error})") from error


def line_of(data: dict[str, Any]) -> str:
    """Returns `data` as one line of a `.jsonl` file."""
    return json.dumps(sealed(data)) + "\n"


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Returns the objects of a `.jsonl` file, one a line; none where there is no file. Ignores a half-written last
    line.

    Raises Damaged naming the line that is not what was written.
    """
    lines, damaged = whole_lines(path)
    if damaged:
        raise Damaged(f"{path}:{damaged[0]}: damaged; going on with the run, or running it anew, writes the file again")
    return lines


def whole_lines(path: Path) -> tuple[list[dict[str, Any]], list[int]]:
    """Returns the undamaged objects of a `.jsonl` file, and the line numbers, from 1, of the damaged ones."""
    try:
        content = retried(path.read_bytes)
    except FileNotFoundError:
        return [], []
    complete = content.split(b"\n")[:-1]
    if all(map(_is_plain_and_whole, complete)):
        return [_without_checksum(data) for data in _parsed(b"[" + b",".join(complete) + b"]")], []
    lines, damaged = [], []
    for number, line in enumerate(complete, start=1):
        try:
            lines.append(_unsealed(line))
        except ValueError:
            damaged.append(number)
    return lines, damaged


def _is_plain_and_whole(line: bytes) -> bool:
    """Whether `line` is undamaged, decided without parsing it, in a fifth of the time; False means "unknown".

    Where names and values are plain, the parts of the line, sorted and without spaces, are the text that was hashed. A
    line that holds lists, objects or texts with ", " or ": " needs parsing.
    """
    *parts, seal = line[1:-1].split(b", ")
    text = b"{" + b",".join(sorted(parts)) + b"}"
    if text.count(b": ") != len(parts) or not (line.startswith(b"{") and line.endswith(b"}")):
        return False
    checksum = hashlib.blake2b(text.replace(b": ", b":"), digest_size=CHECKSUM_DIGITS // 2).hexdigest()
    return seal == f'"{CHECKSUM}": "{checksum}"'.encode()


def _without_checksum(data: dict[str, Any]) -> dict[str, Any]:
    del data[CHECKSUM]
    return data


def sha256(path: Path) -> str:
    """Returns the SHA-256 of the file's content as 64 hex digits."""

    def digest() -> str:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    return retried(digest)
