"""Looks at the machine, the root folder and the cluster, and says what would keep a grid from running (no torch).

Nothing is submitted unless asked, and nothing is left behind.
"""

import fcntl
import importlib.metadata
import os
import platform
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ablations.doctor.findings import CLOCKS_S, Finding, fail, ok, warn
from ablations.slurm.quantities import minutes
from ablations.slurm.resources import Slurm
from ablations.slurm.sites import site_profile
from mixmae.data.sources import SPLITS, folder_of_images, sources
from mixmae.fields.documents import validated
from mixmae.fields.specs import resolve

NEEDED = {
    "sbatch": "grid run submits with it",
    "squeue": "grid run and grid status look at the queue with it",
    "scontrol": "grid run sets dependencies with it",
    "scancel": "grid cancel ends jobs with it",
}


LITTLE_SPACE = 20 * 2**30
RENAMES = 200
ANSWER_S = 30
"""How long a program of Slurm's is waited for."""


def examine(root: Path, site: str | None = None, data: Path | None = None, submit: bool = False) -> Iterator[Finding]:
    """Yields each finding as soon as it is made. site: the profile whose partition, limits and resources are looked at;
    with one, or with `submit` (which runs a small job), a machine without Slurm fails. Raises ConfigError where the
    profile cannot be used."""
    slurm = validated(Slurm, site_profile(site)) if site else None
    yield from _versions()
    if data is not None:
        yield _data(data)
    with _folder(root) as folder:
        if isinstance(folder, Finding):
            yield folder
            return
        yield from _file_system(root, folder)
        programs = list(_programs(required=bool(site or submit)))
        yield from programs
        if shutil.which("sbatch") is None or any(finding.level == "fail" for finding in programs):
            return
        yield from _cluster(slurm)
        if submit:
            from ablations.doctor.probe import run_test_job

            yield from run_test_job(folder, slurm or Slurm())


def _versions() -> Iterator[Finding]:
    yield ok("python", f"{platform.python_version()} on {platform.node()}")
    for name in ("mixmae", "torch", "submitit"):
        try:
            yield ok(name, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield fail(name, "not installed", f"pip install {name}, in the environment that runs mixmae")


def _data(path: Path) -> Finding:
    config = folder_of_images(path)
    try:
        counts = {}
        for split in SPLITS:
            images = resolve(sources[config.name].source)(config, split)
            images.image(0)
            counts[split] = len(images)
    except (OSError, ValueError, LookupError) as error:
        advice = "name a folder that holds train/CLASS/ and val/CLASS/ images; mixmae data check reads all of it"
        return fail("data", f"{path}: {error}", advice)
    return ok("data", f"{path}: {counts['train']} training and {counts['val']} validation images")


# ------------------------------------------------------------------------------------------------------ the root folder


@contextmanager
def _folder(root: Path) -> Iterator[Path | Finding]:
    """Yields a folder of our own in the root, which is removed afterwards; a finding where it cannot be made."""
    made = [path for path in (root, *root.parents) if not path.exists()]
    try:
        root.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=root, prefix=".doctor-"))
    except OSError as error:
        yield fail("root", f"{root} cannot be written: {error.strerror}", "name another with --root or MIXMAE_ROOT")
        return
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        for path in made:
            if path.exists() and not any(path.iterdir()):
                path.rmdir()


def _file_system(root: Path, folder: Path) -> Iterator[Finding]:
    yield ok("root", f"{root} can be written")
    for look in (_renames, _hard_links, _clock, _flock):
        try:
            yield look(folder)
        except OSError as error:
            what = f"failed: {error.strerror}"
            yield fail(look.__name__.strip("_").replace("_", " "), what, "put the root on another file system")
    free = shutil.disk_usage(root).free
    what = f"{free / 2**30:.1f} GiB free"
    yield ok("space", what) if free >= LITTLE_SPACE else warn("space", what, "mixmae grid plan says what a grid needs")


def _renames(folder: Path) -> Finding:
    """Whether a file that others read can be replaced without their ever missing it or seeing half."""
    target, over = folder / "target", threading.Event()
    seen: list[int | str | None] = []
    sizes = (10_000, 20_000)
    target.write_bytes(b"x" * sizes[0])

    def read() -> None:
        while not over.is_set():
            try:
                seen.append(len(target.read_bytes()))
            except OSError as error:
                seen.append(error.strerror)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(RENAMES):
            temporary = folder / "temporary"
            temporary.write_bytes(b"x" * sizes[number % 2])
            temporary.replace(target)
    finally:
        over.set()
        reader.join()
    wrong = {size for size in seen if size not in sizes}
    if wrong:
        what = f"not atomic: a reader of a replaced file saw {', '.join(map(str, wrong))}"
        return fail("renames", what, "put the root on a local disk, NFS, Lustre or the like")
    return ok("renames", f"atomic ({RENAMES} under {len(seen)} reads)")


def _hard_links(folder: Path) -> Finding:
    first, second = folder / "first", folder / "second"
    first.touch()
    os.link(first, second)
    counts = [first.stat().st_nlink]
    try:
        os.link(first, second)
        counts.append(-1)
    except FileExistsError:
        counts.append(first.stat().st_nlink)
    second.unlink()
    counts.append(first.stat().st_nlink)
    if counts != [2, 2, 1]:
        what = f"link counts are {counts}, not [2, 2, 1]"
        return fail("hard links", what, "runs cannot be leased here: put the root on another file system")
    return ok("hard links", "exclusive, and counted")


def _clock(folder: Path) -> Finding:
    before, path = time.time(), folder / "clock"
    path.write_text("now")
    off = path.stat().st_mtime - (before + time.time()) / 2
    what = f"the file server's differs from this machine's by {off:+.1f} s"
    if abs(off) > CLOCKS_S:
        return warn("clock", what, "times in logs disagree; ask for NTP. Leases compare the server's own times")
    return ok("clock", what)


def _flock(folder: Path) -> Finding:
    advice = "runs do without, local grids that share this root need it"
    with (folder / "lock").open("w") as first, (folder / "lock").open("w") as second:
        try:
            fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return warn("flock", f"not there: {error.strerror}", advice)
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return ok("flock", "there")
    return warn("flock", "does not exclude", advice)


# ---------------------------------------------------------------------------------------------------------- the cluster


def _programs(required: bool) -> Iterator[Finding]:
    if shutil.which("sbatch") is None and not required:
        yield ok("slurm", "none here (no sbatch on PATH): local grids work, mixmae grid run FILE")
        return
    for name, why in NEEDED.items():
        if shutil.which(name) is None:
            yield fail(name, "not on PATH", f"{why}; go to a login node, or load the module that has it")
            continue
        works, output = answered(name, "--version")
        yield ok(name, output) if works else fail(name, output, f"{why}; ask the site's administrators")


def answered(*command: str) -> tuple[bool, str]:
    """Runs a program of Slurm's; returns whether it ended well, and its output, or what is wrong in one line."""
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_S)
    except subprocess.TimeoutExpired:
        return False, f"no answer within {ANSWER_S} s"
    except OSError as error:
        return False, str(error.strerror)
    if ended.returncode:
        lines = (ended.stderr or ended.stdout).strip().splitlines()
        return False, lines[-1] if lines else f"ended with {ended.returncode}"
    return True, ended.stdout.strip()


def _cluster(slurm: Slurm | None) -> Iterator[Finding]:
    works, output = answered("squeue", "--noheader", "--me")
    advice = "is the controller up? ask the administrators"
    yield ok("queue", "squeue answers") if works else fail("queue", output, advice)
    yield _accounting()
    yield from _configuration()
    yield from _partitions(slurm)


def _accounting() -> Finding:
    advice = "grids run; what ended a job that left no word (time limit, out of memory, node failure) is not known"
    if shutil.which("sacct") is None:
        return warn("accounting", "no sacct on PATH", advice)
    works, output = answered("sacct", "--noheader", "--allocations", "--format=JobID")
    return ok("accounting", "sacct answers") if works else warn("accounting", f"sacct: {output}", advice)


def _configuration() -> Iterator[Finding]:
    works, output = answered("scontrol", "show", "config")
    if not works:
        yield warn("configuration", f"scontrol: {output}", "limits of the site are not known; Slurm's own are assumed")
        return
    values = dict(line.split("=", 1) for line in output.splitlines() if "=" in line)
    values = {name.strip(): value.strip() for name, value in values.items()}
    yield ok("arrays", f"MaxArraySize {values.get('MaxArraySize', 'not said')}; longer ones are split")
    modes, sent = values.get("PreemptMode", "OFF"), values.get("SlurmctldParameters", "")
    if modes != "OFF" and "preempt_send_user_signal" not in sent:
        what = f"PreemptMode {modes} without preempt_send_user_signal: no warning before a preemption"
        yield warn("preemption", what, "a preempted run goes on from its last save; see save_minutes")
    else:
        yield ok("preemption", f"PreemptMode {modes}" + (", with a warning" if modes != "OFF" else ""))
    if values.get("JobRequeue") == "0":
        yield ok("requeue", "off by default here; jobs of grids ask for it")


def _partitions(slurm: Slurm | None) -> Iterator[Finding]:
    works, output = answered("sinfo", "--noheader", "--format=%P|%a|%l|%D|%c|%m|%G")
    if not works:
        yield warn("partitions", f"sinfo: {output}", "the partitions are not known")
        return
    limits: dict[str, str] = {}
    for line in output.splitlines():
        name, up, limit, nodes, cpus, memory, gres = line.split("|")
        limits.setdefault(name.rstrip("*"), limit)
        node = f"{cpus} CPUs, {memory} MiB, GPUs {gres.replace('(null)', 'none')}"
        what = f"{name}: {up}, limit {limit}, {nodes} nodes, each {node}"
        yield ok("partition", what)
    if slurm is None or slurm.partition is None:
        return
    for name in slurm.partition.split(","):
        if name not in limits:
            yield fail("site", f"no partition {name}", f"write partition: one of {', '.join(limits)} in the profile")
        elif slurm.time and limits[name] != "infinite" and slurm.time > minutes(limits[name]):
            what = f"time: {slurm.time} min is more than the limit of partition {name}, {limits[name]}"
            yield fail("site", what, "write less in the profile")
        else:
            yield ok("site", f"partition {name} is there")
