"""Measures a training step: images per second, multiply-adds, peak memory, and the time against plain attention."""

import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mixmae.cost.encoders import CLASSES
from mixmae.cost.measured import processor
from mixmae.encoders.building import build_encoder
from mixmae.experiment.experiment import Experiment
from mixmae.experiment.jobs import stage_jobs
from mixmae.experiment.stages import stages
from mixmae.fields.documents import ConfigError
from mixmae.fields.messages import dotted, in_words
from mixmae.methods.building import build_method
from mixmae.methods.classifier import Classifier
from mixmae.methods.methods import methods

_GROWTH = "growth of a fresh process's peak resident memory: model, data and one step"


@dataclass(frozen=True)
class Benchmark:
    """What to measure. encoder: a variant's name. image_size: its side in pixels. batch: images. ratio: None for the
    method's own. compare: "dense", or None."""

    method: str
    encoder: str
    image_size: int = 224
    batch: int = 4
    ratio: float | None = None
    repeats: int = 5
    threads: int = 1
    compare: str | None = None


def step(benchmark: Benchmark) -> dict[str, Any]:
    """Measures forward and backward pass of one step of a method on an encoder; returns plain numbers, for JSON.

    The batch is one chunk of random images. Every repeat draws another mask, and the time to make its layout counts.
    Runs on the GPU where there is one, in bfloat16 if it can; else on `threads` CPU threads in float32.

    seconds: {"min", "median"} over the repeats, after a step that is not timed. images_per_s: from the median. macs:
    multiply-adds of an image, forward and backward. peak_memory: bytes (None where they cannot be measured).
    peak_memory_is: how they were measured.

    compare="dense" adds `dense`: the time of the method's encoder without decoder (visible tokens, masked attention)
    against that of the same encoder's plain forward and backward pass at the same batch, one after the other in every
    repeat. Its `ratio` divides the two times of a repeat: {"min", "median"} over the repeats.

    Raises ConfigError where the combination cannot run.
    """
    _check(benchmark)
    batch, experiment = benchmark.batch, _experiment(benchmark)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    memory = None if device.type == "cuda" else _peak_growth(experiment, batch)
    with _threads(benchmark.threads):
        bench = _Bench(experiment, batch, device)
        result = {
            "method": benchmark.method,
            "encoder": benchmark.encoder,
            "image_size": benchmark.image_size,
            "batch": batch,
            "ratio": experiment.method.model_dump().get("ratio"),
            "repeats": benchmark.repeats,
            "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
            "processor": processor(),
            "threads": benchmark.threads,
            "precision": "bfloat16" if bench.bfloat16 else "float32",
            "torch": torch.__version__,
            "macs": bench.macs() // batch,
        }
        times = [bench.timed(bench.step, repeat) for repeat in range(benchmark.repeats)]
        result |= {"seconds": _spread(times), "images_per_s": batch / statistics.median(times)}
        if device.type == "cuda":
            result |= {
                "peak_memory": bench.peak_on_gpu(),
                "peak_memory_is": "torch.cuda.max_memory_allocated of a step",
            }
        else:
            result |= {"peak_memory": memory, "peak_memory_is": _GROWTH if memory else "not measured: needs Linux"}
        if benchmark.compare:
            result["dense"] = bench.against_dense(benchmark.repeats)
    return result


def _check(benchmark: Benchmark) -> None:
    if benchmark.compare not in (None, "dense"):
        raise ConfigError([f"compare: {benchmark.compare!r} is not known; write dense"])
    if benchmark.compare and benchmark.method in methods and not methods[benchmark.method].pretrains:
        pretrains = ", ".join(spec.name for spec in methods if spec.pretrains)
        raise ConfigError([f"compare: {benchmark.method} is dense itself; write one of {pretrains}"])
    if benchmark.repeats < 1 or benchmark.threads < 1:
        raise ConfigError(["repeats, threads: expected a number above 0"])


def _experiment(benchmark: Benchmark) -> Experiment:
    """Returns the benchmark's experiment. Raises ConfigError as a file with the same mistakes would, without a line."""
    training = {"epochs": 1, "batch": benchmark.batch, "base_lr": 1e-3}
    trained = next(spec for spec in stages if spec.measures and spec.leaves_encoder)
    written = {
        "method": {"name": benchmark.method, **({} if benchmark.ratio is None else {"ratio": benchmark.ratio})},
        "encoder": benchmark.encoder,
        "image_size": benchmark.image_size,
        "pretrain": training,
        "evaluations": {trained.name: {**training, "mixup": 0.0, "cutmix": 0.0}},
    }
    try:
        return Experiment.model_validate(written)
    except ValidationError as error:
        lines = [f"{dotted(path)}: {what}" for path, what in in_words(error, Experiment, written)]
        raise ConfigError(lines) from None


def _spread(times: list[float]) -> dict[str, float]:
    return {"min": min(times), "median": statistics.median(times)}


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Bench:
    """One method and a batch of random images, ready to be timed."""

    def __init__(self, experiment: Experiment, batch: int, device: torch.device):
        torch.manual_seed(0)
        self.device = device
        self.bfloat16 = device.type == "cuda" and torch.cuda.is_bf16_supported()
        job: Any = stage_jobs(experiment, lambda data: "")[0].job
        encoder = build_encoder(job.encoder, job.image_size)
        self.pretrains = job.trained_by is not None
        model = build_method(job.method, encoder) if self.pretrains else Classifier(encoder, CLASSES)
        self.model: Any = model.to(device)
        self.images = torch.randn(batch, 3, *job.image_size).to(device)
        self.targets = torch.randint(CLASSES, (batch,)).to(device)

    def _mask(self, repeat: int) -> Tensor:
        return self.model.draw_mask(len(self.images), np.random.default_rng(repeat))

    def step(self, repeat: int) -> None:
        """Forward and backward with the mask of `repeat`; gradients start empty, as after zero_grad."""
        with self._autocast():
            loss = self.model(self.images, self._mask(repeat) if self.pretrains else self.targets).loss
        loss.backward()

    def _encode(self, repeat: int) -> None:
        """The method's encoder alone: on visible tokens, on mixed ones with masked attention, or with mask tokens."""
        mask = self._mask(repeat)
        with self._autocast():
            tokens = self.model.encoder_tokens(self.images, mask)
        tokens.float().mean().backward()

    def _encode_dense(self, repeat: int) -> None:
        with self._autocast():
            tokens = self.model.encoder(self.images)
        tokens.float().mean().backward()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16)

    def timed(self, run: Callable[[int], None], repeat: int) -> float:
        """Returns the seconds that `run(repeat)` takes, from an idle device to an idle device."""
        self.model.zero_grad(set_to_none=True)
        self._wait()
        start = time.perf_counter()
        run(repeat)
        self._wait()
        return time.perf_counter() - start

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def macs(self) -> int:
        """Returns the multiply-adds of a step of the whole batch: half of what torch's flop counter says."""
        with FlopCounterMode(display=False) as counter:
            self.step(0)
        return counter.get_total_flops() // 2

    def peak_on_gpu(self) -> int:
        self.model.zero_grad(set_to_none=True)
        torch.cuda.reset_peak_memory_stats()
        self.step(0)
        return torch.cuda.max_memory_allocated()

    def against_dense(self, repeats: int) -> dict[str, Any]:
        """Times the method's encoder and the plain one by turns; which of them begins alternates between repeats."""
        for run in (self._encode, self._encode_dense):
            self.timed(run, 0)
        own: list[float] = []
        dense: list[float] = []
        for repeat in range(repeats):
            pair = [(self._encode, own), (self._encode_dense, dense)]
            for run, times in pair if repeat % 2 else reversed(pair):
                times.append(self.timed(run, repeat))
        ratios = [a / b for a, b in zip(own, dense, strict=True)]
        return {"encoder_seconds": _spread(own), "dense_seconds": _spread(dense), "ratio": _spread(ratios)}


def _peak_growth(experiment: Experiment, batch: int) -> int | None:
    """Returns the bytes by which one step raises the peak resident memory of a process that did nothing before.

    None where that cannot be measured: only Linux lets a process reset its peak.
    """
    if not _PEAK_RESET.exists():
        return None
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])  # so that several measurements import torch once
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_growth_here, experiment, batch).result()


_PEAK_RESET = Path("/proc/self/clear_refs")


def _growth_here(experiment: Experiment, batch: int) -> int:
    torch.set_num_threads(1)
    weight = torch.randn(64, 64, requires_grad=True)
    nn.functional.linear(torch.randn(64, 64), weight).sum().backward()
    # getrusage's ru_maxrss is no use here: a new process inherits that of its parent.
    _PEAK_RESET.write_text("5")
    before = _peak_resident()
    _Bench(experiment, batch, torch.device("cpu")).step(0)
    return _peak_resident() - before


def _peak_resident() -> int:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))
