"""The processes (ranks) of one run: what they exchange, and how they make sure that none outlives another.

Rank 0 leads: it alone writes into the run folder. All ranks hold the same weights; they differ in the chunks and the
evaluation batches that they take. Besides the process group's own connections, each rank writes a heartbeat into a
store that rank 0 opens. Where a rank falls silent or has failed, or where the store is gone, all others end too,
whatever they are waiting for.
"""

import logging
import os
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mixmae.runs.cause import Cause
from mixmae.training.places import Place

log = logging.getLogger(__name__)

Part = TypeVar("Part", range, list[Any], Tensor)
Heard = dict[int, tuple[bytes | None, float]]
"""By rank: its newest heartbeat, None where there is none yet, and when that was read (time.monotonic)."""

BEAT_S = 1.0
SILENCE_S = 30.0
"""A process that has not beaten for so long is lost."""
PATIENCE_S = 4 * BEAT_S
"""How long a rank with an error of the process group waits for the other ranks to report why they ended."""
MEETING_S = 300
COLLECTIVE_S = 24 * 3600
"""Timeout of a collective: heartbeats decide whether a process is alive, so a slow save must not time out."""
_ENDING_KEY = "said"
"""Key in the store under which the first rank to end writes how it ends."""


@dataclass(frozen=True)
class Ending:
    """How a run ends: state is "failed" or "stopped". trace: the traceback of an error."""

    state: str
    cause: Cause
    reason: str
    trace: str = ""


def lost(reason: str) -> Ending:
    """Returns the ending of a run that lost a process; such a run resumes from its last checkpoint."""
    return Ending("stopped", Cause.LOST_PROCESS, reason)


class Processes:
    """`count` processes, of which this one has the given `rank`. A single process exchanges and copies nothing."""

    def __init__(self, place: Place | None = None, store: dist.Store | None = None):
        self.rank, self.count, self._local = (place.rank, place.count, place.local) if place else (0, 1, 0)
        self._watch = _Watch(store, self.rank, self.count) if store else None

    @property
    def leads(self) -> bool:
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        if not torch.cuda.is_available():
            return torch.device("cpu")
        if self.count == 1:
            return torch.device("cuda")
        return torch.device("cuda", self._local % torch.cuda.device_count())

    # ---------------------------------------------------------------------------------------------------- exchanging

    def share(self, items: Part) -> Part:
        """Returns this rank's contiguous part of `items`; the parts' sizes differ by one at most."""
        first, last = (len(items) * rank // self.count for rank in (self.rank, self.rank + 1))
        return items[first:last]

    def sum(self, values: Tensor) -> Tensor:
        """Sums `values` over all ranks in place (all_reduce) and returns it; every rank gets the same bits."""
        if self.count > 1:
            dist.all_reduce(values)
        return values

    def broadcast(self, value: Any) -> Any:
        """Returns rank 0's `value` (any object that pickles) on every rank."""
        if self.count == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, device=torch.device("cpu"))
        return box[0]

    def all_gather_objects(self, value: Any) -> list[Any]:
        """Returns every rank's `value` (any object that pickles), ordered by rank."""
        if self.count == 1:
            return [value]
        values = [None] * self.count
        dist.all_gather_object(values, value)
        return values

    def all_gather(self, rows: list[Tensor]) -> Tensor:
        """Concatenates the rows of all ranks along the first axis, ordered by rank.

        rows: this rank's tensors (n, …), of any n and number. The list may be empty, but not on every rank.
        """
        if self.count == 1:
            return torch.cat(rows)
        shapes = self.all_gather_objects(
            (sum(map(len, rows)), rows[0].shape[1:], rows[0].dtype) if rows else (0, None, None)
        )
        _, shape, dtype = next(described for described in shapes if described[1] is not None)
        padded = torch.zeros(max(length for length, *_ in shapes), *shape, dtype=dtype, device=self.device)
        if rows:
            own = torch.cat(rows)
            padded[: len(own)] = own
        parts = [torch.empty_like(padded) for _ in shapes]
        dist.all_gather(parts, padded)
        return torch.cat([part[:length] for part, (length, *_) in zip(parts, shapes, strict=True)])

    # ------------------------------------------------------------------------------------------------------ training

    def synchronised(self, model: nn.Module) -> nn.Module:
        """Wraps `model`, which must hold the same weights on every rank, so that each rank's backward pass ends with
        the mean of all ranks' gradients.

        find_unused_parameters keeps DDP's gradient buckets as they are at the first step. Without it DDP rebuilds them
        after that step, and a resumed run would sum the gradients in another order.
        """
        if self.count == 1:
            return model
        # Only speed is at stake: weights of 1 x 1 convolutions come in two orders that mean the same.
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        return DistributedDataParallel(model, find_unused_parameters=True)

    def no_sync(self, network: nn.Module, last: bool) -> AbstractContextManager[None]:
        """Accumulates gradients without exchanging them, except in the `last` backward pass of a step (DDP's
        no_sync)."""
        if last or self.count == 1:
            return nullcontext()
        assert isinstance(network, DistributedDataParallel)
        return network.no_sync()

    # -------------------------------------------------------------------------------------------------------- ending

    @contextmanager
    def watched(self, on_loss: Callable[[Ending], None]) -> Iterator[None]:
        """Calls on_loss(ending) and ends the process where another process dies while this one waits for it."""
        if self._watch is None:
            yield
            return
        self._watch.on_loss = on_loss
        try:
            yield
        finally:
            self._watch.on_loss = _nothing

    def ends(self, own: Ending, error: BaseException) -> Ending:
        """Returns how the run ends, given how this process does: as another did, where `error` only shows that the
        other is gone. Reports it to the other ranks, which heed the first report."""
        own = replace(own, trace="".join(traceback.format_exception(error)))
        if self._watch is None:
            return own
        other = self._watch.ending() if _is_of_the_group(error) else None
        if other is None:
            self._watch.report(own)
        self._watch.over.set()
        return other or own

    def barrier(self) -> None:
        """Waits until all ranks are here."""
        if self.count > 1:
            dist.barrier()

    def dismiss(self) -> None:
        """Ends the other ranks; called by rank 0 when it has nothing more to do."""
        self.broadcast(None)
        self.leave()

    def leave(self) -> None:
        """Destroys the process group once all ranks are here."""
        if self._watch is not None:
            self.barrier()
            self._watch.over.set()
            dist.destroy_process_group()


def _nothing(ending: Ending) -> None:
    pass


def _is_of_the_group(error: BaseException) -> bool:
    """Whether a collective raised `error`; gloo's errors are plain RuntimeErrors that name its source files."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo/" in str(error))


def join(place: Place | None) -> Processes:
    """Meets the other processes. Raises dist.DistError where they do not come within MEETING_S: a missing process may
    be late or dead, which only its launcher knows."""
    if place is None:
        return Processes()
    within = timedelta(seconds=MEETING_S)
    url = f"tcp://{place.address}:{place.port}"
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        url = "env://"
    store, *_ = next(dist.rendezvous(url, rank=place.rank, world_size=place.count, timeout=within))
    processes = Processes(place, dist.PrefixStore("mixmae", store.clone()))
    assert processes._watch is not None
    processes._watch.start()
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(processes.device)
    dist.init_process_group(
        backend,
        store=dist.PrefixStore("group", store),
        rank=place.rank,
        world_size=place.count,
        timeout=timedelta(seconds=COLLECTIVE_S),
    )
    return processes


class _Watch(threading.Thread):
    """Writes this rank's heartbeat and watches those of others: rank 0 watches all ranks, each of them rank 0."""

    def __init__(self, store: dist.Store, rank: int, count: int):
        super().__init__(name="watch", daemon=True)
        self._store, self._rank, self._lock = store, rank, threading.Lock()
        self._watched = [other for other in range(count) if other != rank] if rank == 0 else [0]
        self.on_loss: Callable[[Ending], None] = _nothing
        self.over = threading.Event()
        self._answered_at = time.monotonic()

    def start(self) -> None:
        self._beat(0)
        super().start()
        threading.Thread(target=self._guard, name="guard of the watch", daemon=True).start()

    def _guard(self) -> None:
        """Ends the process where the store does not answer: rank 0 serves it, and a call never returns where that is
        frozen."""
        while not self.over.wait(BEAT_S):
            if time.monotonic() - self._answered_at > SILENCE_S:
                self._end(lost(f"lost process 0: the store it keeps has not answered for {SILENCE_S:g} s"))

    def run(self) -> None:
        heard: Heard = {rank: (None, time.monotonic()) for rank in self._watched}
        number = 0
        while not self.over.wait(BEAT_S):
            number += 1
            try:
                self._beat(number)
                self._hear(heard)
                ending = self._ending_by(heard)
                self._answered_at = time.monotonic()
            except dist.DistError as error:
                ending = lost(f"lost process 0: the store it keeps is gone ({str(error).splitlines()[0]})")
            if ending and not self.over.wait(PATIENCE_S + 2 * BEAT_S):
                self._end(ending)

    def _beat(self, number: int) -> None:
        with self._lock:
            self._store.set(f"beat/{self._rank}", str(number))

    def _hear(self, heard: Heard) -> None:
        """Brings `heard` up to date with the heartbeats in the store."""
        for rank, (before, _) in list(heard.items()):
            with self._lock:
                key = f"beat/{rank}"
                beat = self._store.get(key) if self._store.check([key]) else None
            if beat != before:
                heard[rank] = beat, time.monotonic()

    def _ending_by(self, heard: Heard) -> Ending | None:
        """Returns how the run ends where another process has ended; None while all live."""
        for rank, (beat, at) in heard.items():
            # A process that has not met the others yet may only be late.
            if time.monotonic() - at > (SILENCE_S if beat is not None else MEETING_S):
                return lost(f"lost process {rank}: it has given no sign of life for {SILENCE_S:g} s")
        reported = self._reported()
        return reported[1] if reported and reported[0] != self._rank else None

    def _end(self, ending: Ending) -> None:
        """Ends the process from this thread, since the main one may wait for ever."""
        try:
            for line in ending.trace.splitlines():
                log.error(line)
            log.error("%s: %s", ending.state, ending.reason)
            self.on_loss(ending)
        finally:
            os._exit(75 if ending.state == "stopped" else 1)

    def report(self, own: Ending) -> None:
        """Writes how this process ends into the store, unless another was first."""
        text = "\0".join((str(self._rank), own.state, own.cause, own.reason, own.trace))
        try:
            with self._lock:
                self._store.compare_set(_ENDING_KEY, "", text)
        except dist.DistError:
            log.warning("the other processes cannot be told: the store is gone")

    def _reported(self) -> tuple[int, Ending] | None:
        """Returns the first rank that reported its end, and how it ends, with the rank named in the reason."""
        with self._lock:
            if not self._store.check([_ENDING_KEY]):
                return None
            rank, state, cause, reason, trace = self._store.get(_ENDING_KEY).decode().split("\0", 4)
        return int(rank), Ending(state, Cause(cause), f"process {rank}: {reason}", trace)

    def ending(self) -> Ending | None:
        """Waits for another rank to report its end or to fall silent, and returns how the run ends by that; None where
        the others live on and report nothing."""
        end = time.monotonic() + PATIENCE_S
        try:
            before = self._beats()
            while time.monotonic() < end:
                if reported := self._reported():
                    return None if reported[0] == self._rank else reported[1]
                time.sleep(0.1)
            silent = [rank for rank, beat in self._beats().items() if beat == before[rank]]
        except dist.DistError:
            return lost("lost process 0: it died")
        if not silent:
            return None
        names = " and ".join(f"process {rank}" for rank in silent)
        return lost(f"lost {names}: died (killed, out of memory or crashed)")

    def _beats(self) -> dict[int, bytes | None]:
        beats = {}
        for rank in self._watched:
            with self._lock:
                key = f"beat/{rank}"
                beats[rank] = self._store.get(key) if self._store.check([key]) else None
        return beats
