"""How long steps of pretrainings take, and how much memory: the training itself, a few steps at a time and by turns."""

import io
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

import torch

from mixmae.cost.measured import processor
from mixmae.cost.step_records import step_name
from mixmae.experiment.jobs import PretrainJob
from mixmae.runs.folder import RunFolder
from mixmae.tracking.trackers import Trackers
from mixmae.training.pretrain.memory import peak_allocated
from mixmae.training.pretrain.run import run
from mixmae.training.processes import Processes
from mixmae.training.resources import Resources
from mixmae.training.session import Session

NEVER = 1e9
"""Minutes between saves."""


def measured_steps(
    jobs: Sequence[PretrainJob], resources: Resources, rounds: int, steps: int, told: Callable[[str], None]
) -> dict[str, Any]:
    """The record of the steps of `jobs`, whose images are here, as `mixmae.cost.step_records` has it, but for the load.

    In each of `rounds` rounds every job is begun anew and trains for `steps` steps that are timed, after one that is
    not; what comes first changes from round to round. A step is all that the training does between two of them: loading
    and augmenting images, forward and backward pass, optimiser. Then each trains for two more, whose memory is counted:
    in the second the optimiser has its moments. told: is told of every round.
    """
    torch.set_num_threads(resources.threads)
    seconds: list[list[float]] = [[] for _ in jobs]
    for number in range(rounds):
        first = number % len(jobs)
        for place in (*range(first, len(jobs)), *range(first)):
            seconds[place].append(_seconds(jobs[place], resources, steps))
        told(f"round {number + 1} of {rounds}")
    peaks = [_peak_memory(job, resources) for job in jobs]
    return {
        "processor": processor(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "resources": resources.of_speed(),
        "torch": torch.__version__,
        "measured": date.today().isoformat(),
        "steps_a_round": steps,
        "peak_memory_is": "bytes that torch had allocated at most: weights, gradients, moments, activations, images",
        "steps": [_line(job, resources, of, peak) for job, of, peak in zip(jobs, seconds, peaks, strict=True)],
    }


def _line(job: PretrainJob, resources: Resources, times: list[float], peak: int) -> dict[str, Any]:
    assert job.encoder is not None
    recipe: Any = job.recipe
    names = {"method": job.method.name, "encoder": job.encoder.label, "batch": recipe.batch}
    name = step_name(job, resources.of_speed())
    return {"step": name, **names, "seconds": median(times), "rounds": times, "peak_memory": peak}


def _peak_memory(job: PretrainJob, resources: Resources) -> int:
    return peak_allocated(lambda: _seconds(job, resources, steps=1))


class _Enough(Exception):
    """All steps are timed."""


class _Clock:
    """Asked between steps, as whether to stop: raises _Enough after `steps` steps but for the first, untimed one."""

    def __init__(self, steps: int):
        self._steps, self._asked_at = steps, list[float]()

    def __call__(self) -> bool:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self._asked_at.append(time.perf_counter())
        if len(self._asked_at) == self._steps + 2:
            raise _Enough
        return False

    def seconds(self) -> float:
        """Of a step, their mean."""
        return (self._asked_at[-1] - self._asked_at[1]) / self._steps


def _seconds(job: PretrainJob, resources: Resources, steps: int) -> float:
    """Seconds of a step, the mean of so many."""
    recipe: Any = job.recipe
    long_enough = recipe.model_copy(update={"epochs": max(recipe.epochs, steps + 2)})
    clock = _Clock(steps)
    resources = resources.model_copy(update={"save_minutes": NEVER, "save_steps": None, "track": ()})
    with tempfile.TemporaryDirectory() as folder:
        place = RunFolder(Path(folder), job.stage, "timed")
        place.path.mkdir(parents=True)
        session = Session(
            place, job.spec.main.name, resources, Processes(), clock, _nothing, _nothing, Trackers(place, ())
        )
        try:
            with redirect_stderr(io.StringIO()):  # a terminal would be drawn on meanwhile
                run(session, job.model_copy(update={"recipe": long_enough}))
        except _Enough:
            return clock.seconds()
    raise AssertionError("it trains for more steps than are timed")


def _nothing(**_: object) -> None:
    pass
