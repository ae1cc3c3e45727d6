"""sbatch, squeue, sacct, scontrol, scancel, sinfo and srun of the scripted Slurm: program.py FOLDER NAME ARGUMENT...

Formats, columns and messages are those of Slurm 22.05. What is not understood is an error, never ignored.
"""

import json
import os
import re
import shlex
import sys
import time
from pathlib import Path

from options import Options, Refused, options_of
from state import ENDED, add, cancel, change, chosen, group_label, label, opened, register, split, untouched

COMPACT = {"PENDING": "PD", "RUNNING": "R", "COMPLETED": "CD", "FAILED": "F", "CANCELLED": "CA", "TIMEOUT": "TO"}
COMPACT |= {"OUT_OF_MEMORY": "OOM", "NODE_FAIL": "NF", "PREEMPTED": "PR", "COMPLETING": "CG", "CONFIGURING": "CF"}
SQUEUE = {  # letter of --format: name in --Format, heading
    "i": ("JobArrayID", "JOBID"),
    "A": ("JobID", "JOBID"),
    "F": ("ArrayJobID", "ARRAY_JOB_ID"),
    "K": ("ArrayTaskID", "ARRAY_TASK_ID"),
    "T": ("State", "STATE"),
    "t": ("StateCompact", "ST"),
    "r": ("Reason", "REASON"),
    "R": ("ReasonList", "NODELIST(REASON)"),
    "N": ("NodeList", "NODELIST"),
    "P": ("Partition", "PARTITION"),
    "j": ("Name", "NAME"),
    "l": ("TimeLimit", "TIME_LIMIT"),
    "E": ("Dependency", "DEPENDENCY"),
    "D": ("NumNodes", "NODES"),
    "u": ("UserName", "USER"),
    "k": ("Comment", "COMMENT"),
    "M": ("TimeUsed", "TIME"),
}
WIDTHS = {"JobID": -12, "ExitCode": 8}
PARTITIONS = {"low*": "infinite", "spot": "1-00:00:00", "high": "infinite"}


# sbatch


def sbatch(folder: Path, words: list[str], script: str) -> str:
    options, rest = options_of(words)
    directives: dict[str, str] = {}
    for line in script.splitlines():
        if line.startswith("#SBATCH "):
            directives |= options_of(shlex.split(line[8:]))[0]
    options = directives | options
    try:
        with opened(folder) as queue:
            job = add(queue, options, script, options.get("chdir", os.getcwd()))
    except ValueError as problem:
        raise Refused(f"sbatch: error: Batch job submission failed: {problem}") from problem
    return str(job["id"]) if "parsable" in options else f"Submitted batch job {job['id']}"


def script_of(words: list[str]) -> str:
    options, rest = options_of(words)
    if "wrap" in options:
        return f"#!/bin/sh\n# This script was created by sbatch --wrap.\n\n{options['wrap']}\n"
    if not rest:
        return sys.stdin.read()
    if not os.path.isfile(rest[0]):
        raise Refused(f"sbatch: error: Unable to open file {rest[0]}")
    return Path(rest[0]).read_text()


# squeue


def minutes(limit: str | None) -> str:
    """How squeue writes the time limit: 90 is 1:30:00."""
    if limit is None:
        return "UNLIMITED"
    if not limit.isdigit():
        return limit
    days, rest = divmod(int(limit), 24 * 60)
    hours, left = divmod(rest, 60)
    clock = f"{hours:02}:{left:02}:00" if days else f"{hours}:{left:02}:00" if hours else f"{left}:00"
    return f"{days}-{clock}" if days else clock


def name_of(job: dict) -> str:
    wrapped = "wrap" if "wrap" in job["options"] else "sbatch"
    return job["options"].get("job-name") or wrapped


def squeue_row(job: dict, names: list[str], one_by_one: bool) -> dict[str, str]:
    options, element = job["options"], job["elements"][names[0]]
    group = bool(names[0]) and element["raw"] is None and not one_by_one
    identity = group_label(job, names) if group else label(job, names[0])
    pending, state = element["state"] == "PENDING", element["state"]
    raw, reason = str(element["raw"] or job["id"]), element["reason"]
    at_once = sum(other["state"] == "RUNNING" for other in job["elements"].values())
    if pending and reason == "None" and job["cap"] and at_once >= int(job["cap"]):
        reason = "JobArrayTaskLimit"
    return dict(
        JobArrayID=identity,
        JobID=raw,
        ArrayJobID=str(job["id"]) if names[0] else raw,
        ArrayTaskID=identity.partition("_")[2].strip("[]") or "N/A",
        State=state,
        StateCompact=COMPACT[state],
        Reason=reason,
        ReasonList=f"({reason})" if pending else element["node"],
        NodeList=element["node"],
        Partition=options.get("partition", "low"),
        Name=name_of(job),
        TimeLimit=minutes(options.get("time")),
        Dependency=f"{element['dependency']}(unfulfilled)" if element["dependency"] else "(null)",
        NumNodes=options.get("nodes", "1"),
        UserName="root",
        Comment=options.get("comment", "(null)"),
        TimeUsed="0:00",
    )


def fitted(value: str, right: str, width: str, default: int | None) -> str:
    size = int(width) if width else default
    if size is None:
        return value
    return value[:size].rjust(size) if right else value[:size].ljust(size)


def by_letters(text: str, row: dict[str, str]) -> str:
    def one(match: re.Match) -> str:
        right, width, letter = match.groups()
        if letter not in SQUEUE:
            raise Refused(f"squeue: error: %{letter} is not known to the scripted squeue")
        return fitted(row[SQUEUE[letter][0]], right, width, None)

    return re.sub(r"%(\.?)(\d*)([A-Za-z])", one, text)


def by_names(text: str, row: dict[str, str]) -> str:
    known, line = {name.lower(): name for name in row}, ""
    for field in text.split(","):
        name, _, form = field.partition(":")
        if name.lower() not in known:
            raise Refused(f"squeue: error: Invalid job format specification: {name}")
        right, width, suffix = re.fullmatch(r"(\.?)(\d*)(.*)", form).groups()
        line += fitted(row[known[name.lower()]], right, width, None if suffix else 20) + suffix
    return line


def squeue(folder: Path, words: list[str]) -> str:
    parser = Options(("h", "noheader"), ("r", "array"), ("a", "all"), o="format", O="Format", j="jobs")
    asked = parser.extended(t="states", u="user", n="name", p="partition", S="sort").parse(words)
    with opened(folder) as queue:
        jobs = [(job, list(job["elements"]), False) for job in queue["jobs"].values()]
        if asked.jobs:
            jobs = chosen(queue, asked.jobs)
            if not jobs and "," not in asked.jobs:
                raise Refused("slurm_load_jobs error: Invalid job id specified")
        rows = [squeue_row(job, names, asked.array) for job, names in groups(jobs, asked.array)]
    states = (asked.states or "").upper().split(",")
    if states == [""]:
        rows = [row for row in rows if row["State"] not in ENDED]
    elif states != ["ALL"]:
        rows = [row for row in rows if row["State"] in states or row["StateCompact"] in states]
    for name, wanted in (("Name", asked.name), ("Partition", asked.partition), ("UserName", asked.user)):
        rows = [row for row in rows if not wanted or row[name] in wanted.split(",")]
    lines = list(rows) if asked.noheader else [dict(SQUEUE.values()), *rows]
    if asked.Format:
        return "\n".join(by_names(asked.Format, row) for row in lines)
    form = asked.format or "%.18i %.9P %.8j %.8u %.2t %.10M %.6D %R"
    return "\n".join(by_letters(form, row) for row in lines)


def groups(jobs: list, one_by_one: bool) -> list[tuple[dict, list[str]]]:
    """Elements of an array that were never touched make one row, unless each is asked for."""
    found = []
    for job, names, _ in jobs:
        together = [] if one_by_one else [n for n in names if n and job["elements"][n]["raw"] is None]
        found += [(job, together)] if together else []
        found += [(job, [name]) for name in names if name not in together]
    return found


# sacct


def sacct_rows(job: dict, names: list[str], alone: bool, duplicates: bool) -> list[dict[str, str]]:
    rows, common = [], dict(Reason="None", Partition=job["options"].get("partition", "low"), JobName=name_of(job))
    for name in names:
        element, identity = job["elements"][name], label(job, name)
        for record in element["records"] if duplicates else element["records"][-1:]:
            row = common | dict(NodeList=record["node"], ExitCode=record["exit"], State=record["state"])
            raw = str(element["raw"] or job["id"])
            rows.append(row | dict(JobID=identity, JobIDRaw=raw))
            if record["node"] != "None assigned":
                step = dict(JobID=f"{identity}.batch", JobIDRaw=f"{raw}.batch", JobName="batch", Partition="")
                rows.append(row | step | dict(State=record["state"].split()[0]))
    if job["registered"] and not alone:
        ended = [job["elements"][name]["state"] == "CANCELLED" for name in untouched(job)]
        state = "CANCELLED by 0" if ended and all(ended) else "PENDING"
        group = dict(JobID=group_label(job, job["registered"]), JobIDRaw=str(job["id"]), State=state)
        rows.append(common | group | dict(NodeList="None assigned", ExitCode="0:0"))
    return rows


def sacct(folder: Path, words: list[str]) -> str:
    parser = Options(
        ("n", "noheader"), ("X", "allocations"), ("D", "duplicates"), ("P", "parsable2"), ("p", "parsable")
    )
    asked = parser.extended(o="format", j="jobs", S="starttime", E="endtime", u="user", s="state").parse(words)
    with opened(folder) as queue:
        if not queue["accounting"]:
            raise Refused("Slurm accounting storage is disabled")
        jobs = chosen(queue, asked.jobs) if asked.jobs else chosen(queue, ",".join(queue["jobs"]))
    rows = [row for job, names, alone in jobs for row in sacct_rows(job, names, alone, asked.duplicates)]
    rows = [row for row in rows if not (asked.allocations and "." in row["JobID"])]
    fields = [field.partition("%") for field in (asked.format or "JobID,JobName,Partition,State,ExitCode").split(",")]
    known = {
        n.lower(): n for n in ("JobID", "JobIDRaw", "JobName", "Partition", "State", "ExitCode", "NodeList", "Reason")
    }
    for name, _, _ in fields:
        if name.lower() not in known:
            raise Refused(f'sacct: error: Invalid field requested: "{name}"')
    columns = [known[name.lower()] for name, _, _ in fields]
    heads = [] if asked.noheader else [dict(zip(columns, columns, strict=True))]
    if asked.parsable2 or asked.parsable:
        return "\n".join("|".join(line[c] for c in columns) + "|" * asked.parsable for line in heads + rows)
    widths = [int(width or WIDTHS.get(name, 10)) for name, (_, _, width) in zip(columns, fields, strict=True)]
    rules = [" ".join("-" * abs(width) for width in widths) + " "] if heads else []
    table = ["".join(padded(line[c], w) + " " for c, w in zip(columns, widths, strict=True)) for line in heads + rows]
    return "\n".join(table[: len(heads)] + rules + table[len(heads) :])


def padded(value: str, width: int) -> str:
    """A value that is too long ends in a plus sign; a negative width is on the left."""
    size = abs(width)
    value = value if len(value) <= size else value[: size - 1] + "+"
    return value.ljust(size) if width < 0 else value.rjust(size)


# scontrol, scancel, sinfo, srun


def scontrol(folder: Path, words: list[str]) -> str:
    one_line = bool({"-o", "--oneliner"} & set(words))
    verb, *rest = [word for word in words if word not in ("-o", "--oneliner")]
    with opened(folder) as queue:
        if verb == "ping":
            return "Slurmctld(primary) at localhost is UP"
        if verb == "show" and rest[0].lower() == "config":
            kind = "accounting_storage/slurmdbd" if queue["accounting"] else "accounting_storage/none"
            values = dict(AccountingStorageType=kind, ClusterName="scripted", MaxArraySize=queue["max_array_size"])
            return "\n".join(f"{name:<23} = {value}" for name, value in values.items())
        if verb == "show" and rest[0].lower() in ("job", "jobs"):
            return show_jobs(queue, rest[1], "\n" if not one_line else " ")
        values = dict(word.split("=", 1) for word in rest if "=" in word)
        values = {name.lower(): value for name, value in values.items()}
        if verb not in ("update", "hold", "release", "requeue"):
            raise Refused(f"invalid keyword: {verb}")
        for text in (values.pop("jobid") if verb == "update" else rest[0]).split(","):
            act(queue, verb, text, values)
    return ""


def show_jobs(queue: dict, text: str, joint: str) -> str:
    found = chosen(queue, text)
    if not found:
        raise Refused("slurm_load_jobs error: Invalid job id specified")
    lines = []
    for job, names in groups(found, False):
        element, row = job["elements"][names[0]], squeue_row(job, names, False)
        fields = dict(JobId=row["JobID"])
        if names[0]:
            fields |= dict(ArrayJobId=row["ArrayJobID"], ArrayTaskId=row["ArrayTaskID"])
        fields |= dict(JobName=row["Name"], JobState=row["State"], Reason=row["Reason"], Dependency=row["Dependency"])
        requeue = "0" if "no-requeue" in job["options"] else "1"
        fields |= dict(Requeue=requeue, Restarts=element["restarts"], ExitCode=element["exit"])
        fields |= dict(Partition=row["Partition"], NodeList=row["NodeList"], WorkDir=job["directory"])
        lines.append(joint.join(f"{name}={value}" for name, value in fields.items()))
    return "\n".join(lines)


def act(queue: dict, verb: str, text: str, values: dict[str, str]) -> None:
    found = chosen(queue, text)
    if not found:
        raise Refused(
            f"{text}: Invalid job id specified" if "_" in text else f"Invalid job id specified for job {text}"
        )
    for job, names, alone in found:
        for name in names:
            element = job["elements"][name]
            if alone and verb != "requeue":
                split(queue, job, element)
            if verb == "update":
                if element["state"] != "PENDING":
                    raise Refused(f"{label(job, name)}: Job is no longer pending execution")
                if unknown := set(values) - {"dependency"}:
                    raise Refused(f"Update of this parameter is not supported: {', '.join(unknown)}")
                element["dependency"] = values["dependency"] or None
                held = element["reason"].startswith("JobHeld")
                element["reason"] = element["reason"] if held else "Dependency" if values["dependency"] else "None"
            elif verb == "requeue":
                if element["state"] == "PENDING":
                    raise Refused(f"{label(job, name)}: Job is pending execution")
                change(queue, job, name, "PENDING", "", "BeginTime", "0:0")
            elif element["state"] == "PENDING":
                free = "Dependency" if element["dependency"] else "None"
                element["reason"] = "JobHeldUser" if verb == "hold" else free
        register(job)


def scancel(folder: Path, words: list[str]) -> str:
    parser = Options(("b", "batch"), ("f", "full"), ("Q", "quiet"), s="signal", u="user", n="name", t="state")
    asked, ids = parser.parse_with_rest(words)
    with opened(folder) as queue:
        found = chosen(queue, ",".join(ids))
        if not ids and (asked.user or asked.me or asked.name):
            found = chosen(queue, ",".join(queue["jobs"]))
        if asked.signal:
            return ""
        for job, names, alone in found:
            wanted = [n for n in names if not asked.state or job["elements"][n]["state"] == asked.state.upper()]
            if not asked.name or squeue_row(job, names, True)["Name"] == asked.name:
                cancel(queue, job, wanted, alone)
    return ""


def sinfo(folder: Path, words: list[str]) -> str:
    asked = Options(("h", "noheader"), ("N", "Node"), o="format", p="partition", n="nodes").parse(words)
    nodes = ["n1", "n2", "n3"] if asked.Node else ["n[1-3]"]
    heads = dict(P="PARTITION", a="AVAIL", l="TIMELIMIT", D="NODES", T="STATE", t="STATE", N="NODELIST", G="GRES")
    heads |= dict(c="CPUS", m="MEMORY")
    rows = [] if asked.noheader else [heads]
    for node in nodes:
        for name, limit in PARTITIONS.items():
            if (not asked.partition or name.strip("*") in asked.partition.split(",")) and (
                not asked.nodes or node in asked.nodes.split(",")
            ):
                count = "1" if asked.Node else "3"
                row = dict(P=name, a="up", l=limit, D=count, T="idle", t="idle", N=node, G="gpu:2", c="4", m="4000")
                rows.append(row)
    form = asked.format or "%9P %.5a %.10l %.6D %.6t %N"
    return "\n".join(
        re.sub(r"%(\.?)(\d*)([A-Za-z])", lambda m, row=row: fitted(row[m[3]], m[1], m[2], None), form) for row in rows
    )


def srun(folder: Path, words: list[str]) -> str:
    """The command itself, once, its output where srun would put it."""
    options, command = options_of(words)
    sys.stdout.flush()
    for name, stream in (("output", 1), ("error", 2)):
        if name in options:
            array, index = os.environ.get("SLURM_ARRAY_JOB_ID", ""), os.environ.get("SLURM_ARRAY_TASK_ID", "")
            path = options[name].replace("%A", array).replace("%a", index).replace("%t", "0")
            target = os.open(path.replace("%j", os.environ["SLURM_JOB_ID"]), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(target, stream)
    task = dict(SLURM_PROCID="0", SLURM_LOCALID="0", SLURM_NODEID="0", SLURM_NTASKS="1", SLURM_STEP_ID="0")
    os.execvpe(command[0], command, os.environ | task)


def fault(folder: Path, name: str) -> dict | None:
    """What a test wants to go wrong with this call."""
    with opened(folder) as queue:
        waiting = queue["faults"].get(name)
        if not waiting:
            return None
        if waiting["times"] is not None:
            waiting["times"] -= 1
            if not waiting["times"]:
                del queue["faults"][name]
        return dict(waiting)


def main(folder: Path, name: str, words: list[str]) -> int:
    call = {"name": name, "arguments": words, "time": time.time()}
    commands = dict(squeue=squeue, sacct=sacct, scontrol=scontrol, scancel=scancel, sinfo=sinfo, srun=srun)
    try:
        if name == "sbatch":
            call["script"] = script_of(words)
        with open(folder / "calls.jsonl", "a") as calls:
            calls.write(json.dumps(call) + "\n")
        if wrong := fault(folder, name):
            time.sleep(wrong["seconds"])
            if wrong["error"]:
                raise Refused(wrong["error"])
        answer = sbatch(folder, words, call["script"]) if name == "sbatch" else commands[name](folder, words)
    except Refused as problem:
        print(problem, file=sys.stderr)
        return 1
    if answer:
        print(answer)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:]))
