"""The processes of one run: what they tell each other, and that none outlives another.

Process 0 leads: it alone writes into the run folder. All compute the same and differ in the chunks and evaluation
batches they take. Besides the group's own connections, each process beats in a store that the first opens; where one is
silent, has failed, or the store is gone, the others end too, whatever they are waiting for.
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

BEAT_S = 1.0
SILENCE_S = 30.0
"""A process that has not beaten for so long is lost."""
PATIENCE_S = 4 * BEAT_S
"""How long after an error of the group is waited for what the others say of it."""
MEETING_S = 300
COLLECTIVE_S = 24 * 3600
"""No collective times out before: whether a process is alive is the beats' business, not that of a slow save."""
_SAID = "said"


@dataclass(frozen=True)
class Ending:
    """How a run ends: state is "failed" or "stopped". trace: the traceback of an error."""

    state: str
    cause: Cause
    reason: str
    trace: str = ""


def lost(reason: str) -> Ending:
    """The end of a run one of whose processes is gone: it goes on from its last checkpoint."""
    return Ending("stopped", Cause.LOST_PROCESS, reason)


class Processes:
    """`count` processes of which this is number `rank`. Alone, nothing is exchanged and nothing is copied."""

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
        """This process's part of `items`: contiguous, the sizes differing by one at most."""
        first, last = (len(items) * rank // self.count for rank in (self.rank, self.rank + 1))
        return items[first:last]

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, the same bits on each; `values` itself, changed."""
        if self.count > 1:
            dist.all_reduce(values)
        return values

    def told(self, value):
        """What process 0 calls this with, on every process."""
        if self.count == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, device=torch.device("cpu"))
        return box[0]

    def each(self, value) -> list:
        """What every process calls this with, by rank."""
        if self.count == 1:
            return [value]
        found = [None] * self.count
        dist.all_gather_object(found, value)
        return found

    def gathered(self, rows: list[Tensor]) -> Tensor:
        """The rows of all processes under one another, by rank. rows: this process's (n, …), n and their number any,
        none too, but not on every process."""
        if self.count == 1:
            return torch.cat(rows)
        shapes = self.each((sum(map(len, rows)), rows[0].shape[1:], rows[0].dtype) if rows else (0, None, None))
        _, shape, dtype = next(found for found in shapes if found[1] is not None)
        padded = torch.zeros(max(length for length, *_ in shapes), *shape, dtype=dtype, device=self.device)
        if rows:
            own = torch.cat(rows)
            padded[: len(own)] = own
        found = [torch.empty_like(padded) for _ in shapes]
        dist.all_gather(found, padded)
        return torch.cat([part[:length] for part, (length, *_) in zip(found, shapes, strict=True)])

    # ------------------------------------------------------------------------------------------------------ training

    def synchronised(self, model: nn.Module) -> nn.Module:
        """`model`, which must hold the same weights everywhere, such that its backward pass gives each process the mean
        of all processes' gradients.

        Looking for unused parameters keeps the buckets in which gradients are summed as they are at the first step.
        Else they are arranged anew after it, and a run gone on with would sum three gradients in another order.
        """
        if self.count == 1:
            return model
        # Only speed is at stake: weights of 1 x 1 convolutions come in two orders that mean the same.
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        return DistributedDataParallel(model, find_unused_parameters=True)

    def adding(self, network: nn.Module, last: bool) -> AbstractContextManager:
        """Inside, backward passes of a synchronised model add up; the `last` one of a step exchanges the sum."""
        if last or self.count == 1:
            return nullcontext()
        assert isinstance(network, DistributedDataParallel)
        return network.no_sync()

    # -------------------------------------------------------------------------------------------------------- ending

    @contextmanager
    def watched(self, on_loss: Callable[[Ending], None]) -> Iterator[None]:
        """Where the run is lost while this process waits for the others, calls on_loss(ending) and ends the process."""
        if self._watch is None:
            yield
            return
        self._watch.on_loss = on_loss
        try:
            yield
        finally:
            self._watch.on_loss = _nothing

    def ends(self, own: Ending, error: BaseException) -> Ending:
        """How the run ends, given how this process does: as another's, where `error` only says that another is gone.
        Tells the others; the first that does is heard."""
        own = replace(own, trace="".join(traceback.format_exception(error)))
        if self._watch is None:
            return own
        found = self._watch.ending() if _of_the_group(error) else None
        if found is None:
            self._watch.say(own)
        self._watch.over.set()
        return found or own

    def together(self) -> None:
        """Waits for all processes."""
        if self.count > 1:
            dist.barrier()

    def dismiss(self) -> None:
        """Process 0 has nothing more to do: the others end too."""
        self.told(None)
        self.leave()

    def leave(self) -> None:
        """Ends the group, all processes together."""
        if self._watch is not None:
            self.together()
            self._watch.over.set()
            dist.destroy_process_group()


def _nothing(ending: Ending) -> None:
    pass


def _of_the_group(error: BaseException) -> bool:
    """Whether `error` is one of exchanging; gloo's are plain RuntimeErrors that name its source files."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo/" in str(error))


def join(place: Place | None) -> Processes:
    """Meets the other processes. Raises dist.DistError where they do not come within MEETING_S: who has not come yet
    may be late or dead, which only what started it can tell."""
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
    """Beats for its process, and watches: process 0 all others, they process 0."""

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
        """The store is kept by process 0: where that is frozen, a call to it never returns."""
        while not self.over.wait(BEAT_S):
            if time.monotonic() - self._answered_at > SILENCE_S:
                self._end(lost(f"lost process 0: the store it keeps has not answered for {SILENCE_S:g} s"))

    def run(self) -> None:
        heard, number = {rank: (None, time.monotonic()) for rank in self._watched}, 0
        while not self.over.wait(BEAT_S):
            number += 1
            try:
                self._beat(number)
                self._hear(heard)
                found = self._found(heard)
                self._answered_at = time.monotonic()
            except dist.DistError as error:
                found = lost(f"lost process 0: the store it keeps is gone ({str(error).splitlines()[0]})")
            if found and not self.over.wait(PATIENCE_S + 2 * BEAT_S):
                self._end(found)

    def _beat(self, number: int) -> None:
        with self._lock:
            self._store.set(f"beat/{self._rank}", str(number))

    def _hear(self, heard: dict) -> None:
        for rank, (before, _) in list(heard.items()):
            with self._lock:
                key = f"beat/{rank}"
                beat = self._store.get(key) if self._store.check([key]) else None
            if beat != before:
                heard[rank] = beat, time.monotonic()

    def _found(self, heard: dict) -> Ending | None:
        """How the run ends, where another process has ended."""
        for rank, (beat, at) in heard.items():
            # Who has not met the others yet may be late.
            if time.monotonic() - at > (SILENCE_S if beat is not None else MEETING_S):
                return lost(f"lost process {rank}: it has given no sign of life for {SILENCE_S:g} s")
        said = self._said()
        return said[1] if said and said[0] != self._rank else None

    def _end(self, ending: Ending) -> None:
        """The other thread may wait for ever: this one ends the process."""
        try:
            log.error("%s: %s", ending.state, ending.reason)
            self.on_loss(ending)
        finally:
            os._exit(75 if ending.state == "stopped" else 1)

    def say(self, own: Ending) -> None:
        text = "\0".join((str(self._rank), own.state, own.cause, own.reason, own.trace))
        try:
            with self._lock:
                self._store.compare_set(_SAID, "", text)
        except dist.DistError:
            log.warning("the other processes cannot be told: the store is gone")

    def _said(self) -> tuple[int, Ending] | None:
        """The rank of the process that first said it ends, and how, in words that name it."""
        with self._lock:
            if not self._store.check([_SAID]):
                return None
            rank, state, cause, reason, trace = self._store.get(_SAID).decode().split("\0", 4)
        return int(rank), Ending(state, Cause(cause), f"process {rank}: {reason}", trace)

    def ending(self) -> Ending | None:
        """How the run ends by what other processes say, or do not say any longer; None where they say nothing."""
        end = time.monotonic() + PATIENCE_S
        try:
            before = self._beats()
            while time.monotonic() < end:
                if said := self._said():
                    return None if said[0] == self._rank else said[1]
                time.sleep(0.1)
            silent = [rank for rank, beat in self._beats().items() if beat == before[rank]]
        except dist.DistError:
            return lost("lost process 0: it died")
        if not silent:
            return None
        names = " and ".join(f"process {rank}" for rank in silent)
        return lost(f"lost {names}: died (killed, out of memory or crashed)")

    def _beats(self) -> dict[int, bytes | None]:
        found = {}
        for rank in self._watched:
            with self._lock:
                key = f"beat/{rank}"
                found[rank] = self._store.get(key) if self._store.check([key]) else None
        return found
