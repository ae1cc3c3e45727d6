#!/usr/bin/env python3
"""A real Slurm cluster of three nodes on this machine, for tests: munge, MariaDB, slurmdbd, slurmctld, three slurmd.

    daemons.py install               the Debian packages that are missing (root, apt)
    daemons.py up FOLDER             start what is not running; all state lies in FOLDER; prints what clients need
    daemons.py up FOLDER --no-accounting --max-array-size 5      the same cluster under another configuration
    daemons.py down FOLDER [--wipe]  cancel its jobs and end its own processes, no others

Clusters in several folders live side by side: each takes a free block of ports. Clients need SLURM_CONF, which `up`
prints. Needs root and no systemd; nothing in /etc is touched but /etc/hosts, where the nodes' names must resolve.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
NODES = ("n1", "n2", "n3")
PROGRAMS = {
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "squeue": "slurm-client",
    "slurmdbd": "slurmdbd",
    "munged": "munge",
    "mariadbd": "mariadb-server-core",
    "mariadb": "mariadb-client-core",
}
DAEMON_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
POLICY = Path("/usr/sbin/policy-rc.d")


def missing() -> list[str]:
    """The Debian packages without which no cluster starts."""
    return [package for program, package in PROGRAMS.items() if not shutil.which(program, path=DAEMON_PATH)]


def install() -> None:
    """Raises subprocess.CalledProcessError when apt does not succeed."""
    packages = missing()
    if not packages:
        return
    # Debian starts a package's service at once unless this program refuses.
    ours = not POLICY.exists()
    if ours:
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        subprocess.run(["apt-get", "update", "-qq"], check=True, env=quiet)
        subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages], check=True, env=quiet)
    finally:
        if ours:
            POLICY.unlink()


class Daemons:
    """The processes of one cluster, known by the pid files in its folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.environment = {**os.environ, "PATH": DAEMON_PATH, "SLURM_CONF": str(folder / "etc/slurm.conf")}

    # What runs

    def pid(self, name: str) -> int | None:
        """The live process of a daemon; a pid file whose number another program now has counts as none."""
        try:
            pid = int((self.folder / "pid" / name).read_text())
            status = Path(f"/proc/{pid}/status").read_text()
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return None
        lines = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        program, node = (name.split("-") + [""])[:2]
        alive = lines["Name"] == program and not lines["State"].startswith("Z") and node.encode() in command
        return pid if alive else None

    def stepds(self, node: str) -> set[int]:
        """The slurmstepd processes of a node: those that hold its log open (they outlive their slurmd)."""
        log, found = str(self.folder / f"log/slurmd-{node}"), set()
        for process in Path("/proc").glob("[0-9]*"):
            try:
                stepd = (process / "comm").read_text() == "slurmstepd\n"
                if stepd and any(os.readlink(file) == log for file in (process / "fd").iterdir()):
                    found.add(int(process.name))
            except OSError:
                continue
        return found

    def of_node(self, node: str) -> set[int]:
        """All that dies with a node: its slurmd, its slurmstepds and the processes of its jobs."""
        slurmd = self.pid(f"slurmd-{node}")
        return self.tree(self.stepds(node)) | ({slurmd} if slurmd else set())

    def tree(self, roots: set[int]) -> set[int]:
        """The processes and all their descendants."""
        parents = {}
        for process in Path("/proc").glob("[0-9]*"):
            try:
                parents[int(process.name)] = int((process / "stat").read_text().rpartition(") ")[2].split()[1])
            except OSError:
                continue
        found = set(roots)
        while grown := {child for child, parent in parents.items() if parent in found} - found:
            found |= grown
        return found

    def client(self, *command: str, timeout: float = 30) -> subprocess.CompletedProcess:
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=timeout)

    # Configuration

    def ports(self) -> dict[str, str]:
        """Ports of this cluster: chosen once, kept in its folder."""
        record = self.folder / "etc/ports.json"
        if not record.exists():
            record.write_text(json.dumps({"first": free_block(3 + len(NODES))}))
        first = json.loads(record.read_text())["first"]
        names = dict(mariadb_port=first, slurmdbd_port=first + 1, slurmctld_port=first + 2)
        return {name: str(port) for name, port in names.items()} | {"slurmd_ports": f"{first + 3}-{first + 5}"}

    def configure(self, accounting: bool, max_array_size: int) -> bool:
        """Writes the configuration; true where slurm.conf is another than before."""
        words = self.ports() | {"folder": str(self.folder), "max_array_size": str(max_array_size)}
        words["accounting"] = (HERE / "accounting.conf").read_text() if accounting else ""
        before = read(self.folder / "etc/slurm.conf")
        for name in ("slurm.conf", "slurmdbd.conf", "gres.conf"):
            text = (HERE / name).read_text()
            # The accounting lines hold words themselves, so they come first.
            for word in ("accounting", *words):
                text = text.replace(f"@{word}@", words[word])
            (self.folder / "etc" / name).write_text(text)
        # slurmdbd refuses a file that others can read.
        (self.folder / "etc/slurmdbd.conf").chmod(0o600)
        return before != read(self.folder / "etc/slurm.conf")

    # Start

    def start(self, accounting: bool, max_array_size: int) -> None:
        """Starts what is not running. Raises TimeoutError, naming the log, for a daemon that does not answer."""
        for name in ("etc", "pid", "log", "state", "munge", "db", "dev", "spool"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "munge").chmod(0o711)
        for gpu in ("gpu0", "gpu1"):
            device = self.folder / "dev" / gpu
            if not device.exists():
                os.mknod(device, 0o666 | 0o020000, os.makedev(1, 3))
        resolve_nodes()
        changed = self.configure(accounting, max_array_size)
        self.start_munge()
        if accounting:
            self.start_database()
            self.start_slurmdbd()
        if changed:
            self.stop("slurmctld")
        if not self.pid("slurmctld"):
            self.launch("slurmctld")
            self.wait("slurmctld", 30, lambda: self.client("scontrol", "ping").returncode == 0)
        elsewhere = [node for node in NODES if self.start_node(node)]
        if changed and elsewhere != list(NODES):
            self.client("scontrol", "reconfigure")
        self.wait("slurmctld", 40, self.all_nodes_up)

    def launch(self, *command: str) -> None:
        done = self.client(*command)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()}")

    def wait(self, name: str, seconds: float, ready: Callable[[], bool]) -> None:
        """Waits for `ready`: so long on an idle machine, on a busy one up to ten times as long."""
        end = time.monotonic() + 10 * seconds
        while not ready():
            if time.monotonic() > end:
                tail = read(self.folder / "log" / name).splitlines()[-8:]
                raise TimeoutError("\n".join([f"{name} is not ready after {10 * seconds} s; end of its log:", *tail]))
            time.sleep(0.05)

    def start_munge(self) -> None:
        if self.pid("munged"):
            return
        munge = self.folder / "munge"
        if not (munge / "key").exists():
            (munge / "key").touch(0o600)
            (munge / "key").write_bytes(os.urandom(128))
        for left in munge.glob("socket*"):
            left.unlink()
        options = dict(socket=munge / "socket", seed_file=munge / "seed", key_file=munge / "key", num_threads=2)
        options |= dict(pid_file=self.folder / "pid/munged", log_file=self.folder / "log/munged")
        # Forced, since it wants all users to reach its socket and the folder may be for root alone.
        self.launch("munged", "--force", *(f"--{name.replace('_', '-')}={value}" for name, value in options.items()))
        self.wait("munged", 10, lambda: self.client("munge", "-n", "-S", str(munge / "socket")).returncode == 0)

    def start_database(self) -> None:
        if self.pid("mariadbd"):
            return
        db, log = self.folder / "db", self.folder / "log/mariadbd"
        common = ["--no-defaults", "--user=root", f"--datadir={db}"]
        if not (db / "mysql").exists():
            method = "--auth-root-authentication-method=normal"
            self.launch("mariadb-install-db", *common, "--skip-test-db", method)
        own = [f"--socket={db}/socket", f"--pid-file={self.folder}/pid/mariadbd", "--bind-address=127.0.0.1"]
        own += [f"--port={self.ports()['mariadb_port']}", "--skip-name-resolve", "--skip-log-bin"]
        small = ["--performance-schema=OFF", "--innodb-buffer-pool-size=64M", "--innodb-log-file-size=48M"]
        small += ["--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0", "--max-connections=50"]
        # slurmdbd asks for this one.
        small += ["--innodb-lock-wait-timeout=900"]
        with open(log, "ab") as out:
            server = ["mariadbd", *common, *own, *small]
            subprocess.Popen(
                server, env=self.environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )
        sql = ["mariadb", "--no-defaults", "-uroot", "-S", f"{db}/socket", "-e"]
        self.wait("mariadbd", 30, lambda: self.client(*sql, "select 1").returncode == 0)
        user = "slurm@'127.0.0.1'"
        self.launch(
            *sql,
            "CREATE DATABASE IF NOT EXISTS slurm_acct; "
            f"CREATE USER IF NOT EXISTS {user} IDENTIFIED BY 'slurm'; GRANT ALL ON slurm_acct.* TO {user};",
        )

    def start_slurmdbd(self) -> None:
        if not self.pid("slurmdbd"):
            self.launch("slurmdbd")
        port = int(self.ports()["slurmdbd_port"])
        self.wait("slurmdbd", 60, lambda: connects(port))
        known = self.client("sacctmgr", "-nP", "show", "cluster", "format=cluster").stdout.split()
        if "mixmae" not in known:
            self.launch("sacctmgr", "-i", "add", "cluster", "mixmae")

    def start_node(self, node: str) -> bool:
        """False where it runs already."""
        if self.pid(f"slurmd-{node}"):
            return False
        (self.folder / "spool" / node).mkdir(exist_ok=True)
        self.launch("slurmd", "-N", node)
        return True

    def node_states(self) -> dict[str, str]:
        lines = self.client("sinfo", "-h", "-N", "-p", "low", "-o", "%N %T").stdout.split("\n")
        return dict(line.split() for line in lines if line)

    def all_nodes_up(self) -> bool:
        states = self.node_states()
        for node, state in states.items():
            if state.startswith(("down", "drain", "inval")) and self.pid(f"slurmd-{node}"):
                self.client("scontrol", "update", f"nodename={node}", "state=resume")
        return len(states) == len(NODES) and all(
            s in ("idle", "mixed", "allocated", "completing") for s in states.values()
        )

    # Stop

    def kill_node(self, node: str) -> int:
        """SIGKILL to slurmd, its slurmstepds and all processes of its jobs, as when a machine loses power.

        Returns how many processes were killed.
        """
        frozen = set()
        # Frozen first, so that none can fork or report while the others die.
        while new := self.of_node(node) - frozen:
            for pid in new:
                send(pid, signal.SIGSTOP)
            frozen |= new
        for pid in frozen:
            send(pid, signal.SIGKILL)
        return len(frozen)

    def stop(self, name: str) -> None:
        pid = self.pid(name)
        if pid:
            send(pid, signal.SIGTERM)
            end = time.monotonic() + 10
            while self.pid(name) == pid:
                if time.monotonic() > end:
                    send(pid, signal.SIGKILL)
                time.sleep(0.02)
        (self.folder / "pid" / name).unlink(missing_ok=True)

    def end(self) -> None:
        if self.pid("slurmctld"):
            # Jobs outlive slurmd, so they are ended first; a controller that does not answer is ended all the same.
            try:
                self.client("scancel", "-u", "root", timeout=5)
                end = time.monotonic() + 5
                while self.client("squeue", "-h", timeout=5).stdout and time.monotonic() < end:
                    time.sleep(0.1)
            except subprocess.TimeoutExpired:
                pass
        for node in NODES:
            self.stop(f"slurmd-{node}")
            self.kill_node(node)
        for name in ("slurmctld", "slurmdbd", "mariadbd", "munged"):
            self.stop(name)


def read(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


def send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def connects(port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex(("127.0.0.1", port)) == 0


def free_block(length: int) -> int:
    """The first of so many free ports in a row, below the range the kernel gives to outgoing connections."""
    for _ in range(100):
        first = random.randrange(12000, 32000, 10)
        if all(bindable(port) for port in range(first, first + length)):
            return first
    raise RuntimeError("no free block of ports between 12000 and 32000")


def bindable(port: int) -> bool:
    with socket.socket() as server:
        try:
            server.bind(("", port))
        except OSError:
            return False
        return True


def resolve_nodes() -> None:
    """The first node's name is where the processes of a distributed job meet, so names must resolve."""
    hosts = Path("/etc/hosts")
    known = hosts.read_text().split()
    lines = [f"127.0.0.1 {node}\n" for node in NODES if node not in known]
    if lines:
        with open(hosts, "a") as file:
            file.write("".join(lines))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("install")
    up = commands.add_parser("up")
    up.add_argument("folder", type=Path)
    up.add_argument("--no-accounting", dest="accounting", action="store_false")
    up.add_argument("--max-array-size", type=int, default=1001)
    down = commands.add_parser("down")
    down.add_argument("folder", type=Path)
    down.add_argument("--wipe", action="store_true")
    return parser.parse_args(arguments)


def main() -> int:
    options = parse(None)
    if options.command == "install":
        install()
        return 0
    daemons = Daemons(options.folder.resolve())
    if options.command == "down":
        daemons.end()
        if options.wipe:
            shutil.rmtree(daemons.folder, ignore_errors=True)
        return 0
    if missing() or os.geteuid():
        print(f"needs root and the Debian packages {' '.join(PROGRAMS.values())}: {__file__} install", file=sys.stderr)
        return 2
    daemons.start(options.accounting, options.max_array_size)
    print(f"export SLURM_CONF={daemons.environment['SLURM_CONF']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
