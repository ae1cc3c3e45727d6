"""The queue of the scripted Slurm: jobs and their elements in one JSON file, changed under a lock.

A job that is no array has the one element "". What the controller (squeue, scontrol) and what accounting (sacct) know
of an element is kept apart, since the two disagree on a real cluster: accounting knows nothing of a job that is held or
waits for another, keeps one record for every start, and never hears of a pending element that is cancelled alone.
"""

import fcntl
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ENDED = {
    "COMPLETED",
    "FAILED",
    "CANCELLED",
    "TIMEOUT",
    "OUT_OF_MEMORY",
    "NODE_FAIL",
    "PREEMPTED",
    "BOOT_FAIL",
    "DEADLINE",
}
REASONS = {"FAILED": "NonZeroExitCode", "TIMEOUT": "TimeLimit", "OUT_OF_MEMORY": "OutOfMemory", "NODE_FAIL": "NodeDown"}
EXITS = {"FAILED": "1:0", "OUT_OF_MEMORY": "0:125"}
BOTH = ("squeue", "sacct")


@contextmanager
def opened(folder: Path) -> Iterator[dict]:
    """The queue, held alone until the end of the block and written back then."""
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        path = folder / "queue.json"
        queue = json.loads(path.read_text())
        before = json.dumps(queue)
        yield queue
        if (after := json.dumps(queue)) != before:
            (folder / "queue.new").write_text(after)
            os.replace(folder / "queue.new", path)


def create(folder: Path) -> None:
    empty = {"next": 1, "max_array_size": 1001, "accounting": True, "faults": {}, "jobs": {}}
    (folder / "queue.json").write_text(json.dumps(empty))


def indices(text: str) -> list[int]:
    """`0-2,5` or `0-8:4`, without the cap on running ones."""
    found: list[int] = []
    for part in text.split(","):
        first, last, step = re.fullmatch(r"(\d+)(?:-(\d+)(?::(\d+))?)?", part).groups()
        found += range(int(first), int(last or first) + 1, int(step or 1))
    return found


def ranges(numbers: list[int]) -> str:
    """The other way round: [0, 1, 2, 5] is `0-2,5`."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


def add(queue: dict, options: dict[str, str], script: str, directory: str) -> dict:
    """Raises ValueError for an array that Slurm would refuse."""
    array, _, cap = options.get("array", "").partition("%")
    names = [str(index) for index in indices(array)] if array else [""]
    if array and int(names[-1]) >= queue["max_array_size"]:
        raise ValueError("Invalid job array specification")
    number = queue["next"]
    queue["next"] += 1
    reason = "JobHeldUser" if "hold" in options else "Dependency" if "dependency" in options else "None"
    element = dict(state="PENDING", reason=reason, node="", exit="0:0", raw=None, restarts=0, records=[])
    element["dependency"] = options.get("dependency")
    elements = {name: {**element, "records": []} for name in names}
    job = dict(id=number, options=options, script=script, directory=directory, cap=cap, elements=elements)
    job["registered"] = []
    queue["jobs"][str(number)] = job
    register(job)
    return job


def untouched(job: dict) -> list[str]:
    """The elements of an array that are still one group for the controller."""
    return [name for name, element in job["elements"].items() if name and element["raw"] is None]


def register(job: dict) -> None:
    """Accounting hears of what could start: an array's rest, also where it is held, as one row, all else as a record of
    its own."""
    able = ("None", "Priority")
    together, pending = untouched(job), {n: e for n, e in job["elements"].items() if e["state"] == "PENDING"}
    if all(name in pending and pending[name]["reason"] in (*able, "JobHeldUser") for name in together):
        job["registered"] = together
    for name, element in pending.items():
        if name not in together and element["reason"] in able and not element["records"]:
            element["records"].append(dict(state="PENDING", node="None assigned", exit="0:0"))


def split(queue: dict, job: dict, element: dict) -> None:
    """An array's element gets a job id of its own when it is touched; the last pending one keeps the array's."""
    others = [e for e in job["elements"].values() if e is not element and e["raw"] is None]
    if element["raw"] is None:
        element["raw"] = queue["next"] if others else job["id"]
        queue["next"] += bool(others)


def change(queue: dict, job: dict, name: str, state: str, node: str, reason: str, exit: str, seen_by=BOTH) -> None:
    """A new state of one element; records follow as on a real cluster."""
    element = job["elements"][name]
    last = element["records"][-1]["state"] if element["records"] else None
    if state != "PENDING":
        split(queue, job, element)
        job["registered"] = untouched(job) if job["registered"] else []
    if "squeue" in seen_by:
        if state == "PENDING" and element["state"] != "PENDING":
            element["restarts"] += 1
        element |= dict(state=state, node="" if state == "PENDING" else node, reason=reason, exit=exit)
    if "sacct" in seen_by:
        named = "CANCELLED by 0" if state == "CANCELLED" else state
        record = dict(state=named, node=node or "None assigned", exit=exit)
        if state == "PENDING":
            if last == "RUNNING":
                element["records"][-1]["state"] = "REQUEUED"
            if element["records"]:
                element["records"].append(record | {"node": "None assigned"})
        elif last in ("RUNNING", "PENDING"):
            element["records"][-1] = record
        else:
            element["records"].append(record)


def cancel(queue: dict, job: dict, names: list[str], alone: bool) -> None:
    """A pending element cancelled alone vanishes, and accounting goes on listing it as pending in its array's row."""
    if not alone and not job["registered"]:
        job["registered"] = untouched(job)
    for name in names:
        element = job["elements"][name]
        if element["state"] in ENDED:
            continue
        if name and element["raw"] is None and alone:
            del job["elements"][name]
        elif name and element["raw"] is None:
            element["state"] = "CANCELLED"
        else:
            change(queue, job, name, "CANCELLED", element["node"], "None", "0:0")


def label(job: dict, name: str) -> str:
    return f"{job['id']}_{name}" if name else str(job["id"])


def group_label(job: dict, names: list[str]) -> str:
    cap = f"%{job['cap']}" if job["cap"] else ""
    return f"{job['id']}_[{ranges([int(name) for name in names])}{cap}]"


def chosen(queue: dict, text: str) -> list[tuple[dict, list[str], bool]]:
    """Jobs and elements that `12`, `12_3`, `12_[0-2,5]` and lists of these name; true where single elements are named.

    Unknown ones are left out.
    """
    found = []
    for part in re.findall(r"(\d+)(?:_(?:\[([^\]]*)\]|(\d+)))?", text):
        number, many, one = part
        job = queue["jobs"].get(number)
        named = many or one
        if job is None:
            job = next(
                (j for j in queue["jobs"].values() for e in j["elements"].values() if str(e["raw"]) == number), None
            )
            names = [n for n, e in job["elements"].items() if str(e["raw"]) == number] if job else []
        elif named:
            names = [str(i) for i in indices(named) if str(i) in job["elements"]]
        else:
            names = list(job["elements"])
        if names:
            found.append((job, names, bool(named)))
    return found
