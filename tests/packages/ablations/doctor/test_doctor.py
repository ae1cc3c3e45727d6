"""`mixmae doctor` on machines that are scripted here: commands on PATH that answer, fail or run what they are given."""

import json
import os
import time
from pathlib import Path

import pytest
from PIL import Image

import cli
from ablations.doctor import examine as doctor
from ablations.doctor import probe
from ablations.doctor.examine import examine
from mixmae.fields.documents import ConfigError

CHECKOUT = Path(cli.__file__).parent
ANSWERS = {
    "sbatch": "echo slurm 23.02.1",
    "squeue": "echo slurm 23.02.1",
    "scontrol": """\
case "$*" in
    "show config") printf 'MaxArraySize            = 2001\\nPreemptMode             = REQUEUE\\nJobRequeue = 0\\n';;
    *) echo slurm 23.02.1;;
esac""",
    "scancel": "echo slurm 23.02.1",
    "sacct": "echo 17",
    "sinfo": "printf 'gpu*|up|1-00:00:00|8|64|512000|gpu:a100:4\\ncpu|up|infinite|20|64|256000|(null)\\n'",
}


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """Writes programs of Slurm's; PATH holds only them and the shell's own, so that a real Slurm is not seen."""
    folder, system = tmp_path / "bin", tmp_path / "system"
    folder.mkdir()
    system.mkdir()
    for name in ("sh", "bash", "cat", "env", "sleep"):
        (system / name).symlink_to(f"/bin/{name}")
    monkeypatch.setenv("PATH", f"{folder}:{system}")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    def write(**answers: str) -> None:
        for name, answer in answers.items():
            (folder / name).write_text(f"#!/bin/sh\n{answer}\n")
            (folder / name).chmod(0o755)

    return write


@pytest.fixture
def site(tmp_path):
    folder = tmp_path / "config" / "mixmae" / "sites"
    folder.mkdir(parents=True)

    def write(text: str) -> str:
        (folder / "lab.yaml").write_text(text)
        return "lab"

    return write


def found(root: Path, **how) -> dict[str, list]:
    findings = {}
    for finding in examine(root, **how):
        findings.setdefault(finding.about, []).append(finding)
    return findings


def levels(findings: dict[str, list]) -> dict[str, str]:
    return {about: each[-1].level for about, each in findings.items()}


# ---------------------------------------------------------------------------------------------------- without a cluster


def test_a_laptop_is_fine(tmp_path, commands):
    findings = found(tmp_path / "deep" / "runs")
    assert set(levels(findings).values()) <= {"ok", "warn"}
    assert findings["slurm"][0].said == "none here (no sbatch on PATH): local grids work, mixmae grid run FILE"
    assert {"renames", "hard links", "clock", "flock", "space", "python", "torch"} <= set(findings)
    assert not (tmp_path / "deep").exists(), "nothing is left behind"


def test_what_was_there_stays(tmp_path, commands):
    (tmp_path / "runs").mkdir()
    found(tmp_path / "runs")
    assert list((tmp_path / "runs").iterdir()) == []


@pytest.mark.parametrize("how", [{"submit": True}, {"site": "lab"}])
def test_no_slurm_fails_where_it_is_asked_for(tmp_path, commands, site, how):
    site("time: 5\n")
    findings = found(tmp_path, **how)
    assert {findings[name][0].level for name in ("sbatch", "squeue", "scontrol", "scancel")} == {"fail"}
    assert "queue" not in findings and "test job" not in findings


def test_an_unknown_site_is_refused(tmp_path, commands, site):
    site("time: 5\n")
    with pytest.raises(ConfigError, match=r"no site profile 'lba'; did you mean lab\?"):
        list(examine(tmp_path, site="lba"))


def test_a_root_that_cannot_be_made(tmp_path, commands):
    (tmp_path / "file").touch()
    root = found(tmp_path / "file" / "runs")["root"][0]
    assert (root.level, root.advice) == ("fail", "name another with --root or MIXMAE_ROOT")


def test_folders_that_rename_or_link_badly_are_found(tmp_path, commands, monkeypatch):
    replace, link = Path.replace, os.link

    def in_two_steps(path, target):
        target.unlink()
        time.sleep(0.001)
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", in_two_steps)
    monkeypatch.setattr(os, "link", lambda old, new: Path(new).write_bytes(b"") and None)
    findings = found(tmp_path)
    assert findings["renames"][0].level == "fail" and "No such file" in findings["renames"][0].said
    assert findings["hard links"][0].level == "fail" and "not [2, 2, 1]" in findings["hard links"][0].said
    monkeypatch.setattr(os, "link", link)

    def refused(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    assert found(tmp_path)["hard links"][0].said == "failed: Operation not permitted"


def test_a_clock_that_is_off_and_a_missing_flock_warn(tmp_path, commands, monkeypatch):
    now = doctor.time.time
    monkeypatch.setattr(doctor.time, "time", lambda: now() + 60)
    monkeypatch.setattr(
        doctor.fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(38, "Function not implemented"))
    )
    findings = found(tmp_path)
    assert findings["clock"][0].level == "warn" and "by -60.0 s" in findings["clock"][0].said
    assert findings["flock"][0].said == "not there: Function not implemented"


def test_data_is_read(tmp_path, commands):
    assert found(tmp_path, data=tmp_path / "none")["data"][0].level == "fail"
    for split, count in (("train", 3), ("val", 1)):
        (tmp_path / "images" / split / "cat").mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (4, 4)).save(tmp_path / "images" / split / "cat" / f"{number}.png")
    good = found(tmp_path, data=tmp_path / "images")["data"][0]
    assert (good.level, good.said.split(": ")[1]) == ("ok", "3 training and 1 validation images")


# --------------------------------------------------------------------------------------------------------- on a cluster


def test_a_healthy_cluster(tmp_path, commands, site):
    commands(**ANSWERS)
    findings = found(tmp_path, site=site("partition: gpu\ntime: 12:00:00\n"))
    assert "fail" not in levels(findings).values()
    assert findings["sbatch"][0].said == "slurm 23.02.1"
    assert findings["arrays"][0].said == "MaxArraySize 2001; longer ones are split"
    assert [each.said for each in findings["partition"]] == [
        "gpu*: up, limit 1-00:00:00, 8 nodes, each 64 CPUs, 512000 MiB, GPUs gpu:a100:4",
        "cpu: up, limit infinite, 20 nodes, each 64 CPUs, 256000 MiB, GPUs none",
    ]
    assert findings["site"][0].said == "partition gpu is there"
    assert (
        findings["preemption"][0].level == "warn"
        and "without preempt_send_user_signal" in findings["preemption"][0].said
    )
    assert findings["requeue"][0].level == "ok"


def test_a_site_without_accounting_works_with_a_warning(tmp_path, commands):
    commands(**ANSWERS | {"sacct": "echo 'Slurm accounting storage is disabled' >&2; exit 1"})
    accounting = found(tmp_path)["accounting"][0]
    assert (accounting.level, accounting.said) == ("warn", "sacct: Slurm accounting storage is disabled")
    (tmp_path / "bin" / "sacct").unlink()
    assert found(tmp_path)["accounting"][0].said == "no sacct on PATH"


@pytest.mark.parametrize(
    ("profile", "said"),
    [
        ("partition: cpu,fast\ntime: 9\n", "no partition fast"),
        ("partition: gpu\ntime: 2-00\n", "time: 2880 min is more than the limit of partition gpu, 1-00:00:00"),
    ],
)
def test_a_profile_that_does_not_fit_the_site_fails(tmp_path, commands, site, profile, said):
    commands(**ANSWERS)
    last = found(tmp_path, site=site(profile))["site"][-1]
    assert (last.level, last.said) == ("fail", said)


def test_a_controller_that_does_not_answer(tmp_path, commands, monkeypatch):
    commands(**ANSWERS | {"squeue": "echo slurm_load_jobs error >&2; case $1 in --version) exit 0;; esac; exit 1"})
    assert found(tmp_path)["queue"][0].said == "slurm_load_jobs error"
    monkeypatch.setattr(doctor, "ANSWER_S", 0.2)
    commands(scontrol="sleep 5")
    findings = found(tmp_path)
    assert findings["scontrol"][0].said == "no answer within 0.2 s"
    assert "queue" not in findings


# --------------------------------------------------------------------------------------------------------- the test job

RUNS_IT = """\
for last; do :; done
case "$1" in --version) echo slurm 23.02.1; exit 0;; esac
echo "$*" > "$CALLS"
env > "$CALLS.env"
cat "$last" > "$CALLS.script"
echo 17
exec bash "$last" > "$(cd "$(dirname "$last")" && pwd)/17_0_log.out" 2>&1
"""
SRUN = 'while [ "${1#--}" != "$1" ]; do case "$1" in --output) shift;; esac; shift; done; exec "$@"'


@pytest.fixture
def node(tmp_path, commands, monkeypatch):
    """A cluster whose sbatch runs the script here."""
    (tmp_path / "system" / "dirname").symlink_to("/usr/bin/dirname")
    commands(**ANSWERS | {"sbatch": RUNS_IT, "srun": SRUN})
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    return tmp_path / "calls"


@pytest.mark.slow
def test_a_job_that_sees_all(tmp_path, node, site, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "5")
    site("setup: [export MARK=1]\npartition: gpu\ntime: 12:00:00\nnodes: 4\nmemory: 4G\ncpus_per_task: 2\n")
    findings = found(tmp_path / "runs", site="lab", submit=True)
    assert findings["shared folder"][0].level == "ok"
    assert findings["node"][0].level == "ok" and "the profile asks for no GPU" in findings["node"][0].said
    script = Path(f"{node}.script").read_text().splitlines()
    wanted = ("time=5", "nodes=1", "partition=gpu", "mem=4G", "cpus-per-task=2")
    assert {f"#SBATCH --{option}" for option in wanted} <= set(script) and "export MARK=1" in script
    assert node.read_text().startswith("--parsable --wait ")
    assert "SLURM_JOB_ID" not in Path(f"{node}.env").read_text(), "an allocation's own variables do not leak"
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("changes", "about", "said"),
    [
        ({"word": "older"}, "shared folder", "n7 sees an older file"),
        ({"mixmae": False}, "mixmae there", "not importable on n7"),
        ({"torch": None, "error": "No module named 'torch'"}, "torch there", "not importable on n7: No module named"),
        ({"gpus": 0}, "GPU", "torch 2.9 sees none on n7"),
        ({"off": 90.0}, "clock there", "the file server's differs from that of n7 by +90.0 s"),
    ],
)
def test_what_is_wrong_on_a_node_is_said(changes, about, said):
    seen = {"node": "n7", "python": "3.12", "mixmae": True, "word": "w", "torch": "2.9", "gpus": 1, "off": 0.0}
    seen["device"] = "NVIDIA H100"
    fine = list(probe._read(seen, "w", 1))
    assert [finding.level for finding in fine] == ["ok"] * 3
    assert fine[1].said == "NVIDIA H100 on n7, python 3.12, torch 2.9"
    wrong = [finding for finding in probe._read({**seen, **changes}, "w", 1) if finding.level != "ok"]
    assert [finding.about for finding in wrong] == [about] and wrong[0].said.startswith(said) and wrong[0].advice


def test_a_job_that_fails_or_never_ends(tmp_path, node, commands, monkeypatch):
    commands(srun="echo 'python: not found'; exit 3")
    failed = found(tmp_path, submit=True)["test job"][0]
    assert (failed.level, failed.said) == ("fail", "job 17 ended with 3")
    assert failed.advice == "its log ends: python: not found"
    commands(srun="exit 0")
    monkeypatch.setattr(probe.time, "sleep", lambda _: None)
    assert found(tmp_path, submit=True)["test job"][0].said == "it ended, but what it wrote is not seen here"
    monkeypatch.setattr(probe, "PATIENCE_S", 0.5)
    commands(
        sbatch='case "$1" in --version) exit 0;; esac; echo 17; exec sleep 60',
        scancel='case "$1" in --version) exit 0;; esac; echo "$@" > "$CALLS.cancelled"',
    )
    ended = found(tmp_path, submit=True)["test job"][0]
    assert ended.said == "job 17 did not end within 0.5 s; it was cancelled"
    assert Path(f"{node}.cancelled").read_text() == "17\n"


# ---------------------------------------------------------------------------------------------------------- the command


@pytest.mark.parametrize(("words", "code"), [([], 0), (["--submit"], 1), (["--site", "none"], 2)])
def test_exit_codes(tmp_path, commands, called, words, code):
    out, err = called("--root", str(tmp_path / "runs"), "doctor", *words, folder=tmp_path, check=code)
    lines = out.splitlines()
    assert all(line[:6].strip() in ("ok", "warn", "fail") for line in lines)
    assert any(line.startswith("fail  sbatch: not on PATH. grid run submits with it") for line in lines) == (code == 1)
    assert ("no site profile 'none'" in err) == (code == 2)


def test_as_json(tmp_path, commands, called):
    out, _ = called("--root", str(tmp_path / "runs"), "doctor", "--json", folder=tmp_path)
    findings = json.loads(out)["findings"]
    assert {finding["level"] for finding in findings} <= {"ok", "warn"}
    assert set(findings[0]) == {"level", "about", "said", "advice"}
