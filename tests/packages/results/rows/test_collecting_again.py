"""Collecting once more: only what has changed is read, and nothing is another for it; and the bench of both."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixmae.files.records import NewerSchema, sealed
from mixmae.runs import lease
from results.rows.cache import YOUNG_S
from results.rows.collect import collect
from support.checkout import CHECKOUT
from support.made_runs import (
    LONG_AGO,
    Made,
    age,
    experiment,
    runs_of,
    write_state,
    write_timing,
)


def tree(root: Path) -> dict[Path, bytes]:
    """All files but what collecting keeps."""
    files = (path for path in sorted(root.rglob("*")) if path.is_file() and path.name != ".collected")
    return {path: path.read_bytes() for path in files}


# --------------------------------------------------------------------------------------------------- what is read again

OPENED = """
import json, os, sys
from pathlib import Path
from results.rows.collect import collect
opened = []
def note(event, arguments):
    if event == "open" and isinstance(arguments[0], str | os.PathLike):
        opened.append(Path(arguments[0]))
sys.addaudithook(note)
for line in sys.stdin:
    root = Path(line.strip())
    opened.clear()
    collect(root)
    found = [path for path in opened if path.is_relative_to(root) and path.is_file()]
    print(json.dumps([str(path.relative_to(root)) for path in found]), flush=True)
"""


@pytest.fixture(scope="module")
def opened() -> Iterator[Callable[[Path], set[str]]]:
    """opened(root): relative paths of the files under it that another process opens to collect it."""
    command = [sys.executable, "-c", OPENED]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def ask(root: Path) -> set[str]:
            process.stdin.write(f"{root}\n")
            process.stdin.flush()
            return set(json.loads(process.stdout.readline()))

        yield ask
        process.stdin.close()


def test_only_what_has_changed_is_opened_again(made, opened):
    pretrain, finetune, linear, knn = runs_of(made.root, "mixmae")
    pretrain.commit({"loss": 0.4, "epochs": 20})
    write_timing(pretrain, [90.0] * 20)
    named = [path for path in tree(made.root) if path.suffix == ".json"]
    files = [*named, pretrain.metrics, pretrain.path / "timing.jsonl"]
    age(made.root)
    assert opened(made.root) == {path.relative_to(made.root).as_posix() for path in files} | {".collected"}
    assert opened(made.root) == {".collected"}
    write_state(finetune, "done")
    os.utime(finetune.path / "state.json", (LONG_AGO, LONG_AGO))
    shutil.rmtree(linear.path)
    changed = {f"finetune/{finetune.id}/{name}.json" for name in ("config", "state", "result")}
    assert opened(made.root) == changed | {".collected"}
    assert opened(made.root) == {".collected"}
    write_state(knn, "stopped")
    assert f"knn/{knn.id}/state.json" in opened(made.root)
    assert f"knn/{knn.id}/state.json" in opened(made.root), "what is not done may change without a file"


def test_a_file_that_was_just_written_is_not_relied_on(made, monkeypatch):
    """Its time may stay the same when it is written once more."""
    collect(made.root)
    assert not (made.root / ".collected").exists()
    monkeypatch.setattr("results.rows.cache.YOUNG_S", -YOUNG_S)
    collect(made.root)
    assert (made.root / ".collected").exists()


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Path:
    """A root that was collected: two experiments, their pretrainings timed."""
    made = Made(tmp_path_factory.mktemp("kept") / "runs")
    for seed in (0, 1):
        made.add(experiment("mixmae", seed=seed), finetune=91.0 + seed, knn=83.0)
        pretrain, *_ = runs_of(made.root, "mixmae", seed)
        pretrain.commit({"loss": 0.4, "epochs": 20})
        write_timing(pretrain, [90.0] * 20)
    age(made.root)
    collect(made.root)
    return made.root


FILES = ("config.json", "state.json", "result.json", "environment.json", "metrics.jsonl", "timing.jsonl")

WAYS: dict[str, Callable[[Path, int], None]] = {
    "deleted": lambda path, at: path.unlink(),
    "cut": lambda path, at: os.truncate(path, at % max(1, path.stat().st_size)),
    "flipped": lambda path, at: flip(path, at),
    "a folder": lambda path, at: (path.unlink(), path.mkdir()),
    "another's": lambda path, at: path.write_text('{"project": "x", "state": "done", "job": {"stage": 3}}'),
    "failed": lambda path, at: path.write_text(json.dumps(sealed({"state": "failed", "tries": 1}))),
}


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    if content:
        content[at // 8 % len(content)] ^= 1 << at % 8
    path.write_bytes(content)


changes = st.tuples(
    st.integers(0, 5), st.sampled_from(FILES), st.sampled_from(list(WAYS)), st.integers(0, 2**14), st.booleans()
)


def outcome(root: Path):
    try:
        return collect(root)
    except NewerSchema as error:
        return str(error)


@settings(deadline=None, max_examples=25)
@given(st.lists(changes, min_size=1, max_size=3))
def test_whatever_happens_to_files_rows_are_read_as_anew_and_nothing_is_lost_silently(kept, some):
    folders = sorted(path for path in kept.glob("*/*"))
    collect(kept)
    with TemporaryDirectory() as aside:
        touched = []
        try:
            for number, name, way, at, set_back in some:
                path = folders[number] / name
                if not path.is_file():
                    continue
                shutil.copy2(path, f"{aside}/{len(touched)}")
                touched.append(path)
                WAYS[way](path, at)
                if set_back and path.exists():
                    os.utime(path, (LONG_AGO, LONG_AGO))
            before, again = tree(kept), outcome(kept)
            assert tree(kept) == before
            (kept / ".collected").unlink()
            anew = outcome(kept)
        finally:
            for number, path in reversed(list(enumerate(touched))):
                if path.is_dir():
                    path.rmdir()
                shutil.copy2(f"{aside}/{number}", path)
    if isinstance(anew, str):
        assert again == anew
        return
    pd.testing.assert_frame_equal(again, anew)
    assert again.attrs["problems"] == anew.attrs["problems"]
    found = {f"{row.stage}/{row.id}" for row in anew.itertuples()}
    named = {problem.split(": ")[0] for problem in anew.attrs["problems"] if problem.endswith("; left out")}
    assert found | named == {f"{folder.parent.name}/{folder.name}" for folder in folders} and not found & named


def test_what_was_kept_may_be_lost_damaged_or_of_another_version(kept, monkeypatch):
    file = kept / ".collected"
    file.unlink()
    wanted = collect(kept)
    whole = file.read_bytes()
    changed = bytearray(whole)
    changed[len(changed) // 2] ^= 1
    for content in (b"", b"PAR1", whole[:100], whole[:-1], bytes(changed), whole + b"\0"):
        file.write_bytes(content)
        pd.testing.assert_frame_equal(collect(kept), wanted)
        assert file.read_bytes() == whole, "made anew"
    monkeypatch.setattr("results.rows.cache.READER", b"another version")
    pd.testing.assert_frame_equal(collect(kept), wanted)
    assert file.read_bytes()[:32] != whole[:32]
    monkeypatch.undo()
    file.unlink()
    file.mkdir()
    pd.testing.assert_frame_equal(collect(kept), wanted)
    file.rmdir()


def test_a_read_only_root_is_collected_all_the_same(made, mounted):
    age(made.root)
    knn = runs_of(made.root, "mixmae")[3]
    write_state(knn, "running")
    elsewhere = lease.Owner("token", "far", "another boot", "space", 7, 1, None)
    (knn.path / "lease-000001").write_text(json.dumps(asdict(elsewhere)))
    wanted = collect(made.root)
    (made.root / ".collected").unlink()
    mounted("--bind", str(made.root), over=made.root)
    subprocess.run(["mount", "-o", "remount,bind,ro", made.root], check=True)
    lease._clocks.clear()
    pd.testing.assert_frame_equal(collect(made.root), wanted)
    assert wanted.set_index("id").loc[knn.id, "state"] == "running"
    assert not (made.root / ".collected").exists()


@pytest.mark.slow
def test_several_processes_collect_at_once(kept, opened):
    (kept / ".collected").unlink(missing_ok=True)
    code = "import sys, pathlib, results.rows.collect as it; print(len(it.collect(pathlib.Path(sys.argv[1]))))"
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(kept)], stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    assert [process.communicate()[0] for process in processes] == ["6\n"] * 3
    assert opened(kept) == {".collected"}
    assert [path.name for path in kept.iterdir() if path.name.startswith(".")] == [".collected"]


@pytest.mark.slow
def test_the_benchmark_makes_runs_and_collects_them():
    command = [sys.executable, "-m", "benchmarks.collecting", "9", "3"]
    found = json.loads(subprocess.check_output(command, cwd=CHECKOUT))
    assert (found["runs"], found["epochs"]) == (9, 3) and found["bytes"] > 9 * 1000
    for time in ("first", "again", "after_one_change"):
        assert found[time]["seconds"] > 0 and found[time]["peak_memory"] > 2**25
