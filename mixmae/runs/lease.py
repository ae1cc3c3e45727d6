"""Leases: at most one process executes a run, decided by files in the run folder, also over NFS (no torch).

Leases are files `lease-000001`, `lease-000002`, …; the newest counts. A process takes a run by hard-linking a file of
its own to the next number. Only one process can do so, and the link count confirms it even where NFS lost the answer.
The owner's heartbeat sets the lease file's time, which the file server does by its own clock. A run is free where the
newest lease was released, where its owner's process is gone (seen on the same machine), or where the heartbeat is older
than STALE_S and a scheduler that answers does not list the owner's job. Older files stay, so that no number is used
twice.

An owner that was frozen and wakes up finds a newer number; therefore it calls `check` before everything it writes.
"""

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from mixmae.files.retrying import naming, retried
from mixmae.runs.cause import Cause

log = logging.getLogger(__name__)

BEAT_S = 10.0
STALE_S = 90.0
NUMBER_DIGITS = 6

CLOCK_S = 30.0
"""How long a measured offset between the file server's clock and this machine's is used before it is measured again."""
_clocks: dict[Path, tuple[float, float]] = {}

Listed = Callable[[str], bool | None]
"""Whether the scheduler lists a job; None where it does not answer."""


class Held(RuntimeError):
    """Another process holds the run."""


class Lost(RuntimeError):
    """This process held the run and another has taken it over."""

    cause = Cause.LEASE_LOST


@dataclass(frozen=True)
class Owner:
    """The process that holds a lease. token: unique to the lease. boot, space, pid, began: identify the process. job:
    its number in the scheduler, if any."""

    token: str
    host: str
    boot: str
    space: str
    pid: int
    began: int
    job: str | None
    released: bool = False

    @classmethod
    def this_process(cls) -> "Owner":
        pid = os.getpid()
        place = socket.gethostname(), _boot(), _process_space(), pid, _began(pid) or 0
        return cls(uuid.uuid4().hex, *place, os.environ.get("SLURM_JOB_ID"))

    def is_gone(self) -> bool | None:
        """Whether its process has ended; None where it is another machine's, which cannot be seen from here."""
        if (self.boot, self.space) != (_boot(), _process_space()):
            return None
        return _began(self.pid) != self.began


class Lease:
    """This process's hold on `folder`, by the lease file `number`; a thread writes its heartbeat until it is
    released."""

    def __init__(self, folder: Path, number: int, owner: Owner):
        self.folder, self.number, self.owner = folder, number, owner
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"lease of {folder.name}", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raises Lost where the run is no longer this process's."""
        number, owner = newest(self.folder)
        if number != self.number or owner is None or owner.token != self.owner.token:
            by = f"{owner.host} (process {owner.pid})" if owner else "another process"
            raise Lost(f"{self.folder}: taken over by {by} while this process stood still; nothing more is written")

    def release(self) -> None:
        """Frees the run, unless another process has taken it over."""
        self._over.set()
        self._thread.join()
        try:
            self.check()
            _replace(_path(self.folder, self.number), Owner(**{**asdict(self.owner), "released": True}))
        except (Lost, OSError) as error:
            log.warning("%s", error)

    def _beat(self) -> None:
        path, failed = _path(self.folder, self.number), False
        while not self._over.wait(BEAT_S):
            try:
                os.utime(path)
                failed = False
            except OSError as error:
                if not failed:
                    log.warning("%s: %s; the run counts as left after %g s of this", path, error.strerror, STALE_S)
                failed = True


def take(folder: Path, listed: Listed) -> Lease:
    """Takes the run in `folder` for this process. Raises Held, or OSError where the file system has no hard links."""
    owner = Owner.this_process()
    own = folder / f".lease.{owner.token}"
    try:
        with naming(own):
            retried(lambda: folder.mkdir(parents=True, exist_ok=True))
            retried(lambda: _write(own, owner))
        number, holder = newest(folder)
        if number and not is_free(folder, number, holder, own.stat().st_mtime, listed):
            raise Held(f"{folder} is held by {_name(holder)}")
        _link(own, _path(folder, number + 1))
        if own.stat().st_nlink != 2 or newest(folder)[0] != number + 1:
            raise Held(f"{folder}: another process was first to take it")
        return Lease(folder, number + 1, owner)
    finally:
        own.unlink(missing_ok=True)


def _link(own: Path, target: Path) -> None:
    try:
        os.link(own, target)
    except FileExistsError:
        return  # it may be this process's own, the file server's first answer being lost: the link count decides
    except OSError as error:
        what = f"{error.strerror}: the run folder's file system must have hard links; choose another root"
        raise OSError(error.errno, what, str(target)) from error


def is_free(folder: Path, number: int, owner: Owner | None, now: float, listed: Listed) -> bool:
    """Whether the lease may be taken over. now: the file server's time in s. owner: None where its file is damaged."""
    if owner is not None:
        if owner.released:
            return True
        if (gone := owner.is_gone()) is not None:
            return gone
    if now - _path(folder, number).stat().st_mtime <= STALE_S:
        return False
    if owner is None or owner.job is None or owner.job == os.environ.get("SLURM_JOB_ID"):
        return True
    return listed(owner.job) is False


def newest(folder: Path) -> tuple[int, Owner | None]:
    """Returns the newest lease's number (0: there is none) and its owner (None where that cannot be read)."""
    names = [name for name in retried(lambda: os.listdir(folder)) if name.startswith("lease-") and name[6:].isdigit()]
    number = max((int(name[6:]) for name in names), default=0)
    if not number:
        return 0, None
    try:
        return number, Owner(**json.loads(retried(_path(folder, number).read_bytes)))
    except (ValueError, TypeError):
        return number, None


def is_held(folder: Path, root: Path) -> bool:
    """Whether a process holds the run: seen by the process itself on this machine, else by its heartbeat."""
    try:
        number, owner = newest(folder)
        if not number or (owner and (owner.released or owner.is_gone())):
            return False
        if owner and owner.is_gone() is False:
            return True
        return not is_free(folder, number, owner, server_time(root), lambda job: False)
    except FileNotFoundError:
        return False


def server_time(root: Path) -> float:
    """Returns the time in s since 1970 by the clock of the file server of `root`; by this machine's where it is
    read-only."""
    asked_at, ahead = _clocks.get(root, (-CLOCK_S, 0.0))
    if time.monotonic() - asked_at > CLOCK_S:
        probe = root / f".clock.{uuid.uuid4().hex}"
        try:
            probe.touch()
            ahead = probe.stat().st_mtime - time.time()
        except OSError:
            ahead = 0.0
        finally:
            with suppress(OSError):
                probe.unlink()
        _clocks[root] = time.monotonic(), ahead
    return time.time() + ahead


def _name(owner: Owner | None) -> str:
    if owner is None:
        return f"a process whose lease file is damaged; it is free {STALE_S:g} s after its last sign of life"
    return f"process {owner.pid} on {owner.host}" + (f", job {owner.job}" if owner.job else "")


def _path(folder: Path, number: int) -> Path:
    return folder / f"lease-{number:0{NUMBER_DIGITS}d}"


def _write(path: Path, owner: Owner) -> None:
    with path.open("w", encoding="utf-8") as file:
        json.dump(asdict(owner), file)
        file.flush()
        os.fsync(file.fileno())


def _replace(path: Path, owner: Owner) -> None:
    own = path.with_name(f".{path.name}.{owner.token}")
    _write(own, owner)
    own.replace(path)


# ---------------------------------------------------------------------------------------------------------- processes


@cache
def _boot() -> str:
    """Returns the id that this machine's kernel drew when it started."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return socket.gethostname()


def _process_space() -> str:
    """Returns the PID namespace: containers on one machine number their processes separately."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _began(pid: int) -> int | None:
    """Returns when the process began, in the kernel's ticks, which tells apart two with the same pid; None where it has
    ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in ("Z", "X") else int(fields[19])
