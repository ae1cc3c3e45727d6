"""Grids on a real Slurm, through everything a cluster does to jobs: nothing is lost, nothing runs twice."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from grids import BASE, FINETUNE, KNN, SLURM, TestGrid, local, processes_of, write_grid

from support import several
from support.checkout import write_readme_plugin
from support.file_systems import fill
from support.forked import program

LONG = {**BASE["pretrain"], "epochs": 40}
"""Some ten seconds, so that there is time to do something to it."""
PIXELS = {"method": "supervised", "pretrain": None, "evaluations": {"knn": {**KNN, "features": "pixels"}}}


def test_six_jobs_on_three_nodes_give_what_they_give_here(cluster, tmp_path, report):
    evaluations = {"knn": KNN, "finetune": FINETUNE}
    packed = {"overrides": [{"stage": "knn", "set": {"pack": 2}}]}
    settings = {"seeds": (0, 1), "evaluations": evaluations, "slurm": packed}
    grid = write_grid(cluster, tmp_path, "six", python=sys.executable, **settings)
    said = grid.launch()
    assert "2 tasks, 2 pretrain" in said and "2 tasks, 2 finetune" in said and "1 task, 2 knn" in said
    assert grid.states().count("waiting") == 4, "each evaluation waits for its own pretraining"
    here = local(grid, tmp_path / "here")
    jobs = grid.settled()
    assert [job["state"] for job in jobs] == ["done"] * 6 and {job["tries"] for job in jobs} == {1}
    assert json.loads(grid.ask("status", str(grid.file), "--json").stdout)["jobs"] == jobs
    assert grid.left() == here.left()
    assert "nothing to submit" in grid.launch()
    report("slurm: 6 jobs through arrays, all equal to the local run's bit for bit")


# -------------------------------------------------------------------------------------- one run each, disturbed in turn


def preempt(grid):
    """The partition above takes the node; Slurm says so first (USR2)."""
    node = ("--nodes=1", "--cpus-per-task=4", "--nodelist=n1", "-p", "high")
    return grid.cluster.submit("sleep 3", *node, cwd=grid.root)


def requeue(grid):
    grid.cluster.run("scontrol", "requeue", grid.task())


def kill(grid):
    for pid in processes_of(grid):
        os.kill(pid, signal.SIGKILL)


def lose_the_node(grid):
    grid.cluster.kill_node("n2")


def go_on_elsewhere(grid):
    """Bound to the dead node until now. Slurm sends a node that comes back the orders it missed, and among them the one
    to end this very job, whose new start they would meet there."""
    ask = grid.cluster.ask
    grid.cluster.until(lambda: grid.cluster.node_state("n2").startswith("down"), 40, lambda: ask("sinfo").stdout)

    def freed():
        return ask("scontrol", "update", f"JobId={grid.task()}", "ReqNodeList=n3").returncode == 0

    grid.cluster.until(freed, 40, lambda: ask("squeue").stdout)


def cancel_by_hand(grid):
    grid.cluster.run("scancel", grid.task())


DISTURBANCES = {
    "preempted": (preempt, {"cpus_per_task": 4, "directives": {"nodelist": "n1"}}),
    "requeued": (requeue, {"directives": {"nodelist": "n3"}}),
    "killed": (kill, {"directives": {"nodelist": "n3"}}),
    "node_lost": (lose_the_node, {"directives": {"nodelist": "n2"}}),
    "cancelled": (cancel_by_hand, {"directives": {"nodelist": "n3"}}),
}


@pytest.fixture(scope="module")
def untouched(cluster, tmp_path_factory):
    """What the one run that the tests below disturb leaves where nothing disturbs it."""
    folder = tmp_path_factory.mktemp("untouched")
    return local(write_grid(cluster, folder, "alone", pretrain=LONG), folder / "here").left()


@pytest.fixture(scope="module")
def disturbed(cluster, untouched, tmp_path_factory):
    """All at once, since most of the time is waiting: a root each, and what was done to its run once it had saved."""
    folder = tmp_path_factory.mktemp("disturbed")
    grids = {}
    for name, (_, slurm) in DISTURBANCES.items():
        grids[name] = write_grid(cluster, folder, name, slurm=slurm, root=folder / name, pretrain=LONG)
        grids[name].launch()
    for name, (disturb, _) in DISTURBANCES.items():
        grid = grids[name]
        cluster.until(grid.saved, 90, lambda grid=grid: str(grid.jobs()))
        assert grid.states() == ["running"]
        disturb(grid)
    yield grids
    cluster.revive_node("n2")


@pytest.mark.parametrize("name", DISTURBANCES)
def test_a_disturbed_run_ends_as_if_untouched(disturbed, untouched, cluster, name, report):
    grid = disturbed[name]
    log = grid.folder() / "log.txt"
    if name == "node_lost":
        go_on_elsewhere(grid)
    if name in ("killed", "cancelled"):
        stopped = cluster.until(lambda: grid.states() == ["stopped"], 30, lambda: f"{grid.jobs()}")
        assert stopped
        grid.launch()

    def done():
        return grid.states() == ["done"]

    cluster.until(done, 120, lambda: f"{grid.jobs()}\n{cluster.run('squeue')}\n{log.read_text()}")
    (job,) = grid.jobs()
    assert job["tries"] == 2
    assert job["node"] == DISTURBANCES[name][1]["directives"]["nodelist"] or (name, job["node"]) == ("node_lost", "n3")
    assert log.read_text().count("resumed at step") == 1
    if name == "preempted":
        assert "stopped: saved at step" in log.read_text(), "it was told, and saved"
    assert grid.left() == untouched
    report(f"slurm: {name}: 1 run started twice, finished, bit for bit as if untouched")


# ------------------------------------------------------------------------------------------------------------- failures


def test_dependents_of_a_failed_pretraining_are_blocked_and_go_with_its_retry(cluster, tmp_path):
    grid = write_grid(cluster, tmp_path, "failing", evaluations={"knn": KNN})
    plan = json.loads(grid.ask("plan", str(grid.file), "--json").stdout)
    pretraining = next(job for job in plan["jobs"] if job["stage"] == "pretrain")
    in_the_way = grid.root / "pretrain" / pretraining["id"] / "checkpoints"
    in_the_way.parent.mkdir(parents=True)
    in_the_way.write_text("a file where a folder belongs")
    grid.launch()
    jobs = grid.settled()
    assert [job["state"] for job in jobs] == ["failed", "blocked"], jobs
    assert str(in_the_way) in jobs[0]["reason"]
    assert grid.launch().startswith("nothing to submit"), "a failure is not tried again by itself"
    in_the_way.unlink()
    assert "1 failed run queued" in grid.ask("retry", str(grid.file)).stdout
    grid.launch()
    assert [job["state"] for job in grid.settled()] == ["done", "done"]


def test_a_full_disk_and_an_unwritable_folder_are_named_and_gone_on_after(
    cluster, untouched, tmp_path, mounted, report
):
    small = mounted("-t", "tmpfs", "-o", "size=16M", "tmpfs")
    full = write_grid(cluster, tmp_path, "full", root=small, pretrain=LONG)
    later = {"directives": {"begin": "now+5"}}
    unwritable = write_grid(cluster, tmp_path, "unwritable", slurm=later, pretrain=LONG)
    for grid in (full, unwritable):
        grid.launch()
    bound = mounted("--bind", str(unwritable.folder()), over=unwritable.folder())
    subprocess.run(["mount", "-o", "remount,bind,ro", bound], check=True)
    cluster.until(full.saved, 60, lambda: str(full.jobs()))
    fill(small / "ballast", room=0)
    for grid, said in ((full, "No space left on device"), (unwritable, "Read-only file system")):
        cluster.until(lambda grid=grid: not cluster.run("squeue", "-h", "-j", grid.task()), 60, lambda: "still runs")
        told = grid.ask("why", grid.folder().name).stdout
        assert said in told and str(grid.folder()) in told, told
    (small / "ballast").unlink()
    subprocess.run(["mount", "-o", "remount,bind,rw", bound], check=True)
    for grid in (full, unwritable):
        grid.launch()
        grid.ask("retry", str(grid.file))
        grid.launch()
    for grid in (full, unwritable):
        (job,) = grid.settled()
        assert job["state"] == "done", job
        assert grid.left() == untouched
    cluster.until(lambda: cluster.run("squeue", "-h") == "", 30, lambda: cluster.run("squeue"))
    report("slurm: a full disk and an unwritable folder: 2 runs failed by name, finished bit for bit as if untouched")


def test_two_tasks_on_two_nodes_are_one_run(cluster, tmp_path):
    """Against two processes on this machine, which sum in the same order."""
    grid = write_grid(cluster, tmp_path, "two", python=sys.executable, slurm={"nodes": 2, "tasks_per_node": 1})
    grid.launch()
    (job,) = grid.settled()
    assert job["state"] == "done", (grid.folder() / "log.txt").read_text()
    assert json.loads((grid.folder() / "environment.json").read_text())["processes"] == 2
    assert "2 processes" in (grid.folder() / "log.txt").read_text()
    here = tmp_path / "here"
    file = grid.file.with_name("two-base.yaml")
    several.finish(several.start(2, program, "--root", here, "run", file))
    for name in ("metrics.jsonl", "checkpoints/final.safetensors"):
        assert (grid.folder() / name).read_bytes() == (here / grid.folder().relative_to(grid.root) / name).read_bytes()


# ------------------------------------------------------------------------------------------------------------- launches


def test_a_plug_in_on_the_users_path_runs_on_a_node(cluster, tmp_path, monkeypatch, forgotten_plugins):
    write_readme_plugin(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH")))))
    monkeypatch.syspath_prepend(tmp_path)
    random = {"method": "supervised", "pretrain": None, "evaluations": {"mean": {"kind": "nearest_mean:SPEC"}}}
    grid = write_grid(cluster, tmp_path, "plugged", python=sys.executable, **random)
    grid.launch()
    (job,) = grid.settled()
    assert (job["stage"], job["state"]) == ("nearest_mean:SPEC", "done"), job
    (result,) = grid.root.glob("*/*/result.json")
    assert json.loads(result.read_text())["top1"] > 20, "far above guessing, already with random weights"


def test_arrays_longer_than_the_site_allows_are_split(cluster, tmp_path, rounds, report):
    jobs, size = rounds((3, 2), (23, 5))
    with cluster.max_array_size(size):
        grid = write_grid(cluster, tmp_path, "many", seeds=range(jobs), **PIXELS)
        said = grid.launch()
        assert len(re.findall(r"^job \d+: ", said, re.MULTILINE)) == -(-jobs // size), said
        found = grid.settled(300)
    assert [job["state"] for job in found] == ["done"] * jobs and {job["tries"] for job in found} == {1}
    report(f"slurm: {jobs} jobs under MaxArraySize {size}: all run once")


def test_two_launches_at_once_submit_every_run_once(cluster, tmp_path):
    grid = write_grid(cluster, tmp_path, "twice", seeds=(0, 1), **PIXELS)
    command, options = grid.command("run", str(grid.file)), {"env": cluster.environment, "text": True}
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, **options) for _ in range(2)]
    said = sorted(process.communicate(timeout=600)[0] for process in both)
    assert [process.returncode for process in both] == [0, 0]
    assert "2 tasks" in said[0] and said[1].startswith("nothing to submit")
    assert {job["tries"] for job in grid.settled()} == {1}


def test_a_launch_that_dies_leaves_nothing_held_and_nothing_twice(cluster, tmp_path, rounds, report):
    deaths, moments = 0, [0.3 + 0.7 * number / rounds(4, 16) for number in range(rounds(4, 16))]
    grids = []
    for number, moment in enumerate(moments):
        together = {"pack": 1 + number % 2}
        grid = write_grid(cluster, tmp_path / str(number), f"dies{number}", (0, 1), slurm=together, **PIXELS)
        launch = subprocess.Popen(grid.command("run", str(grid.file)), env=cluster.environment, stdout=subprocess.PIPE)
        time.sleep(moment)
        deaths += launch.poll() is None
        launch.kill()
        launch.communicate()
        grid.launch()
        grids.append(grid)
    for grid in grids:
        jobs = grid.settled(180)
        assert [(job["state"], job["tries"]) for job in jobs] == [("done", 1)] * 2, jobs
    cluster.until(lambda: cluster.run("squeue", "-h") == "", 30, lambda: cluster.run("squeue"))
    report(f"slurm: {deaths} launches killed, {2 * len(grids)} runs finished, 0 lost, 0 run twice")


def test_without_accounting_a_killed_run_goes_on(cluster, tmp_path):
    with cluster.without_accounting():
        grid = write_grid(cluster, tmp_path, "unaccounted", pretrain=LONG)
        grid.launch()
        cluster.until(grid.saved, 60, lambda: str(grid.jobs()))
        kill(grid)
        cluster.until(lambda: grid.states() == ["stopped"], 30, lambda: str(grid.jobs()))
        grid.launch()
        (job,) = grid.settled()
    assert (job["state"], job["tries"]) == ("done", 2)


# ------------------------------------------------------------------------------------------------------- the long form


@pytest.mark.long
def test_a_time_limit_is_warned_of_and_gone_on_after(cluster, tmp_path, report):
    training = {**LONG, "epochs": 1500}
    grid = write_grid(cluster, tmp_path, "limited", slurm={"time": "2:00", "signal_seconds": 30}, pretrain=training)
    grid.launch()
    cluster.until(lambda: grid.states() == ["done"], 900, lambda: f"{grid.jobs()}\n{cluster.run('squeue')}")
    (job,) = grid.jobs()
    assert job["tries"] > 1
    assert (grid.folder() / "log.txt").read_text().count("stopped: saved at step") == job["tries"] - 1
    assert grid.left() == local(grid, tmp_path / "here").left()
    report(f"slurm: {job['tries'] - 1} time limits, 1 run, bit for bit as if untouched")


@pytest.mark.long
def test_the_whole_demo(cluster, tmp_path, report):
    import ablations

    demo = yaml.safe_load((Path(ablations.__file__).parent / "demo.yaml").read_text())
    demo["resources"] = {"executor": "slurm", "threads": 1, "slurm": {**SLURM, "memory": "1G", "time": "60:00"}}
    file = tmp_path / "demo.yaml"
    file.write_text(yaml.safe_dump(demo))
    grid = TestGrid(cluster, file, tmp_path / "runs", sys.executable)
    grid.launch()
    jobs = grid.settled(3600)
    assert {(job["state"], job["tries"]) for job in jobs} == {("done", 1)}
    assert grid.left() == local(grid, tmp_path / "here").left()
    report(f"slurm: the demo's {len(jobs)} jobs, all equal to the local run's bit for bit")
