"""File systems that fail for a moment or for good, and JSON documents that are not what was written."""

import errno
import json
import subprocess
from contextlib import contextmanager

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from ablations.grid.file import read_grid
from ablations.plan.launched import remember
from ablations.plan.plan import plan
from ablations.plan.queueing import create_run, queue
from mixmae.experiment.jobs import stage_jobs
from mixmae.files import records
from mixmae.files.records import (
    Damaged,
    line_of,
    read_json,
    read_lines,
    sealed,
    sha256,
    whole_lines,
    write_atomically,
    write_json,
)
from mixmae.files.retrying import DELAYS_S, OF_THE_MACHINE, TRANSIENT, retried
from mixmae.runs.folder import RunFolder
from mixmae.runs.state import run_state
from mixmae.tracking.trackers import Trackers
from mixmae.training import checkpoints
from mixmae.training.journal import Journal
from mixmae.training.resources import Resources
from mixmae.work.execution import execute
from support.file_systems import fill
from support.program import mixmae
from support.tiny_jobs import FINETUNE, experiment, never, planned_runs


class Failing:
    """Raises the errors given, one a call, and then returns 7."""

    def __init__(self, *numbers: int):
        self.numbers = list(numbers)

    def __call__(self) -> int:
        if self.numbers:
            raise OSError(self.numbers.pop(0), "it fails", "file")
        return 7


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    waited = []
    monkeypatch.setattr("time.sleep", waited.append)
    return waited


@pytest.mark.parametrize("number", TRANSIENT)
def test_errors_that_pass_are_waited_for_and_logged(waits, caplog, number):
    assert retried(Failing(number, number)) == 7
    assert waits == [1, 2]
    assert [message.split("; ")[1] for message in caplog.messages] == ["tried again in 1 s", "tried again in 2 s"]
    with pytest.raises(OSError, match="it fails"):
        retried(Failing(*[number] * (len(DELAYS_S) + 1)))
    assert waits == [1, 2, 1, 2, 4, 8]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENOENT, errno.EMFILE])
def test_other_errors_are_raised_at_once(waits, number):
    with pytest.raises(OSError, match="it fails"):
        retried(Failing(number))
    assert waits == [] and (number in OF_THE_MACHINE) == (number == errno.EMFILE)


def test_a_write_that_fails_for_a_moment_is_made_again(tmp_path, waits):
    failing = Failing(errno.EIO)

    def write(path):
        path.write_text("half")
        failing()
        path.write_text("whole")

    write_atomically(tmp_path / "a" / "file", write)
    assert (tmp_path / "a" / "file").read_text() == "whole" and waits == [1]
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["file"]


def test_a_line_that_fails_for_a_moment_is_written_once(tmp_path, waits, monkeypatch):
    failing = Failing(errno.ESTALE)
    journal = Journal(tmp_path, True, Trackers(RunFolder(tmp_path, "pretrain", "a"), ()))
    journal.add({"epoch": 1, "loss": 0.5}, 1.0, 8)

    @contextmanager
    def fails_when_closed(path):
        yield
        failing()

    monkeypatch.setattr("mixmae.training.journal.naming", fails_when_closed)
    journal.add({"epoch": 2, "loss": 0.25}, 1.0, 8)
    assert [line["epoch"] for line in read_lines(tmp_path / "metrics.jsonl")] == [1, 2]
    assert [line["epoch"] for line in read_lines(tmp_path / "timing.jsonl")] == [1, 2] and waits == [1]


# ------------------------------------------------------------------------------------------------------------ full disk


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    ended = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True, check=False)
    if ended.returncode:
        pytest.skip(f"mounting is not permitted here: {ended.stderr}")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("kind", ["checkpoint", "weights", "safetensors", "json"])
def test_a_full_disk_is_named_and_the_old_file_stays(small_disk, kind, waits):
    large = torch.nn.Linear(1000, 1000)
    write = {
        "checkpoint": lambda path: checkpoints.save(small_disk, 3, large.state_dict()),
        "weights": lambda path: checkpoints.write_weights(path, large),
        "safetensors": lambda path: write_atomically(path, lambda new: save_file(large.state_dict(), new)),
        "json": lambda path: write_json(path, {"long": "x" * (2 << 20)}),
    }[kind]
    path = small_disk / ("step-00000003.pt" if kind == "checkpoint" else "file")
    path.write_bytes(b"old")
    with pytest.raises(OSError, match="No space left on device; make room and run it again") as failure:
        write(path)
    assert (failure.value.errno, failure.value.filename) == (errno.ENOSPC, str(path))
    assert path.read_bytes() == b"old" and list(small_disk.iterdir()) == [path] and waits == []


def test_a_run_says_what_ended_it_where_nothing_more_can_be_written(small_disk):
    """Not a byte is left: neither of the disk, nor at the end of the log's last block."""
    run = planned_runs(small_disk, experiment("supervised", evaluations={"finetune": FINETUNE}))["finetune"]

    def stop() -> bool:
        if not (small_disk / "ballast").exists():
            with (run.path / "log.txt").open("ab") as log:
                log.write(b"\n" * (-log.tell() % (1 << 12)))
            fill(small_disk / "ballast", room=0)
        return False

    assert execute(run, Resources(), stop) == "failed"
    reason = run.read("state")["reason"]
    assert "No space left on device; make room and run it again" in reason
    assert f"INFO failed: {reason}" in (run.path / "log.txt").read_text()
    (small_disk / "ballast").unlink()
    assert execute(run, Resources(), never) == "done"
    assert not list(run.path.glob(".*"))


# ------------------------------------------------------------------------------------------------------------ documents


def test_a_document_reads_as_it_was_written(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"ä": [1, 0.1, None], "b": {"c": True}})
    assert list(json.loads(path.read_text())) == ["schema", "ä", "b", "checksum"]
    assert read_json(path) == {"schema": 1, "ä": [1, 0.1, None], "b": {"c": True}}
    path.write_text('{"schema": 1, "older": 2}')
    assert read_json(path) == {"schema": 1, "older": 2}


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("0.25", "0.35"),
        lambda text: text.replace('"checksum"', '"checksun"'),
        lambda text: text.replace('"checksum": "', '"checksun": "G').replace("0.25", "0.35"),
        lambda text: text.replace('"a"', '"b"'),
        lambda text: text[:-5],
        lambda text: "",
        lambda text: "null",
        lambda text: "[" * 100_000,
        lambda text: text.replace("loss", "lo\udcffss"),
    ],
)
def test_a_damaged_document_is_named(tmp_path, change):
    path = tmp_path / "a.json"
    write_json(path, {"a": {"loss": 0.25}})
    path.write_bytes(change(path.read_text()).encode("utf-8", "surrogateescape"))
    with pytest.raises(Damaged, match=r"a\.json: damaged"):
        read_json(path)


def test_damaged_lines_are_named_or_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    text = "".join(line_of({"epoch": epoch, "loss": 1 / epoch}) for epoch in (1, 2, 3))
    path.write_text(text + '{"epoch": 4, "lo')
    assert [line["epoch"] for line in read_lines(path)] == [1, 2, 3]
    path.write_bytes(text.replace("0.5", "0.6").encode() + b"\xff\n")
    lines, damaged = whole_lines(path)
    assert ([line["epoch"] for line in lines], damaged) == ([1, 3], [2, 4])
    with pytest.raises(Damaged, match=r"metrics\.jsonl:2: damaged"):
        read_lines(path)


values = st.one_of(st.integers(), st.floats(), st.text(), st.none(), st.lists(st.integers(), max_size=3))
written = st.dictionaries(st.one_of(st.sampled_from(["epoch", "loss", "a b"]), st.text()), values, max_size=4)


@settings(deadline=None, max_examples=150)
@given(st.lists(written, max_size=4), st.integers(0, 2**10), st.integers(0, 7), st.booleans())
def test_lines_are_whole_where_their_checksum_says_so(tmp_path_factory, objects, at, bit, damages):
    content = bytearray("".join(map(line_of, objects)).encode())
    if damages and content:
        content[at % len(content)] ^= 1 << bit
    path = tmp_path_factory.getbasetemp() / "lines.jsonl"
    path.write_bytes(content)
    lines, damaged = [], []
    for number, line in enumerate(bytes(content).split(b"\n")[:-1], start=1):
        try:
            data = json.loads(line)
            checksum = data.pop("checksum")
            assert sealed(data)["checksum"] == checksum and data.get("schema", 0) in range(2)
            lines.append(data)
        except (ValueError, KeyError, AssertionError, AttributeError, TypeError):
            damaged.append(number)
    assert (str(whole_lines(path)[0]), whole_lines(path)[1]) == (str(lines), damaged)


# ----------------------------------------------------------------------------------------------------------------- runs


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> RunFolder:
    run = planned_runs(tmp_path_factory.mktemp("done"), experiment())["pretrain"]
    queue(run)
    assert execute(run, Resources(), never) == "done"
    return run


def test_a_result_names_the_files_of_its_run(done):
    names = ("metrics.jsonl", "checkpoints/final.safetensors")
    assert done.read("result")["files"] == {name: sha256(done.path / name) for name in names}
    done.check(done.weights)
    content = done.weights.read_bytes()
    try:
        done.weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(Damaged, match=r"final\.safetensors: damaged or changed .* put a copy back, or remove"):
            done.check(done.weights)
        done.weights.unlink()
        with pytest.raises(Damaged, match=r"final\.safetensors: missing; put a copy back"):
            done.check(done.weights)
    finally:
        done.weights.write_bytes(content)


@pytest.mark.parametrize("name", ["state", "launch", "config"])
def test_what_can_be_written_anew_is(done, tmp_path, name):
    exp = experiment()
    run = planned_runs(tmp_path, exp)["pretrain"]
    queue(run)
    assert execute(run, Resources(), never) == "done"
    (run.path / f"{name}.json").write_bytes(b"\0" * 40)
    found = run_state(run)
    if name == "config":
        assert found.state == "done"
    else:
        assert found.state == "failed" and f"{name}.json: damaged" in found.reason and "writes it anew" in found.reason
    create_run(
        tmp_path,
        stage_jobs(exp, lambda data: done.read("config")["data_fingerprint"])[0],
    )
    queue(run)
    assert execute(run, Resources(), never) == "done" and run_state(run).state == "done"
    aside = run.path / f"{name}.json.damaged"
    assert name == "launch" or aside.read_bytes() == b"\0" * 40, "kept, though of no use"
    assert run.read("result") == done.read("result") and run.read("config") == done.read("config")


def test_a_damaged_run_does_not_hide_the_rest_of_its_grid(tmp_path):
    file = tmp_path / "grid.yaml"
    file.write_text("base: digits_nano\nsweeps: [{name: all, product: {seed: [0, 1]}}]\n")
    grid = read_grid(file)
    first = plan(grid.name, grid.cases, tmp_path / "runs")
    remember(first.root, first.name, (entry.key for entry in first.entries))
    entry = first.entries[0]
    queue(create_run(first.root, entry.planned))
    (entry.run.path / "launch.json").write_text("{")
    (first.root / "grids" / "grid.json").write_text("{")
    out, err = mixmae("--root", "runs", "grid", "status", "grid.yaml", "--json", folder=tmp_path, check=0)
    jobs = json.loads(out)["jobs"]
    assert len(jobs) == len(first.entries) and jobs[0]["id"] == entry.planned.id
    assert jobs[0]["state"] == "failed" and "launch.json: damaged" in jobs[0]["reason"]
    assert {job["state"] for job in jobs[1:]} <= {"planned", "blocked"}
    assert "grid.json: damaged" in err and "Traceback" not in err


def test_an_altered_config_is_refused(done, tmp_path):
    run = planned_runs(tmp_path, experiment())["pretrain"]
    config = run.read("config")
    config["job"]["seed"] = 1
    run.write("config", config)
    assert execute(run, Resources(), never) == "failed"
    assert "config.json: altered, or another run's" in run.read("state")["reason"]


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(PLAIN, st.booleans())
def test_the_faster_parser_reads_what_pythons_does(data, ascii):
    text = json.dumps(data, ensure_ascii=ascii).encode("utf-8", "surrogatepass")
    assert repr(records._parsed(text)) == repr(json.loads(text))
