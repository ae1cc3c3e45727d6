"""How times, memory and further options of sbatch are written, and what they come to (no torch)."""

import re
from typing import Any

from pydantic import StrictBool, StrictInt, StrictStr

from mixmae.fields.model import impossible

TIME = "write minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM or D-HH:MM:SS, such as 4:00:00 or 2-12:00:00"
MEMORY = "write a whole number and its unit, such as 64G or 900M (a node)"


def minutes(written: Any) -> int:
    """A time limit in whole minutes, rounded up as Slurm does: a number of minutes, or any of sbatch's forms in text
    ("90:00" is 90 minutes, "2-12" 60 hours). Raises PydanticCustomError."""
    if isinstance(written, bool) or not isinstance(written, int | str):
        raise impossible((), f"expected a time, found {written}; {TIME}")
    days, hyphen, rest = str(written).rpartition("-")
    parts = rest.split(":")
    if not re.fullmatch(r"(\d+-)?\d+(:\d+){0,2}", str(written), re.ASCII):
        raise impossible((), f"{written!r} is not a time of Slurm's; {_meant(str(written)) or TIME}")
    numbers = [int(part) for part in parts]
    if hyphen:
        hours, mins, seconds = (numbers + [0, 0])[:3]
    elif len(parts) == 3:
        hours, mins, seconds = numbers
    else:
        hours, mins, seconds = 0, *(numbers + [0])[:2]
    total = int(days or 0) * 86400 + hours * 3600 + mins * 60 + seconds
    if not total:
        raise impossible((), f"a limit of zero, which Slurm takes for none; {TIME}")
    return -(-total // 60)


def _meant(written: str) -> str | None:
    """What to write for 4h, 30m or 2d."""
    match = re.fullmatch(r"(\d+) ?(d|h|m|min|s)[a-z]*", written.strip(), re.ASCII)
    if not match or not int(match[1]):
        return None
    number = int(match[1])
    forms = {"d": f"{number}-00", "h": f"{number}:00:00", "m": f"{number}:00", "s": f"0:{number}"}
    return f"write {forms[match[2][0]]}"


def memory_text(written: Any) -> str:
    """Memory as sbatch takes it, in the largest unit that holds it whole: "65536M" is "64G"; "0" is all of the node's.
    Raises PydanticCustomError."""
    text = str(written)
    if text == "0" and not isinstance(written, bool):
        return text
    match = re.fullmatch(r"(\d+)([KMGT])B?", text, re.ASCII | re.IGNORECASE)
    if not match or not int(match[1]):
        raise impossible((), f"{written!r} is not an amount of memory; {MEMORY}, or 0 for all of the node")
    kib = int(match[1]) * 1024 ** "KMGT".index(match[2].upper())
    mib = -(-kib // 1024)
    for unit, size in (("T", 1024**2), ("G", 1024)):
        if mib % size == 0:
            return f"{mib // size}{unit}"
    return f"{mib}M"


OWNED = {
    "account": "account", "array": "max_running", "constraint": "constraint", "cpus-per-gpu": "cpus_per_gpu",
    "cpus-per-task": "cpus_per_task", "exclude": "exclude", "gpus": "gpus_per_node", "gpus-per-node": "gpus_per_node",
    "gres": "gpus_per_node", "mem": "memory", "nodes": "nodes", "ntasks": "tasks_per_node",
    "ntasks-per-node": "tasks_per_node", "partition": "partition", "qos": "qos", "signal": "signal_seconds",
    "time": "time",
}  # fmt: skip
"""sbatch's options that have a field here."""
OURS = (
    "dependency",
    "error",
    "hold",
    "kill-on-invalid-dep",
    "job-name",
    "no-requeue",
    "open-mode",
    "output",
    "parsable",
    "requeue",
    "wait",
)
"""sbatch's options that `grid run` sets itself."""

Pairs = tuple[tuple[str, StrictStr | StrictInt | StrictBool], ...]


def pairs(written: Any) -> Pairs:
    """A mapping as pairs, sorted by name, so that it can be hashed. Raises PydanticCustomError."""
    if not isinstance(written, dict):
        raise impossible((), "expected a mapping; write directives: {name: value}")
    options = []
    for name, value in written.items():
        key = name.removeprefix("--").replace("_", "-")
        if key in OWNED and not (key == "gres" and "gpu" not in str(value)):
            raise impossible((name,), f"has a field of its own; write {OWNED[key]}: … beside directives")
        if key in OURS:
            raise impossible((name,), "is set by grid run itself; leave it out")
        if not isinstance(value, str | int | bool):
            raise impossible((name,), f"expected text, a whole number or true, found {value}")
        if "\n" in str(value) or not re.fullmatch(r"[a-z][a-z0-9-]*", key):
            raise impossible((name,), "is no option of sbatch's; write its long name and a value in one line")
        options.append((key, value))
    return tuple(sorted(options))
