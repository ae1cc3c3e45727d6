"""The real cluster does what tests of grids build on: three nodes, arrays, dead nodes, preemption, no accounting."""

import signal
import subprocess
from pathlib import Path

import payloads
import pytest
import submitit
from cluster.daemons import Daemons
from cluster.handle import end_abandoned

HERE = Path(__file__).parent
# A whole node, so that the partition above must take it from the job.
NODE = ("--nodes=1", "--cpus-per-task=4")
COUNT = 'trap "echo got USR2" USR2; echo up on $SLURMD_NODENAME; for i in $(seq 400); do sleep 0.1; done'


def log(folder: Path, job: str) -> str:
    path = folder / f"slurm-{job}.out"
    return path.read_text() if path.exists() else ""


def test_an_array_through_submitit_keeps_its_cap(cluster, tmp_path):
    executor = submitit.AutoExecutor(tmp_path, cluster="slurm")
    setup = [f"export PYTHONPATH={HERE}"]
    executor.update_parameters(
        timeout_min=5, slurm_partition="low", slurm_array_parallelism=2, slurm_cpus_per_task=4, slurm_setup=setup
    )
    jobs = executor.map_array(payloads.nap, [0.5] * 6)
    naps = [job.result() for job in jobs]
    most = max(sum(start <= moment < end for start, end, _ in naps) for moment, _, _ in naps)
    assert most == 2
    assert len({node for _, _, node in naps}) >= 2
    array = jobs[0].job_id.partition("_")[0]
    cluster.wait(array, "COMPLETED")
    cluster.until(lambda: len(cluster.records(array)) == 6, 10, lambda: str(cluster.records(array)))


@pytest.fixture(scope="module")
def widowed(cluster, tmp_path_factory):
    """A job of n2, which has just died. Slurm notices after some 20 s; other tests use the other nodes meanwhile."""
    folder = tmp_path_factory.mktemp("widowed")
    script = 'echo up on $SLURMD_NODENAME; test "$SLURM_RESTART_COUNT" || sleep 300'
    job = cluster.submit(script, "--nodelist=n2", "--open-mode=append", cwd=folder)
    cluster.until(lambda: "up on n2" in log(folder, job), 10, lambda: log(folder, job))
    alive = cluster.daemons.of_node("n2")
    # slurmd, the slurmstepd, the batch shell and its sleep at least.
    assert cluster.kill_node("n2") >= 4
    cluster.until(lambda: not any(map(running, alive)), 5, lambda: f"{alive} are alive")
    return job, folder


def running(pid: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


@pytest.fixture(scope="module")
def preempted(cluster, tmp_path_factory):
    """A job that fills n3, told to go by one of a higher partition; the grace lasts for 5 s and the kill for 3 s."""
    folder = tmp_path_factory.mktemp("preempted")
    low = cluster.submit(COUNT, *NODE, "-w", "n3", "-p", "low", "--signal=B:USR2@60", cwd=folder)
    cluster.until(lambda: "up on" in log(folder, low), 10, lambda: log(folder, low))
    return low, cluster.submit("sleep 1", *NODE, "-w", "n3", "-p", "high", cwd=folder), folder


def test_preemption_of_the_spot_partition_ends_the_job(cluster, widowed, tmp_path):
    spot = cluster.submit("echo up; sleep 300", *NODE, "-w", "n1", "-p", "spot", cwd=tmp_path)
    cluster.until(lambda: "up" in log(tmp_path, spot), 10, lambda: log(tmp_path, spot))
    high = cluster.submit("true", *NODE, "-w", "n1", "-p", "high", cwd=tmp_path)
    cluster.wait(high, "COMPLETED", seconds=20)
    assert cluster.wait(spot, "PREEMPTED", "CANCELLED") == {spot: "PREEMPTED"}


def test_a_task_killed_from_outside(cluster, tmp_path):
    job = cluster.submit("srun sleep 300", "-w", "n1", cwd=tmp_path)
    cluster.wait(job, "RUNNING")
    assert cluster.signal_processes(job, signal.SIGKILL) == 1
    cluster.wait(job, "FAILED")


def test_preemption_sends_the_signal_asked_for(cluster, preempted):
    low, high, folder = preempted
    cluster.until(lambda: "got USR2" in log(folder, low), 10, lambda: log(folder, low))
    cluster.wait(high, "COMPLETED", seconds=20)
    assert cluster.states(low)[low] == "PENDING"
    cluster.run("scancel", low)
    cluster.wait(low, "CANCELLED")


def test_a_dead_node_gives_its_job_back(cluster, widowed):
    job, folder = widowed
    cluster.until(lambda: cluster.node_state("n2").startswith("down"), 30, lambda: cluster.node_state("n2"))
    # The job asked for n2 and waits for it.
    cluster.wait(job, "PENDING")
    cluster.until(lambda: ["NODE_FAIL"] in cluster.records(job, "State"), 10, lambda: str(cluster.records(job)))
    cluster.revive_node("n2")
    cluster.wait(job, "COMPLETED", seconds=40)
    assert log(folder, job).count("up on n2") == 2


def test_without_accounting_sacct_fails_and_jobs_run(cluster, tmp_path):
    with cluster.without_accounting():
        answer = cluster.ask("sacct", "-o", "JobID,State,NodeList", "--parsable2", "-j", "1")
        assert (answer.returncode, answer.stdout) == (1, "")
        assert answer.stderr == "Slurm accounting storage is disabled\n"
        job = cluster.submit("true", cwd=tmp_path)
        cluster.wait(job, "COMPLETED")
    assert cluster.ask("sacct", "-j", job).returncode == 0


def test_long_arrays_are_refused(cluster, tmp_path):
    with cluster.max_array_size(5):
        with pytest.raises(RuntimeError, match="Invalid job array specification"):
            cluster.submit("true", "--array=0-5", cwd=tmp_path)
        job = cluster.submit("true", "--array=0-4", cwd=tmp_path)
        assert len(cluster.states(job)) == 5
        cluster.run("scancel", job)
    assert "= 1001" in cluster.run("scontrol", "show", "config").split("MaxArraySize")[1].splitlines()[0]


def test_an_abandoned_cluster_is_ended_and_no_other(cluster, tmp_path_factory):
    """Two clusters live side by side on other ports; one whose test process is gone is ended by the next."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    clusters = tmp_path_factory.mktemp("clusters")
    other = Daemons(clusters / str(gone.pid))
    try:
        other.start(accounting=False, max_array_size=7)
        assert other.ports() != cluster.daemons.ports()
        assert "= 7" in other.client("scontrol", "show", "config").stdout.split("MaxArraySize")[1].splitlines()[0]
        pids = [other.pid(path.name) for path in (other.folder / "pid").iterdir()]
        assert len(pids) == 5 and all(pids)
        end_abandoned(clusters)
        assert not any(map(running, pids)) and not other.folder.exists()
    finally:
        other.end()
    assert {cluster.node_state(node) for node in cluster.nodes} <= {"idle", "mixed", "allocated", "completing"}
