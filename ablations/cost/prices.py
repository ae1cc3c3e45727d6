"""What a plan would ask of a cluster and cost there, for the terminal and as plain data. Submits nothing (no torch)."""

from dataclasses import dataclass
from typing import Any

from rich.table import Table

from ablations.cost.estimates import Estimate, Estimator, Price, price, wall_hours
from ablations.grid.file import Grid
from ablations.plan.launched import grid_folder
from ablations.plan.plan import Plan
from ablations.slurm.resources import Slurm, arrays, resolved, sbatch_text, split
from mixmae.cost.measured import records
from mixmae.cost.multiply_adds import LEFT_OUT
from mixmae.fields.identity import Key
from mixmae.fields.texts import bytes_of, many, prefix, rounded
from mixmae.runs import scheduler
from mixmae.runs.state import RunState


@dataclass(frozen=True)
class Quote:
    plan: Plan
    prices: tuple[Price, ...]
    wall: float | None
    """Hours, see `wall_hours`."""
    most: int
    """Tasks of an array: the site's MaxArraySize where Slurm answers, else Slurm's default."""


def quote(grid: Grid, plan: Plan, run_states: dict[Key, RunState]) -> Quote:
    """The price of what of the plan is not done. Raises ConfigError where a job's resources are not possible."""
    slurms = resolved(grid, plan.entries)
    estimator = Estimator(records(plan.root), grid.spec.resources)
    estimates: dict[Key, Estimate] = {entry.key: estimator.of(entry, slurms[entry.key]) for entry in plan.entries}
    done = {key for key, state in run_states.items() if state.state == "done"}
    prices = tuple(price(array, done, estimates) for array in arrays(plan.entries, slurms))
    most = scheduler.max_array_size() if scheduler.available() else scheduler.DEFAULT_MAX_ARRAY_SIZE
    return Quote(plan, prices, wall_hours(prices, estimates), most)


# --------------------------------------------------------------------------------------------------------- for reading


def quote_table(quote: Quote) -> Table:
    table = Table(
        "#", "stage", "jobs", "tasks", "a job asks for", "time a job", "GPU h", "CPU h", "multiply-adds", "disk"
    )
    for number, each in enumerate(quote.prices, start=1):
        to_do, jobs = len(each.to_do), len(each.array.entries)
        missing = f" (+{many(each.unknown, 'job')})" if each.hours and each.unknown else ""
        table.add_row(
            str(number),
            each.array.stage,
            str(jobs) if to_do == jobs else f"{to_do} of {jobs}",
            str(each.tasks) if each.tasks <= quote.most else f"{each.tasks} in {-(-each.tasks // quote.most)} arrays",
            _asked(each.array.slurm),
            _span(each.hours) + missing,
            rounded(each.gpu_hours) if each.hours else "?",
            rounded(each.cpu_hours) if each.hours else "?",
            _macs(each.macs) if each.macs else "?",
            bytes_of(each.disk) if each.disk else "-",
        )
    return table


def quote_lines(quote: Quote) -> list[str]:
    """What the table leaves open: sums, sources, what the figures hold, and the sbatch scripts."""
    prices, lines = quote.prices, []
    total = _total(quote)
    what = f"in all: {many(total['jobs'], 'job')} to do, {_macs(total['multiply_adds'])} multiply-adds"
    if quote.wall is None:
        lines.append(f"{what}; their hours are not known")
    else:
        hours = f"{rounded(total['gpu_hours'])} GPU h, {rounded(total['cpu_hours'])} CPU h"
        unknown = total["jobs_without_hours"]
        lines.append(f"{what}, {hours}" + (f", and {many(unknown, 'job')} of unknown hours" if unknown else ""))
        wall = f"wall time: {_duration(quote.wall)} at least"
        lines.append(f"{wall}, if the cluster gives each array all its max_running tasks at once")
    lines.append(f"disk: {bytes_of(total['disk_bytes'])} at most, with nothing pruned")
    lines.append(f"left out of the hours: {LEFT_OUT}")
    lines += [f"{', '.join(numbers)}: {source}" for source, numbers in _by_source(prices).items()]
    for number, each in enumerate(prices, start=1):
        limit = (each.array.slurm.time or 0) / 60
        if each.hours and each.hours[1] * each.array.slurm.pack > limit:
            what = (
                f"a task may take {_duration(each.hours[1] * each.array.slurm.pack)}, its limit is {_duration(limit)}"
            )
            lines.append(f"#{number} {what}: it goes on after a time-out as its retries allow")
    for number, each in enumerate(prices, start=1):
        if each.to_do:
            scripts = _scripts(quote, each)
            more = f" (the first of {len(scripts)} arrays)" if len(scripts) > 1 else ""
            lines += ["", f"#{number}{more} as submitit gives it to sbatch:", *_telling(scripts[0])]
    return [*lines, "", "nothing was submitted"]


def _by_source(prices: tuple[Price, ...]) -> dict[str, list[str]]:
    numbers: dict[str, list[str]] = {}
    for number, each in enumerate(prices, start=1):
        for source in each.sources:
            numbers.setdefault(source, []).append(f"#{number}")
    return numbers


def _telling(script: str) -> list[str]:
    """The lines of a script that differ from site to site and grid to grid."""
    common = ("", "#!/bin/bash", "# Parameters", "# setup", "# command")
    return [f"  {line}" for line in script.splitlines() if line not in common]


def _scripts(quote: Quote, each: Price) -> list[str]:
    """One for each array that the tasks are split into. ID stands for what grid run draws, … for submitit's command."""
    folder = grid_folder(quote.plan.root, quote.plan.name) / "submitit"
    name = f"{scheduler.PREFIX}{quote.plan.name}-ID"
    slurm, sizes = split(each.array.slurm, each.tasks, quote.most)
    texts = {size: sbatch_text(slurm, folder, size, name, held=True).strip() for size in set(sizes)}
    return [texts[size] for size in sizes]


def _asked(slurm: Slurm) -> str:
    nodes = "" if slurm.nodes == 1 else f"{slurm.nodes} nodes, each "
    gpus = f"{many(slurm.gpus_per_node, 'GPU')}, " if slurm.gpus_per_node else ""
    tasks = "" if slurm.tasks == 1 else f"{slurm.tasks} × "
    memory = "" if slurm.memory in (None, "0") else f", {slurm.memory[:-1]} {slurm.memory[-1]}iB"
    pack = f", {slurm.pack} jobs a task" if slurm.pack > 1 else ""
    return f"{nodes}{gpus}{tasks}{many(slurm.cpus, 'CPU')}{memory}{pack}"


def _macs(number: int) -> str:
    letter, size = prefix(number, "G")
    return f"{rounded(number / size)} {letter}"


def _span(hours: tuple[float, float] | None) -> str:
    if hours is None:
        return "?"
    least, most = map(_duration, hours)
    return least if least == most else f"{least} - {most}"


def _duration(hours: float) -> str:
    if hours >= 1:
        return f"{hours:.1f} h"
    return f"{hours * 60:.1f} min" if hours * 60 >= 1 else f"{hours * 3600:.1f} s"


# --------------------------------------------------------------------------------------------------------- for scripts


def quote_document(quote: Quote) -> dict[str, Any]:
    """As plain data: {"executor", "arrays", "total", "left_out"}. Names carry the units; None is not known. An entry of
    "arrays" is what asks for the same: its "sbatch" holds the lines of one script for each array it is split into."""
    return {
        "executor": "slurm",
        "arrays": [_array_document(quote, number, each) for number, each in enumerate(quote.prices, start=1)],
        "total": _total(quote),
        "left_out": LEFT_OUT,
    }


def _array_document(quote: Quote, number: int, each: Price) -> dict[str, Any]:
    slurm = each.array.slurm
    return {
        "number": number,
        "stage": each.array.stage,
        "jobs": [entry.planned.id for entry in each.array.entries],
        "to_do": len(each.to_do),
        "tasks": each.tasks,
        "processes_a_job": slurm.processes,
        "gpus_a_job": slurm.gpus,
        "resources": slurm.model_dump(mode="json"),
        "hours_a_job": list(each.hours) if each.hours else None,
        "gpu_hours": each.gpu_hours if each.hours else None,
        "cpu_hours": each.cpu_hours if each.hours else None,
        "jobs_without_hours": each.unknown,
        "multiply_adds": each.macs,
        "disk_bytes": each.disk,
        "sources": list(each.sources),
        "sbatch": [text.splitlines() for text in _scripts(quote, each)],
    }


def _total(quote: Quote) -> dict[str, Any]:
    prices, known = quote.prices, quote.wall is not None
    return {
        "jobs": sum(len(each.to_do) for each in prices),
        "jobs_without_hours": sum(each.unknown for each in prices),
        "gpu_hours": sum(each.gpu_hours for each in prices) if known else None,
        "cpu_hours": sum(each.cpu_hours for each in prices) if known else None,
        "wall_hours": quote.wall,
        "multiply_adds": sum(each.macs for each in prices),
        "disk_bytes": sum(each.disk for each in prices),
    }
