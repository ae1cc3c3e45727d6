"""What became of one run: its folder, its traceback, its Slurm task and what to do next; and its log (no torch).

All that is asked of Slurm is one call of squeue and one of sacct.
"""

import os
import re
import shlex
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ablations.plan.launched import grid_folder
from ablations.slurm.policy import in_the_queue
from ablations.slurm.submissions import Submission, submissions
from mixmae.experiment.jobs import start_of
from mixmae.fields.identity import Key
from mixmae.files.records import Damaged, read_json
from mixmae.presentation.row import Flat, chain_of, row_of, stage_label
from mixmae.runs.folder import RunFolder, default_root
from mixmae.runs.locks import is_locked
from mixmae.runs.scheduler import NoAnswer, accounted
from mixmae.runs.state import RunState, run_state

Document = dict[str, Any]
"""Plain data, as it is printed with --json."""

FRAMES = 3
"""How many frames of a traceback are shown: the innermost ones."""
LINES = 8
"""How many lines are shown of an error's message, and of a Slurm log's end."""
TAIL_BYTES = 256 * 1024
LOOK_S = 1.0
ASK_S = 15.0
"""How often a log that is followed is looked at, and Slurm asked about its run."""
UNDER_WAY = ("running", "waiting", "pending")
ADVICE = {
    "Resources": "no node is free yet",
    "Priority": "others come first",
    "Dependency": "its pretraining has not ended",
    "DependencyNeverSatisfied": "its pretraining's task ended badly",
    "JobHeldUser": "on hold: its launch died half-way",
    "JobArrayTaskLimit": "as many tasks of the array run as may at once",
    "BeginTime": "put back into the queue a moment ago",
    "PartitionTimeLimit": "it asks for more time than the partition grants",
    "ReqNodeNotAvail": "the nodes it needs are down or reserved",
    "AssocGrpGRES": "your account's share of GPUs is in use",
    "QOSMaxJobsPerUserLimit": "as many of your jobs run as may at once",
}
"""What squeue's reasons mean."""
HINTS = {
    "OUT_OF_MEMORY": "out of memory: ask for more first (resources.slurm.memory in the grid's file)",
    "TIMEOUT": "its time limit came: it goes on from what it saved; a longer resources.slurm.time saves starts",
}
"""What to do, by the state that accounting gives."""
LAST_SIGNAL = 64
"""What Slurm writes in a signal's place beyond it, such as 125 for out of memory, is none."""
STAMP = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),\d{3} ([A-Z]+) ?(.*)")


def explain(root: Path, run: RunFolder) -> Document:
    """All that is known of the run, as plain data. Raises ValueError where its config.json is missing or damaged."""
    chain = _chain(run)
    entry, needs = chain[0], chain[1] if len(chain) > 1 else None
    grid = _grid(root, run)
    launch, written = _read(run, "launch"), _read(run, "state")
    submission = submissions(root).get(launch["submission"]) if grid and "submission" in launch else None
    run_states = in_the_queue(root, chain[::-1], _standing(chain)) if submission else _standing(chain)
    state = run_states[entry.key]
    trace = last_traceback(_tail(run.path / "log.txt")) if state.state not in ("done", "cancelled") else None
    document: Document = {
        "schema": 1,
        **{"id": run.id, "stage": run.stage, "method": entry.method, "encoder": entry.encoder, "grid": grid},
        **state.__dict__,
        "pid": written.get("pid"),
        "asked_for": launch.get("tries", 0),
        "log": _where(run.path / "log.txt"),
        "traceback": trace,
        "slurm": _slurm(grid_folder(root, grid), submission, launch["task"]) if grid and submission else None,
        "needs": {"id": needs.run.id, "stage": needs.run.stage, **_short(run_states[needs.key])} if needs else None,
    }
    silent = trace is None or launch.get("tries", 0) > state.tries
    if document["slurm"] and silent and state.state not in ("done", "running", "cancelled"):
        document["slurm"]["log_end"] = _end_of(document["slurm"]["log"])
    return {**document, "next": _next(root, document)}


@dataclass(frozen=True)
class Known:
    """A run by its folder alone, with what `ablations.plan.plan.Entry` says of one that a grid names. Plug-ins that it
    needs are not imported."""

    run: RunFolder
    row: Flat
    needs: Key | None

    @property
    def key(self) -> Key:
        return self.run.stage, self.run.id

    @property
    def method(self) -> str:
        return str(self.row["method"])

    @property
    def encoder(self) -> str | None:
        return self.row.get("encoder.name")


def _chain(run: RunFolder) -> list[Known]:
    """The run, then those that it goes back to, nearest first. Raises ValueError where its config.json is missing."""
    if run.read("config") is None:
        raise ValueError(f"{run.path / 'config.json'}: missing; mixmae run or mixmae grid run writes it anew")
    jobs = chain_of(_job(run) or {}, lambda key: _job(RunFolder(run.root, *key)))
    chain, at = [], run
    for number, job in enumerate(jobs):
        start = start_of(job)
        chain.append(Known(at, row_of(jobs[number:]), start if number + 1 < len(jobs) else None))
        at = RunFolder(run.root, *start) if start else at
    return chain


def _job(run: RunFolder) -> Document | None:
    config = run.read("config")
    return config and config["job"]


def _standing(chain: list[Known]) -> dict[Key, RunState]:
    """The state of each run, by their folders."""
    run_states: dict[Key, RunState] = {}
    for known in reversed(chain):
        needs = (run_states.get(known.needs), stage_label(known.needs[0])) if known.needs else (None,)
        run_states[known.key] = run_state(known.run, *needs)
    return run_states


def _grid(root: Path, run: RunFolder) -> str | None:
    """The grid that submitted it last, else the first that launched it."""
    if submission := _read(run, "launch").get("submission"):
        for path in root.glob(f"grids/*/submissions/{submission}.json"):
            return path.parents[1].name
    return next((name for name, runs in launched(root).items() if (run.stage, run.id) in runs), None)


def launched(root: Path) -> dict[str, set[Key]]:
    """The runs that each grid has launched, by the grid's name; of one that died on the way, what it was about to
    submit. Raises Damaged."""
    grids: dict[str, set[Key]] = {}
    try:
        for path in sorted((root / "grids").glob("*.json")):
            grids[path.stem] = {(stage, id) for stage, id in read_json(path)["launched"]}
        for path in sorted((root / "grids").glob("*/submissions/*.json")):
            tasks = read_json(path)["tasks"]
            grids.setdefault(path.parents[1].name, set()).update((stage, id) for runs in tasks for stage, id in runs)
    except Damaged as error:
        raise Damaged(f"{error}; mixmae grid run writes it anew, a record of a submission can be removed") from None
    return grids


def _read(run: RunFolder, name: str) -> Document:
    """A document of the run; {} where it is missing or damaged, which the run's state says."""
    try:
        return run.read(name) or {}
    except Damaged:
        return {}


def _short(state: RunState) -> Document:
    return {"state": state.state, "reason": state.reason}


def _where(path: Path) -> str | None:
    return str(path) if path.exists() else None


# ------------------------------------------------------------------------------------------------------------- log.txt


def last_traceback(text: str) -> Document | None:
    """{"time", "lines"}: the innermost frames of the last traceback in a log, and its error; None without one."""
    lines = text.splitlines()
    starts = [number for number, line in enumerate(lines) if line.endswith("Traceback (most recent call last):")]
    if not starts:
        return None
    stamp = STAMP.fullmatch(lines[starts[-1]])
    body = []
    for line in lines[starts[-1] + 1 :]:
        stamped = STAMP.fullmatch(line)
        if stamped and stamped[2] != "ERROR":
            break
        body.append(stamped[3] if stamped else line)
    frames = [number for number, line in enumerate(body) if line.lstrip().startswith('File "')]
    error = next((n for n in range(frames[-1] + 1 if frames else 0, len(body)) if not body[n].startswith(" ")), None)
    end = len(body) if error is None else min(error + LINES, len(body))
    return {"time": stamp[1] if stamp else None, "lines": body[frames[-FRAMES:][0] if frames else 0 : end]}


def _tail(path: Path) -> str:
    """The file's last TAIL_BYTES; "" where there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            return file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""


def _end_of(path: str | None) -> list[str]:
    return _tail(Path(path)).splitlines()[-LINES:] if path else []


# --------------------------------------------------------------------------------------------------------------- Slurm


def _slurm(folder: Path, submission: Submission, number: int) -> Document:
    if submission.job is None:
        return {"task": None, "accounting": None, "said": "its launch died before sbatch answered", "log": None}
    task = submission.task(number)
    try:
        ended = accounted([submission.job]).get(task)
        said = None if ended else "accounting knows nothing of it (yet)"
    except NoAnswer as error:
        ended, said = None, f"no accounting: {error}"
    logs = sorted((folder / "submitit").glob(f"{task}_[0-9]*_log.out"))
    return {"task": task, "accounting": ended and asdict(ended), "said": said, "log": str(logs[0]) if logs else None}


# ---------------------------------------------------------------------------------------------------------------- next


def _next(root: Path, document: Document) -> list[str]:
    """Commands, in the order to give them; [] where there is nothing to do but wait, or all is done."""
    first = "mixmae" if root == default_root().resolve() else shlex.join(["mixmae", "--root", str(root)])
    if document["grid"]:
        slurm = " --executor slurm" if document["slurm"] else ""
        retry, start = f"{first} grid retry {document['grid']}.yaml", f"{first} grid run {document['grid']}.yaml{slurm}"
    else:
        retry, start = None, f"{first} run EXPERIMENT"
    match document["state"]:
        case "failed":
            return [command for command in (retry, start) if command]
        case "blocked":
            return [f"{first} grid why {document['needs']['id'][:8]}"]
        case "stopped" if _accounted_state(document) == "OUT_OF_MEMORY" and retry:
            return [start, retry, start]  # the first finds that it has failed
        case "planned" | "stopped" | "cancelled":
            return [start]
        case "running":
            return [f"{first} grid logs {document['id'][:8]} --follow"]
        case "pending" if document["queued"] == "JobHeldUser" or not _will_start(root, document):
            return [start]
        case "waiting" if document["needs"]["state"] not in UNDER_WAY:
            return [start]
    return []


def _accounted_state(document: Document) -> str | None:
    accounting = document["slurm"]["accounting"] if document["slurm"] else None
    return str(accounting["state"]) if accounting else None


def _will_start(root: Path, document: Document) -> bool:
    """Whether its task is in the queue, or a launcher of this machine will come to it."""
    if document["slurm"]:
        return document["slurm"]["task"] is not None
    return bool(document["grid"]) and is_locked(grid_folder(root, document["grid"]) / "launcher.lock")


# ----------------------------------------------------------------------------------------------------------- for people


def lines(document: Document) -> list[str]:
    """What `explain` returned, in a few lines for people."""
    title = (document["stage"], document["id"], document["method"], document["encoder"])
    reason = document["reason"]
    why = f": {reason}" if reason else ""
    if document["queued"] in ADVICE:
        why += f" ({ADVICE[document['queued']]})"
    made = [f"{' '.join(word for word in title if word)}: {document['state']}{why}", *_progress(document)]
    if needs := document["needs"]:
        why = f": {needs['reason']}" if needs["reason"] else ""
        made.append(f"{stage_label(needs['stage'])} {needs['id']}: {needs['state']}{why}")
    if slurm := document["slurm"]:
        made += _slurm_lines(slurm)
    if trace := document["traceback"]:
        at = f" ({trace['time']})" if trace["time"] else ""
        made += [f"the end of the last traceback{at}, of {document['log']}:", *(f"  {line}" for line in trace["lines"])]
    if document["state"] in ("stopped", "failed") and (hint := HINTS.get(_accounted_state(document) or "")):
        made.append(hint)
    if document["next"]:
        return [*made, f"next: {' && '.join(document['next'])}"]
    return [*made, "next: nothing, it is done" if document["state"] == "done" else "next: nothing, it starts by itself"]


def _progress(document: Document) -> list[str]:
    if not document["tries"]:
        return [f"never started (asked for {document['asked_for']} times)"]
    epoch = f", epoch {document['epoch'] or 0} of {document['epochs']}" if document["epochs"] else ""
    process = f", process {document['pid']}" if document["pid"] else ""
    return [f"started {document['tries']} of {document['asked_for']} times, last on {document['node']}{process}{epoch}"]


def _slurm_lines(slurm: Document) -> list[str]:
    if ended := slurm["accounting"]:
        by = f", killed by signal {ended['signal']}" if 0 < ended["signal"] <= LAST_SIGNAL else ""
        by = by or (f", exit code {ended['code']}" if not ended["signal"] else "")
        said = f"{ended['state']}{by}" + (f", on {ended['node']}" if ended["node"] else "")
    else:
        said = slurm["said"]
    made = [f"Slurm task {slurm['task'] or '(none)'}: {said}"]
    if slurm["log"]:
        made.append(f"Slurm log: {slurm['log']}" + (", which ends:" if slurm.get("log_end") else ""))
        made += [f"  {line}" for line in slurm.get("log_end", ())]
    elif slurm["task"]:
        made.append("Slurm log: not written (yet)")
    return made


# ----------------------------------------------------------------------------------------------------------- following


class Growing:
    """A file that grows, is cut short or replaced, or does not exist yet."""

    def __init__(self, path: Path):
        self._path = path
        self._inode: int | None = None
        self._offset = 0

    def new(self) -> bytes:
        """What was added since the last call; all of it where another file is in its place."""
        try:
            with self._path.open("rb") as file:
                now = os.fstat(file.fileno())
                if now.st_ino != self._inode or now.st_size < self._offset:
                    self._inode, self._offset = now.st_ino, 0
                file.seek(self._offset)
                added = file.read()
        except FileNotFoundError:
            return b""
        self._offset += len(added)
        return added


def follow_log(run: RunFolder, write: Callable[[bytes], None]) -> None:
    """Writes the run's log, and what is added to it, until the run neither runs nor waits."""
    log, under_way = Growing(run.path / "log.txt"), UnderWay(run)
    while True:
        goes_on = under_way()  # asked first, so that the last lines are not missed
        if added := log.new():
            write(added)
        if not goes_on:
            return
        time.sleep(LOOK_S)


class UnderWay:
    """Whether a run runs or waits. Slurm, which puts a stopped run back into its queue, is only asked now and then."""

    def __init__(self, run: RunFolder):
        self._chain = _chain(run)
        self._run = run
        self._asked_at, self._answer = -ASK_S, True

    def __call__(self) -> bool:
        standing, key = _standing(self._chain), self._chain[0].key
        state = standing[key].state
        if state in ("running", "done", "failed", "cancelled") or not _read(self._run, "launch").get("submission"):
            return state in UNDER_WAY
        if time.monotonic() - self._asked_at >= ASK_S:
            run_states = in_the_queue(self._run.root, self._chain[::-1], standing)
            self._asked_at, self._answer = time.monotonic(), run_states[key].state in UNDER_WAY
        return self._answer
