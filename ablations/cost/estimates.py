"""Estimates of what stage jobs cost on a cluster: hours, GPU-hours, disk, the wall time of all (no torch).

Where a job's time comes from, the first there is:

1. a record of `mixmae bench step` of its method, encoder, image size, mask ratio, precision, device and (on a CPU)
   threads, that has its multiply-adds, too (else it was another decoder): its images a second for each process;
2. its multiply-adds (see mixmae.cost.multiply_adds) over the multiply-adds a second of that record of the same device,
   precision and threads whose image costs the most alike: how well a device is used depends on how large the model is;
3. nothing: multiply-adds only.

Records lie in ROOT/bench, and a few come with this package (mixmae/measured.json says what was measured where). Images
that are only passed through the encoder, to validate or to extract features, count as a third of a training step.
"""

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import log
from typing import Any, NamedTuple

from ablations.plan.plan import Entry
from ablations.slurm.resources import Array, Slurm
from mixmae.experiment.jobs import StageJob
from mixmae.experiment.stages import Work
from mixmae.fields.identity import Key
from mixmae.fields.texts import many
from mixmae.presentation.row import computed_of
from mixmae.training.resources import Resources

HOUR = 3600.0
BYTES_WEIGHT, BYTES_STATE = 4, 12
"""Bytes a parameter in float32: in the final weights; in a checkpoint, with two AdamW moments."""
ALIKE = 0.15
"""How far counted multiply-adds may lie from those of mixmae.cost.multiply_adds, which holds no norms and the like."""
CHECKPOINTS = 4
"""Checkpoints that a run has at most at once: the two newest, that of the end of the last epoch, and the one being
written."""


@dataclass(frozen=True)
class Estimate:
    """What one job costs: multiply-adds; hours of its processes together at work; where the hours come from; bytes on
    disk at most. None where it cannot be said, and then `source` says why."""

    macs: int | None
    hours: float | None
    source: str
    disk: int | None


class Measurable(NamedTuple):
    """What a record of `mixmae bench step` has to be of to say how fast a job is. size: height and width."""

    method: str
    encoder: str
    size: tuple[int, int]
    ratio: float | None
    precision: str
    device: str | None
    on_gpu: bool


class Estimator:
    """records: those of mixmae.cost.measured, the first is preferred. shared: threads and the like of a job."""

    def __init__(self, records: list[dict[str, Any]], shared: Resources):
        self._records, self._shared = records, shared
        self._works: dict[str, Work | None] = {}
        self._rates: dict[tuple[Measurable, int], tuple[float | None, str]] = {}

    def of(self, entry: Entry, slurm: Slurm) -> Estimate:
        job = entry.job
        shape = computed_of([job.model_dump(mode="json")], [entry.planned.fingerprint])
        if shape not in self._works:
            self._works[shape] = job.spec.work(job)
        work = self._works[shape]
        if work is None or job.encoder is None:
            return Estimate(None, None, _uncounted(job), None)
        asked = Measurable(
            work.method,
            job.encoder.name,
            job.image_size,
            None if job.spec.measures else entry.row.get("method.ratio"),
            _precision(entry, slurm),
            slurm.device,
            slurm.gpus > 0,
        )
        key = (asked, work.step)
        if key not in self._rates:
            self._rates[key] = self._rate(asked, work)
        rate, source = self._rates[key]
        images = work.trained + work.passed / 3
        hours = None if rate is None else images / rate / slurm.processes / HOUR
        return Estimate(work.macs, hours, source, disk(entry, work))

    def _rate(self, asked: Measurable, work: Work) -> tuple[float | None, str]:
        """(images a second of a training step, on one process; where that comes from)."""
        device = self._device(asked.device, asked.on_gpu)
        if device is None:
            return None, "multiply-adds only, no hours: which GPU? write device: …, as mixmae bench step names it"
        threads = None if asked.on_gpu else self._shared.threads
        alike = [
            record
            for record in self._records
            if (record["device"], record["precision"]) == (device, asked.precision)
            and threads in (None, record["threads"])
        ]
        for record in alike:
            same = (record["method"], record["encoder"], (record["image_size"],) * 2) == asked[:3]
            if same and record["ratio"] == asked.ratio and abs(record["macs"] / work.step - 1) < ALIKE:
                return record["images_per_s"], f"measured: {_named(record)}"
        if not alike:
            what = f"{device}, {asked.precision}" + (f", {_threads(threads)}" if threads else "")
            return None, f"multiply-adds only, no hours: nothing measured on {what}; mixmae bench step … --record"
        nearest = min(alike, key=lambda record: abs(log(record["macs"] / work.step)))
        speed = nearest["macs"] * nearest["images_per_s"]
        counted = "multiply-adds" if work.exact else "multiply-adds scaled to the image size"
        return speed / work.step, f"{counted} at {speed / 1e9:.3g} G/s: {_named(nearest)}"

    def _device(self, named: str | None, on_gpu: bool) -> str | None:
        if not on_gpu:
            return "cpu"
        return named or self._only_gpu

    @cached_property
    def _only_gpu(self) -> str | None:
        """The one that records made here are of, where there is one."""
        gpus = {record["device"] for record in self._records if not record.get("published")} - {"cpu"}
        return gpus.pop() if len(gpus) == 1 else None


def _uncounted(job: StageJob) -> str:
    what = "raw pixels, no encoder" if job.encoder is None else f"{job.encoder.name} is not as in the table of variants"
    return f"no estimate: {what}"


def _precision(entry: Entry, slurm: Slurm) -> str:
    precision = str(entry.row.get("evaluation.precision", "auto"))
    return precision if precision != "auto" else "bfloat16" if slurm.gpus else "float32"


def _named(record: dict[str, Any]) -> str:
    """A record in words: what was measured, on what, when, and the file that holds it."""
    device = f"{record['processor']}, {_threads(record['threads'])}" if record["device"] == "cpu" else record["device"]
    what = f"{record['method']} {record['encoder']} {record['image_size']} px, batch {record['batch']}"
    return f"{what}, {device}, {record['measured']} ({record['of']})"


def _threads(count: int) -> str:
    return many(count, "thread")


def disk(entry: Entry, work: Work) -> int:
    """Bytes that a run needs at most: its checkpoints and its final weights. Checkpoints of averaged weights hold them
    beside the others."""
    averaged = BYTES_WEIGHT if entry.row.get("evaluation.ema_decay") else 0
    return work.params * (CHECKPOINTS * (BYTES_STATE + averaged) + BYTES_WEIGHT)


# ----------------------------------------------------------------------------------------------------------- many jobs


@dataclass(frozen=True)
class Price:
    """What the jobs of one array cost that are still to be done. Sums are of the jobs that can be estimated; `unknown`:
    how many cannot. macs: of all; hours: of one job, the least and the most; disk: bytes of all jobs, done ones too,
    with nothing pruned."""

    array: Array
    to_do: tuple[Entry, ...]
    macs: int
    hours: tuple[float, float] | None
    job_hours: float
    gpu_hours: float
    cpu_hours: float
    unknown: int
    disk: int
    sources: tuple[str, ...]
    """The most frequent first."""

    @property
    def tasks(self) -> int:
        """Tasks of the array."""
        return -(-len(self.to_do) // self.array.slurm.pack)


def price(array: Array, done: set[Key], estimates: Mapping[Key, Estimate]) -> Price:
    to_do = tuple(entry for entry in array.entries if entry.key not in done)
    own = [estimates[entry.key] for entry in to_do]
    hours = [estimate.hours for estimate in own if estimate.hours is not None]
    slurm, total = array.slurm, sum(hours)
    return Price(
        array=array,
        to_do=to_do,
        macs=sum(estimate.macs or 0 for estimate in own),
        hours=(min(hours), max(hours)) if hours else None,
        job_hours=total,
        gpu_hours=total * slurm.gpus,
        cpu_hours=total * slurm.processes * slurm.cpus,
        unknown=len(own) - len(hours),
        disk=sum(estimates[entry.key].disk or 0 for entry in array.entries),
        sources=tuple(source for source, _ in Counter(estimate.source for estimate in own).most_common()),
    )


def wall_hours(prices: Iterable[Price], estimates: Mapping[Key, Estimate]) -> float | None:
    """Hours from the first start to the last end, if each array gets its `max_running` tasks at once, and an evaluation
    starts as soon as its pretraining has ended and a task is free. None where no job can be estimated; jobs that cannot
    take no time."""
    ended: dict[Key, float] = {}
    prices = list(prices)
    if not any(price.hours for price in prices):
        return None
    for price in sorted(prices, key=lambda price: price.array.depth):
        for key, end in _ends(price, ended, estimates).items():
            ended[key] = end
    return max(ended.values())


def _ends(price: Price, ended: Mapping[Key, float], estimates: Mapping[Key, Estimate]) -> dict[Key, float]:
    pack = price.array.slurm.pack
    tasks = [price.to_do[first : first + pack] for first in range(0, len(price.to_do), pack)]
    ready = [max(ended.get(entry.needs, 0.0) if entry.needs else 0.0 for entry in task) for task in tasks]
    free = [0.0] * min(price.array.slurm.max_running, len(tasks))
    ends = {}
    for place in sorted(range(len(tasks)), key=lambda place: ready[place]):
        now = max(heapq.heappop(free), ready[place])
        for entry in tasks[place]:
            now += estimates[entry.key].hours or 0.0
            ends[entry.key] = now
        heapq.heappush(free, now)
    return ends
