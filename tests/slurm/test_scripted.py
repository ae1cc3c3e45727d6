"""The scripted Slurm answers like the real one, does what tests tell it and records every call."""

import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import submitit

SUBMITIT = ["-o", "JobID,State,NodeList", "--parsable2"]
STATES = ("PENDING", "RUNNING", "COMPLETED")
LETTERS = "%i|%F|%K|%T|%t|%r|%R|%N|%P|%j|%l|%E|%D|%u|%k"
NAMES = "JobArrayID:|,JobID:|,ArrayJobID:|,ArrayTaskID:|,State:|,Reason:|,NodeList:|,Partition:|,Name:|,TimeLimit:|"
OPTIONS = ["--array=0-4%2", "--job-name=five", "--time=90", "--nodelist=n2", "--cpus-per-task=2", "-p", "low"]
QUESTIONS = [
    ["squeue", "-h", "-j", "JOB", "-o", LETTERS],
    ["squeue", "-j", "JOB", "-o", "%i %T %t %r %R %N %P %j %l %D %u"],
    ["squeue", "-h", "-r", "-t", "all", "-j", "JOB", "-o", LETTERS],
    ["squeue", "--noheader", "--array", "--states=PENDING,RUNNING", "--jobs=JOB", "--format=%.18i %9T %R"],
    ["squeue", "-h", "-r", "-t", "all", "-j", "JOB_1,JOB_3", "-o", "%i %T"],
    ["squeue", "-h", "-t", "all", "-j", "JOB", "-O", NAMES],
    ["squeue", "-h", "-r", "-t", "all", "-j", "JOB", "-O", "JobArrayID,State:12,Reason:.30"],
    ["squeue", "-h", "-n", "five", "-t", "all", "-j", "JOB", "-o", "%i"],
    ["sacct", *SUBMITIT, "-j", "JOB"],
    ["sacct", "-nXP", "-j", "JOB", "-o", "JobID,JobIDRaw,State,ExitCode,NodeList,JobName,Partition"],
    ["sacct", "-X", "-j", "JOB", "-o", "JobID%20,State%30,ExitCode"],
    ["sacct", "-X", "-j", "JOB", "-o", "JobID,JobName,State"],
    ["sacct", "-p", "-X", "-D", "-j", "JOB_0", "-j", "JOB_2", "-o", "jobid,state"],
]
WRONG = [
    ["squeue", "-h", "-j", "4040"],
    ["squeue", "-h", "-j", "4040,4041"],
    ["sacct", "-nXP", "-j", "4040"],
    ["sacct", "-o", "Foo"],
    ["scancel", "4040"],
    ["scontrol", "show", "job", "4040"],
    ["scontrol", "requeue", "4040"],
    ["scontrol", "update", "jobid=4040", "dependency=afterok:1"],
    ["scontrol", "update", "jobid=4040_1", "dependency=afterok:1"],
    ["sbatch", "nofile"],
    ["sbatch", "--array=0-5000", "--wrap=true"],
    ["sinfo", "-h", "-o", "%P|%a|%l|%D|%T|%N|%G|%c|%m"],
    ["sinfo"],
]


def ask(*command: str, **options) -> tuple[int, list[str], str]:
    """Exit code, lines of output in any order (the header first), error."""
    done = subprocess.run(command, capture_output=True, text=True, **options)
    head, *lines = done.stdout.splitlines() or [""]
    return done.returncode, sorted([head, *lines]), done.stderr.strip()


def sbatch(*words: str, script: str = "#!/bin/bash\nuntil test -e go; do sleep 0.1; done\n", **options) -> str:
    done = subprocess.run(["sbatch", *words], input=script, check=True, capture_output=True, text=True, **options)
    return done.stdout.split()[-1]


def answers(job: str) -> dict[str, tuple]:
    """What the commands on PATH say of the job, its id and the ids of its elements written as JOB and N."""
    found = {}
    for question in QUESTIONS:
        code, lines, error = ask(*(word.replace("JOB", job) for word in question))
        found[" ".join(question)] = code, [line.replace(job, "JOB") for line in lines], error
    return found


@pytest.fixture(scope="module")
def real_answers(cluster, tmp_path_factory):
    """A held array, the same with two running and an element cancelled, and when it is done; and wrong questions."""
    folder = tmp_path_factory.mktemp("real")
    job = sbatch("--hold", *OPTIONS, cwd=folder)
    # Accounting hears of what is held after some seconds.
    cluster.until(lambda: len(cluster.records(job)) == 1, 60, lambda: str(cluster.records(job)))
    found = {"PENDING": answers(job)}
    cluster.run("scancel", f"{job}_4")
    cluster.run("scontrol", "release", job)

    def two_run():
        return list(cluster.states(job).values()).count("RUNNING") == 2 and len(cluster.records(job)) == 3

    cluster.until(two_run, 60, lambda: cluster.run("squeue"))
    found["RUNNING"] = answers(job)
    (folder / "go").touch()
    cluster.wait(job, "COMPLETED")
    cluster.until(
        lambda: [r[1] for r in cluster.records(job)] == ["COMPLETED"] * 4, 60, lambda: str(cluster.records(job))
    )
    found["COMPLETED"] = answers(job)
    return job, found, {" ".join(question): ask(*question) for question in WRONG}


@pytest.fixture
def stand_in_answers(scripted, real_answers):
    """The same questions to the stand-in, whose jobs were brought into the same states under the same job id."""
    job, _, _ = real_answers
    scripted.next_id(int(job))
    assert sbatch("--hold", *OPTIONS) == job
    found = {"PENDING": answers(job)}
    subprocess.run(["scancel", f"{job}_4"], check=True)
    subprocess.run(["scontrol", "release", job], check=True)
    for element in (0, 1):
        scripted.set(job, element, "RUNNING", "n2")
    found["RUNNING"] = answers(job)
    for element in (0, 1, 2, 3):
        scripted.set(job, element, "RUNNING", "n2")
        scripted.set(job, element, "COMPLETED", "n2")
    found["COMPLETED"] = answers(job)
    return found, {" ".join(question): ask(*question) for question in WRONG}


@pytest.mark.parametrize("state", STATES)
def test_it_answers_like_the_real_one(real_answers, stand_in_answers, state):
    real, stand_in = real_answers[1][state], stand_in_answers[0][state]
    for question in real:
        assert stand_in[question] == real[question], question


def test_it_refuses_like_the_real_one(real_answers, stand_in_answers):
    for question, answer in real_answers[2].items():
        assert stand_in_answers[1][question] == answer, question


def test_states_are_what_the_test_says(scripted):
    job = int(sbatch("--array=0-5"))
    ended = ["OUT_OF_MEMORY", "TIMEOUT", "PREEMPTED", "CANCELLED"]
    for element, state in enumerate(ended):
        scripted.set(job, element, "RUNNING", "n3")
        scripted.set(job, element, state, "n3")
    accounted = ask("sacct", "-nXP", "-j", str(job), "-o", "JobID,State,ExitCode")[1]
    assert accounted == [
        f"{job}_0|OUT_OF_MEMORY|0:125",
        f"{job}_1|TIMEOUT|0:0",
        f"{job}_2|PREEMPTED|0:0",
        f"{job}_3|CANCELLED by 0|0:0",
        f"{job}_[4-5]|PENDING|0:0",
    ]
    assert ask("squeue", "-h", "-j", str(job), "-o", "%i %T")[1] == [f"{job}_[4-5] PENDING"]
    assert scripted.states(job) == dict(enumerate(ended + ["PENDING", "PENDING"]))


def test_a_node_failure_seen_in_passing(scripted, tmp_path):
    """Submitit takes NODE_FAIL for the end though Slurm has requeued the job."""
    executor = submitit.AutoExecutor(tmp_path, cluster="slurm")
    job = executor.submit(sum, [1, 2])
    job.watcher.clear()
    scripted.set(job.job_id, None, "RUNNING")
    assert not job.done(force_check=True)
    scripted.set(job.job_id, None, "NODE_FAIL", seen_by=("sacct",))
    scripted.set(job.job_id, None, "PENDING", seen_by=("squeue",))
    assert job.done(force_check=True)
    assert ask("squeue", "-h", "-j", job.job_id, "-o", "%T %r")[1] == ["PENDING BeginTime"]
    scripted.set(job.job_id, None, "PENDING", seen_by=("sacct",))
    scripted.set(job.job_id, None, "RUNNING", "n2")
    records = ask("sacct", "-nXPD", "-j", job.job_id, "-o", "State,NodeList")[1]
    assert records == ["NODE_FAIL|n1", "RUNNING|n2"]
    job.watcher.clear()
    assert not job.done(force_check=True)


def test_a_cancelled_pending_element_is_missing(scripted):
    job = sbatch("--array=0-2%1")
    subprocess.run(["scancel", f"{job}_1"], check=True)
    assert ask("squeue", "-h", "-r", "-t", "all", "-j", job, "-o", "%i")[1] == [f"{job}_0", f"{job}_2"]
    # Accounting wrote the array's row before and goes on showing it.
    assert ask("sacct", "-nXP", "-j", job, "-o", "JobID,State")[1] == [f"{job}_[0-2%1]|PENDING"]
    for element in (0, 2):
        scripted.set(job, element, "RUNNING")
        scripted.set(job, element, "COMPLETED")
    assert ask("sacct", "-nXP", "-j", job, "-o", "JobID")[1] == [f"{job}_0", f"{job}_2"]


def test_a_submitted_function_runs(scripted, tmp_path):
    executor = submitit.AutoExecutor(tmp_path, cluster="slurm")
    executor.update_parameters(slurm_partition="low", timeout_min=90, slurm_array_parallelism=2, slurm_exclude="n1")
    jobs = executor.map_array(divmod, [7, 7], [2, 0])
    array = jobs[0].job_id.partition("_")[0]
    assert scripted.run(array, 0).returncode == 0
    assert scripted.run(array, 1).returncode == 1
    assert jobs[0].result() == (3, 1)
    assert "ZeroDivisionError" in str(jobs[1].exception())
    assert scripted.states(array) == {0: "COMPLETED", 1: "FAILED"}
    directives = scripted.directives(array)
    expected = dict(array="0-1%2", partition="low", time="90", exclude="n1", signal="USR2@90")
    assert {name: directives[name] for name in expected} == expected
    assert scripted.script(array).splitlines()[0] == "#!/bin/bash"
    (call,) = scripted.calls("sbatch")
    assert "#SBATCH --array=0-1%2" in call.script


def test_held_elements_wait_for_what_they_are_told(scripted):
    first = sbatch()
    job = sbatch("--hold", "--array=0-1")
    subprocess.run(["scontrol", "update", f"jobid={job}_1", f"dependency=afterok:{first}"], check=True)
    subprocess.run(["scontrol", "release", job], check=True)
    answer = ask("squeue", "-h", "-r", "-j", job, "-o", "%i %r %E")
    assert answer[1] == [f"{job}_0 None (null)", f"{job}_1 Dependency afterok:{first}(unfulfilled)"]
    # What starts is for the test to say; accounting knows only what could.
    assert ask("sacct", "-nXP", "-j", job, "-o", "JobID")[1] in ([f"{job}_[0]"], [f"{job}_0"])


def test_requeue_counts_restarts(scripted):
    job = sbatch()
    scripted.set(job, None, "RUNNING")
    subprocess.run(["scontrol", "requeue", job], check=True)
    assert ask("sacct", "-nXPD", "-j", job, "-o", "State")[1] == ["PENDING", "REQUEUED"]
    assert "Restarts=1" in ask("scontrol", "show", "job", "-o", job)[1][0]


def test_a_site_without_accounting(scripted):
    job = sbatch()
    scripted.no_accounting()
    assert ask("sacct", *SUBMITIT, "-j", job) == (1, [""], "Slurm accounting storage is disabled")


def test_commands_that_are_missing_slow_or_fail(scripted):
    job = sbatch()
    scripted.fail("squeue", times=1)
    assert ask("squeue", "-j", job) == (1, [""], "slurm_load_jobs error: Socket timed out on send/recv operation")
    assert ask("squeue", "-h", "-j", job)[0] == 0
    scripted.fail("squeue", error="", seconds=30)
    with pytest.raises(subprocess.TimeoutExpired):
        ask("squeue", timeout=0.5)
    scripted.mend("squeue")
    assert ask("squeue", timeout=10)[0] == 0
    scripted.remove("scontrol")
    assert shutil.which("scontrol") is None


def test_arrays_longer_than_the_site_allows_are_refused(scripted):
    scripted.max_array_size(5)
    assert sbatch("--array=0-4")
    code, _, error = ask("sbatch", "--array=0-5", "--wrap=true")
    assert (code, error) == (1, "sbatch: error: Batch job submission failed: Invalid job array specification")
    assert len(scripted.jobs()) == 1


def test_what_is_not_understood_is_an_error(scripted):
    for command in (["squeue", "--json"], ["squeue", "-o", "%z"], ["sacct", "-o", "MaxRSS"], ["scontrol", "reboot"]):
        assert ask(*command)[0] != 0, command


def test_submissions_at_once_are_all_kept(scripted):
    with ThreadPoolExecutor(8) as pool:
        jobs = list(pool.map(lambda _: sbatch("--array=0-9"), range(16)))
    assert sorted(map(int, jobs)) == scripted.jobs()
    assert len(scripted.jobs()) == len(scripted.calls("sbatch")) == 16


def test_a_queue_of_5000_is_read_at_once(scripted):
    job = sbatch("--array=0-999")
    jobs = [job] + [sbatch("--array=0-999") for _ in range(4)]
    start = time.monotonic()
    code, lines, _ = ask("squeue", "-h", "-r", "-j", ",".join(jobs), "-o", "%i %T %r")
    assert (code, len(lines)) == (0, 5000)
    assert time.monotonic() - start < 20, "not a call an entry"
