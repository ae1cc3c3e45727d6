"""What a grid file says about the cluster its jobs run on, as models, and what that comes to for each job (no torch).

What lies over what, the later the stronger:

1. the defaults of `Slurm`;
2. the site profile that `resources.slurm.site` names (see ablations.slurm.sites);
3. `resources.slurm` of the grid file;
4. each entry of `resources.slurm.overrides` that matches the job, in the order they are written;
5. what follows from the rest, where it is not written: one task a GPU, `threads` + `workers` CPUs a task.

A value replaces the one below it, a list (`setup`) as a whole; `directives` and `retries` are laid over entry by entry.
`null` takes a value away.
"""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, WithJsonSchema

from ablations.slurm.quantities import TIME, Pairs, memory_text, minutes, pairs
from ablations.slurm.sites import site_profile
from mixmae.experiment.stages import stages
from mixmae.fields.documents import ConfigError, Value, mark_of, validated
from mixmae.fields.model import Model, Positive, impossible
from mixmae.fields.nearest import nearest
from mixmae.fields.texts import many
from mixmae.training.resources import Resources

if TYPE_CHECKING:
    from ablations.grid.file import Grid
    from ablations.plan.plan import Entry
    from mixmae.fields.identity import Key

# --------------------------------------------------------------------------------------------------------------- models


SIGNAL_EARLY_S = 60


class Retry(Model):
    """Whether a job that ended for one cause is started again: always, never, or while it gets further each time."""

    when: Literal["always", "progress", "never"]
    """always, never, or while the job gets further each time."""
    most: Positive = 3
    """Retries at most."""


def _worded(value: Any) -> Any:
    return {"when": value} if isinstance(value, str) else value


_WORDS = {"enum": ["always", "progress", "never"]}
_RETRY = {"type": "object", "properties": {"when": _WORDS, "most": {"type": "integer", "minimum": 1}}}

Retried = Annotated[
    Retry,
    BeforeValidator(_worded),
    WithJsonSchema({"anyOf": [_WORDS, _RETRY]}),
]


class Retries(Model):
    """When a job is started again, by what ended it; a bare word stands for {when: word}."""

    preempted: Retried = Retry(when="always", most=100)
    """The job was preempted."""
    node_failure: Retried = Retry(when="always", most=10)
    """Its node failed."""
    timeout: Retried = Retry(when="progress", most=100)
    """It reached its time limit."""
    out_of_memory: Retried = Retry(when="never")
    """It took more memory than it had asked for."""
    failed: Retried = Retry(when="never")
    """It failed by an error of its own."""


class Slurm(Model):
    """What a job asks of Slurm."""

    partition: str | None = None
    """As of sbatch."""
    account: str | None = None
    """As of sbatch."""
    qos: str | None = None
    """As of sbatch."""
    constraint: str | None = None
    """Features that nodes must have, as of sbatch."""
    exclude: str | None = None
    """Nodes not to use, as Slurm lists them: node[1-3],node7."""
    time: Annotated[int, BeforeValidator(minutes), WithJsonSchema({"type": ["string", "integer"]})] | None = None
    """Limit of a task; here in minutes."""
    memory: Annotated[str, BeforeValidator(memory_text)] | None = None
    """A node; default: what the site gives."""
    nodes: Positive = 1
    """Nodes of a job."""
    gpus_per_node: Annotated[int, Field(ge=0)] = 0
    """GPUs of each node."""
    cpus_per_gpu: Positive | None = None
    """CPUs for each GPU."""
    cpus_per_task: Positive | None = None
    """CPUs of a process; default: its threads and workers."""
    tasks_per_node: Positive | None = None
    """Processes of the job on each node; default: one a GPU, else 1."""
    max_running: Positive = 256
    """Tasks of an array at once."""
    pack: Positive = 1
    """Stage jobs, one after the other, in one task of an array."""
    directives: Annotated[Pairs, BeforeValidator(pairs), PlainSerializer(dict), WithJsonSchema({"type": "object"})] = ()
    """Further options of sbatch, by their long names; true for an option without a value."""
    signal_seconds: Positive = 120
    """How long before the limit a task is told to save; Slurm may do it up to 60 s earlier."""
    setup: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Lines of shell before the job: modules, environment variables, a container."""
    device: str | None = None
    """What torch calls the GPU, as the records of `mixmae bench step` do; for estimates only."""
    retries: Retries = Retries()
    """Which jobs are submitted again, by what ended them."""

    @property
    def tasks(self) -> int:
        """Processes on each node."""
        return self.tasks_per_node or self.gpus_per_node or 1

    @property
    def cpus(self) -> int:
        """CPUs of each task, of resources that are resolved."""
        assert self.cpus_per_task is not None, "resolved"
        return self.cpus_per_task

    @property
    def processes(self) -> int:
        """Processes of a job on all its nodes."""
        return self.nodes * self.tasks

    @property
    def gpus(self) -> int:
        """GPUs of a job on all its nodes."""
        return self.nodes * self.gpus_per_node


def _known_stage(name: str) -> str:
    if name not in stages:
        *others, last = map(repr, stages.names())
        near = nearest(name, stages.names())
        what = f"expected {', '.join(others)} or {last}, found the text {name!r}"
        raise impossible((), what + (f"; did you mean {near}?" if near else ""))
    return name


class Override(Model):
    """What differs for the jobs that match all that is given of `stage`, `encoder` and `method`."""

    stage: Annotated[str, AfterValidator(_known_stage)] | None = None
    """The name of a stage: pretrain, or a kind of evaluation."""
    encoder: str | None = None
    """A pattern (fnmatch) on the variant's name."""
    method: str | None = None
    """The name of the method whose encoder the job trains or evaluates; a pattern, too."""
    set: Slurm
    """What these jobs ask for otherwise."""


class GridSlurm(Slurm):
    """The `slurm:` block of a grid file."""

    site: str | None = None
    """The name of a site profile."""
    overrides: Annotated[tuple[Override, ...], Field(strict=False)] = ()
    """What some of the jobs ask for otherwise, the later the stronger."""


# --------------------------------------------------------------------------------------------- from layers to resources


@dataclass(frozen=True)
class _Layer:
    """Some of the fields of a Slurm, and where they were written."""

    given: Slurm
    document: Value
    path: tuple[str | int, ...]


def resolved(grid: "Grid", entries: Iterable["Entry"]) -> dict["Key", Slurm]:
    """What each job asks for, everything written out; equal where the jobs can share an array.

    Raises ConfigError, with the place, where the site is not known or a job could not run so.
    """
    block, path = grid.spec.resources.slurm, ("resources", "slurm")
    below = []
    if block.site is not None:
        profile = site_profile(block.site, mark_of(grid.document, (*path, "site")))
        below = [_Layer(validated(Slurm, profile), profile, ())]
    below.append(_Layer(block, grid.document, path))
    known: dict[tuple[int, ...], Slurm] = {}
    checked: set[tuple[object, ...]] = set()
    slurms = {}
    for entry in entries:
        matching = tuple(place for place, override in enumerate(block.overrides) if _matches(override, entry))
        above = [
            _Layer(block.overrides[place].set, grid.document, (*path, "overrides", place, "set")) for place in matching
        ]
        layers = [*below, *above]
        if matching not in known:
            known[matching] = _with_derived(_merged_layers(layers), layers, grid.spec.resources)
        slurm = known[matching]
        parts = entry.job.spec.chunks(entry.job.recipe)
        if (matching, parts) not in checked:
            for field, what in _impossibilities(slurm, parts):
                raise _complaint(field, what, layers)
            checked.add((matching, parts))
        slurms[entry.key] = slurm
    return slurms


def _matches(override: Override, entry: "Entry") -> bool:
    pairs = ((override.stage, entry.planned.stage), (override.encoder, entry.encoder), (override.method, entry.method))
    return all(pattern is None or fnmatchcase(value or "", pattern) for pattern, value in pairs)


def _merged_layers(layers: list[_Layer]) -> Slurm:
    tree = _tree(Slurm(), all_fields=True)
    for layer in layers:
        tree = _merged(tree, _tree(layer.given, all_fields=False))
    return Slurm.model_validate({name: value for name, value in tree.items() if value is not None})


def _tree(model: Model, all_fields: bool) -> dict[str, Any]:
    """A Slurm as plain data: all of it, or what was written, without what is of the grid file alone."""
    tree = {}
    for name in type(model).model_fields if all_fields else model.model_fields_set:
        value = getattr(model, name)
        if isinstance(value, Model):
            tree[name] = _tree(value, all_fields)
        elif name not in ("site", "overrides"):
            tree[name] = dict(value) if name == "directives" else value
    return tree


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    both = {name: (below[name], above[name]) for name in below.keys() & above.keys()}
    nested = {name: _merged(*pair) for name, pair in both.items() if all(isinstance(value, dict) for value in pair)}
    return {**below, **above, **nested}


def _with_derived(slurm: Slurm, layers: list[_Layer], shared: Resources) -> Slurm:
    """The resources with tasks a node and CPUs a task written out. `cpus_per_gpu` is left where it cannot be followed,
    which is refused later."""
    per_gpu = slurm.cpus_per_gpu
    if not slurm.gpus_per_node and any("gpus_per_node" in layer.given.model_fields_set for layer in layers):
        per_gpu = None  # somebody wrote that these jobs have no GPU, over what says how many CPUs each would have
    cpus = slurm.cpus_per_task or per_gpu or shared.threads + shared.workers
    left = per_gpu if slurm.cpus_per_task or not slurm.gpus_per_node else None
    return slurm.model_copy(update={"tasks_per_node": slurm.tasks, "cpus_per_task": cpus, "cpus_per_gpu": left})


def _impossibilities(slurm: Slurm, chunks: tuple[int, int] | None) -> Iterable[tuple[str, str]]:
    """Yields (field, what is wrong and what to write instead)."""
    if slurm.time is None:
        yield "time", f"missing; {TIME}"
    elif slurm.signal_seconds + SIGNAL_EARLY_S >= slurm.time * 60:
        early = f"{slurm.signal_seconds} s of warning, which Slurm may give up to {SIGNAL_EARLY_S} s earlier"
        what = f"{early}, do not fit into a limit of {slurm.time} min; write fewer"
        yield "signal_seconds", what
    if slurm.cpus_per_gpu is not None:
        what = "cpus_per_task is given too; write one of them" if slurm.gpus_per_node else "there are no GPUs"
        yield "cpus_per_gpu", what if slurm.gpus_per_node else f"{what}; write gpus_per_node, or cpus_per_task instead"
    if slurm.gpus_per_node and slurm.tasks != slurm.gpus_per_node:
        what = f"{slurm.tasks} processes for {slurm.gpus_per_node} GPUs, but each process uses one; leave it out"
        yield "tasks_per_node", what
    if slurm.pack > 1 and slurm.processes > 1:
        what = f"{slurm.pack} jobs in a task, but each job has {slurm.processes} processes; write pack: 1"
        yield "pack", what
    if chunks and chunks[0] < slurm.processes:
        parts, batch = chunks
        what = f"{slurm.processes} processes, but a batch of {batch} images is {many(parts, 'chunk')}"
        most = batch // slurm.processes
        instead = (
            f"ask for fewer, or write chunk: {most} or a smaller divisor in the recipe" if most else "ask for fewer"
        )
        yield (
            ("nodes" if slurm.nodes > 1 else "gpus_per_node" if slurm.gpus else "tasks_per_node"),
            f"{what}; {instead}",
        )


def _complaint(field: str, what: str, layers: list[_Layer]) -> ConfigError:
    """The error where the field was written, in the topmost layer that has it."""
    written = [layer for layer in layers if field in layer.given.model_fields_set]
    layer = written[-1] if written else layers[-1]
    path = (*layer.path, field)
    return mark_of(layer.document, path).error(what, path)


# --------------------------------------------------------------------------------------------------------------- arrays


@dataclass(frozen=True)
class Array:
    """Jobs of one stage that ask for the same: they go to Slurm as one job array. depth: how many others each of them
    goes back to."""

    stage: str
    slurm: Slurm
    entries: tuple["Entry", ...]
    depth: int = 0


def arrays(entries: Iterable["Entry"], slurms: dict["Key", Slurm]) -> list[Array]:
    """One array a (stage, depth, resources), in the order in which the plan first names them."""
    depths: dict[Key, int] = {}
    groups: dict[tuple[str, int, Slurm], list[Entry]] = {}
    for entry in entries:
        depth = depths[entry.key] = depths.get(entry.needs, 0) + 1 if entry.needs else 0
        groups.setdefault((entry.planned.stage, depth, slurms[entry.key]), []).append(entry)
    return [Array(stage, slurm, tuple(group), depth) for (stage, depth, slurm), group in groups.items()]


def split(slurm: Slurm, tasks: int, most: int) -> tuple[Slurm, list[int]]:
    """The sizes of the arrays, of at most `most` tasks, that so many tasks make; together they keep to max_running."""
    sizes = [min(most, tasks - first) for first in range(0, tasks, most)]
    return slurm.model_copy(update={"max_running": max(1, slurm.max_running // len(sizes))}), sizes


HELD = {"hold": True, "kill-on-invalid-dep": "yes"}
"""Options of an array whose dependencies are set, task by task, before it is released."""


def directives(slurm: Slurm, name: str = "mixmae", held: bool = False) -> dict[str, Any]:
    """The resources in the terms of submitit's SlurmExecutor.update_parameters; `name` is the job's in squeue."""
    asked = {
        "partition": slurm.partition,
        "account": slurm.account,
        "qos": slurm.qos,
        "constraint": slurm.constraint,
        "exclude": slurm.exclude,
        "mem": slurm.memory,
        "gpus_per_node": slurm.gpus_per_node or None,
        "setup": list(slurm.setup) or None,
    }
    # From Slurm 22.05 on srun does not take over the batch job's --cpus-per-task.
    steps = [f"--cpus-per-task={slurm.cpus_per_task}", *(["--kill-on-bad-exit=1"] if slurm.processes > 1 else [])]
    return {name: value for name, value in asked.items() if value is not None} | {
        "job_name": name,
        "time": slurm.time,
        "nodes": slurm.nodes,
        "ntasks_per_node": slurm.tasks,
        "cpus_per_task": slurm.cpus_per_task,
        "array_parallelism": slurm.max_running,
        "signal_delay_s": slurm.signal_seconds,
        "stderr_to_stdout": True,
        "srun_args": steps,
        "additional_parameters": {
            "requeue": True,
            **(HELD if held else {}),
            **{key: value for key, value in slurm.directives if value is not False},
        },
    }


def sbatch_text(
    slurm: Slurm, folder: Path, count: int, name: str = "mixmae", command: str = "…", held: bool = False
) -> str:
    """The script that submitit gives to sbatch for an array of `count` tasks (for one task: no array)."""
    from submitit.slurm.slurm import _make_sbatch_string

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _make_sbatch_string(
            command, folder, map_count=count if count > 1 else None, **directives(slurm, name, held)
        )
