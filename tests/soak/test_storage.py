"""Run folders whose files are damaged, and file systems that are full or read-only: healed, or refused by name.

Nothing may be silently wrong: whatever is read of a run is what an undisturbed one gives, or an error names the file.
"""

import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import yaml

from ablations.plan.queueing import queue
from mixmae.files.records import Damaged, NewerSchema, read_lines
from mixmae.runs.folder import RunFolder
from mixmae.runs.lease import Held
from mixmae.runs.state import run_state
from mixmae.training.resources import Resources
from mixmae.work.execution import execute
from results.plots.loss.draw import logged
from results.rows.collect import collect
from support.file_systems import fill
from support.program import COMMAND
from support.tiny_jobs import StopAfter, experiment, never, planned_runs

REPEATABLE = ("metrics.jsonl", "result.json", "checkpoints/final.safetensors")
WITHOUT_NUMBERS = ("log.txt", "lease-000001", "lease-000002")
EXPERIMENT = experiment(evaluations={"knn": {"k": 5, "subset": {"labels_per_class": 5}}})
FIGURES = ["id", "method", "encoder", "seed", "epochs", "top1", "top5", "loss", "config"]


def outcome(run: RunFolder) -> dict[str, bytes]:
    return {name: (run.path / name).read_bytes() for name in REPEATABLE if (run.path / name).exists()}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    """A root with a pretraining and its evaluation, both done."""
    root = tmp_path_factory.mktemp("undisturbed")
    for run in planned_runs(root, EXPERIMENT).values():
        queue(run)
        assert execute(run, Resources(), never) == "done", run.read("state")
    return root


@pytest.fixture(scope="module")
def stopped(tmp_path_factory) -> Path:
    """A root with a pretraining that was stopped twice, so that it has two checkpoints and some epochs behind it."""
    root = tmp_path_factory.mktemp("stopped")
    run = planned_runs(root, EXPERIMENT)["pretrain"]
    queue(run)
    assert execute(run, Resources(), StopAfter(6)) == execute(run, Resources(), StopAfter(3)) == "stopped"
    assert len(list(run.checkpoints.glob("step-*.pt"))) == 2 and read_lines(run.metrics)
    return root


def runs_in(root: Path) -> dict[str, RunFolder]:
    return {path.parent.name: RunFolder(root, path.parent.name, path.name) for path in root.glob("[!f]*/*")}


# ------------------------------------------------------------------------------------------------------------- damage


def flip(path: Path, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(draw.choice((1, 1, 2, 8))):
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)


def truncate(path: Path, draw: random.Random) -> None:
    os.truncate(path, draw.randrange(path.stat().st_size))


def delete(path: Path, _: random.Random) -> None:
    path.unlink()


def damages(folder: Path, flips: int, truncations: int) -> Iterator[tuple[Path, str, object]]:
    """(path within the folder, what is done to it, the function that does it), of every file in turn."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        ways = [("flipped", flip)] * flips + [("cut", truncate)] * truncations
        for name, way in [*(ways if path.stat().st_size else ()), ("deleted", delete)]:
            yield path.relative_to(folder), name, way


class Trials:
    """Counts corruptions, what was refused, and what was wrong without a word."""

    def __init__(self):
        self.made = self.refused = 0
        self.silent: list[str] = []

    def refusal(self, what: str, said: str, run: RunFolder, path: Path) -> None:
        """An error is right where it names the damaged file, or its run where the file's very absence is met."""
        self.refused += 1
        if path.name not in said and f"{run.id}" not in said:
            self.silent.append(f"{what}: refused without a name: {said}")

    def expect(self, what: str, right: bool) -> None:
        if not right:
            self.silent.append(what)


def read_by_results(trials: Trials, what: str, run: RunFolder, path: Path, right: pd.DataFrame, curve: list) -> None:
    """Collects and plots the root: figures are the right ones or absent, and what is left out is named."""
    try:
        frame = collect(run.root)
    except NewerSchema as error:
        trials.refusal(f"{what}, collected", str(error), run, path)
        return
    rows = frame[frame["stage"] == run.stage]
    if rows.empty:
        trials.refusal(f"{what}, collected", "; ".join(frame.attrs["problems"]), run, path)
        return
    row, wanted = rows.iloc[0], right[right["stage"] == run.stage].iloc[0]
    for name in FIGURES:
        absent = pd.isna(row[name]) and (row["state"] != "done" or pd.isna(wanted[name]))
        trials.expect(f"{what}: {name} {row[name]}, not {wanted[name]}", absent or row[name] == wanted[name])
    try:
        drawn = [line["loss"] for line in logged(run, row["state"] == "done")]
    except (Damaged, NewerSchema) as error:
        trials.refusal(f"{what}, drawn", str(error), run, path)
        return
    whole = row["state"] != "done" or len(drawn) == len(curve)
    trials.expect(f"{what}: drawn {drawn}, not {curve}", whole and drawn == curve[: len(drawn)])


def test_every_file_of_a_finished_run(undisturbed, tmp_path, rounds, report):
    right = collect(undisturbed)
    done = runs_in(undisturbed)
    curve = [line["loss"] for line in read_lines(done["pretrain"].metrics)]
    wanted = {stage: outcome(run) for stage, run in done.items()}
    trials, draw = Trials(), random.Random(1)
    flips, truncations = rounds(2, 150), rounds(1, 50)
    for number, (path, name, way) in enumerate(damages(done["pretrain"].path, flips, truncations)):
        what = f"{path} {name} ({number})"
        root = shutil.copytree(undisturbed, tmp_path / "root")
        runs = runs_in(root)
        run, knn = runs["pretrain"], runs["knn"]
        way(run.path / path, draw)
        trials.made += 1
        before = run_state(run)
        trials.expect(f"{what}: {before}", before.state in ("done", "failed", "pending"))
        read_by_results(trials, what, run, path, right, curve)
        if path.name not in WITHOUT_NUMBERS:
            (knn.path / "result.json").unlink()
            if execute(knn, Resources(), never) == "done":
                trials.expect(f"{what}: the evaluation's result is another", outcome(knn) == wanted["knn"])
            else:
                trials.refusal(f"{what}, evaluated", knn.read("state")["reason"], run, path)
        gone_on_with(trials, what, run, path, wanted["pretrain"])
        read_by_results(trials, f"{what}, gone on with", run, path, right, curve)
        shutil.rmtree(root)
    report(f"storage: finished runs, {trials.made} corruptions, {trials.refused} refusals, {len(trials.silent)} silent")
    assert trials.silent == []


def test_every_file_of_a_stopped_run(undisturbed, stopped, tmp_path, rounds, report):
    done = runs_in(undisturbed)["pretrain"]
    right, wanted = collect(undisturbed), outcome(done)
    curve = [line["loss"] for line in read_lines(done.metrics)]
    trials, draw = Trials(), random.Random(2)
    flips, truncations = rounds(1, 60), rounds(1, 30)
    for number, (path, name, way) in enumerate(damages(runs_in(stopped)["pretrain"].path, flips, truncations)):
        what = f"{path} {name} ({number})"
        root = shutil.copytree(stopped, tmp_path / "root")
        run = runs_in(root)["pretrain"]
        way(run.path / path, draw)
        trials.made += 1
        read_by_results(trials, what, run, path, right, curve)
        went_on = gone_on_with(trials, what, run, path, wanted)
        healed = path.name != "config.json"
        trials.expect(f"{what}: not healed: {went_on}", went_on == "done" or not healed or went_on == "schema")
        shutil.rmtree(root)
    report(f"storage: stopped runs, {trials.made} corruptions, {trials.refused} refusals, {len(trials.silent)} silent")
    assert trials.silent == []


def gone_on_with(trials: Trials, what: str, run: RunFolder, path: Path, wanted: dict[str, bytes]) -> str:
    """Executes the run: it ends with the right bytes, or with a reason that names the file. Damage that a done run
    keeps must be refused by who reads it."""
    try:
        ended = execute(run, Resources(), never)
    except NewerSchema as error:
        trials.refusal(f"{what}, gone on with", str(error), run, path)
        return "schema"
    except Held as error:  # a damaged lease counts until it is old
        trials.refusal(f"{what}, gone on with", str(error), run, path)
        assert path.name.startswith("lease-")
        os.utime(run.path / path, (0, 0))
        return gone_on_with(trials, what, run, path, wanted)
    if ended != "done":
        reason = run.read("state")["reason"]
        trials.refusal(f"{what}, gone on with", reason, run, path)
        return "schema" if "this version reads up to" in reason else ended
    for name, content in wanted.items():
        if name != "result.json" and outcome(run).get(name) != content:
            with pytest.raises(Damaged, match=Path(name).name):
                run.check(run.path / name)
        trials.expect(f"{what}: another result", name != "result.json" or same_result(run, content))
    return ended


def same_result(run: RunFolder, content: bytes) -> bool:
    """The same figures: of flips in the spaces between them nobody takes notice."""
    written = run.path / "result.json"
    if written.read_bytes() == content:
        return True
    found = run.read("result")
    written.write_bytes(content)
    return found == run.read("result")


# ------------------------------------------------------------------------------------------------------- file systems


def test_a_full_disk(undisturbed, mounted, rounds, report, caplog):
    caplog.set_level("INFO", "mixmae")
    wanted = outcome(runs_in(undisturbed)["pretrain"])
    size = 8 << 20
    draw, failures, tries = random.Random(3), 0, rounds(6, 200)
    root = mounted("-t", "tmpfs", "-o", f"size={size}", "tmpfs")
    needed = sum(map(len, wanted.values()))
    for _ in range(tries):
        run = planned_runs(root, EXPERIMENT)["pretrain"]
        ballast = root / "ballast"
        fill(ballast, room=draw.randrange(4 * needed) if failures else 0)
        for stop in (StopAfter(draw.randrange(12)), never):
            caplog.clear()
            try:
                ended, said = execute(run, Resources(), stop), ""
            except OSError as error:  # there is not even room for the lease
                ended, said = "failed", str(error)
            if ended == "failed":
                failures += 1
                said = said or caplog.messages[-1]
                assert "No space left on device" in said and str(run.path) in said and "make room" in said, said
                break
        assert [path.name for path in root.rglob(".*")] == [], "no temporary file is left behind"
        ballast.unlink()
        assert execute(run, Resources(), never) == "done", run.read("state")
        assert outcome(run) == wanted
        shutil.rmtree(run.path)
    report(f"storage: {tries} full disks, {failures} runs failed by name and went on, 0 losses")
    assert failures >= tries // 3


def test_a_read_only_folder(undisturbed, mounted, tmp_path, report):
    home = tmp_path / "home"
    home.mkdir()
    file = home / "tiny.yaml"
    file.write_text(yaml.safe_dump(EXPERIMENT.model_dump(mode="json")))
    root = home / "runs"
    run = planned_runs(root, EXPERIMENT)["pretrain"]
    assert execute(run, Resources(), StopAfter(5)) == "stopped"
    mounted("--bind", str(root), over=root)
    subprocess.run(["mount", "-o", "remount,bind,ro", root], check=True)
    before = tree(root)
    command = [*COMMAND, "--root", str(root), "run", str(file)]
    ended = subprocess.run(command, cwd=home, capture_output=True, text=True, check=False)
    assert ended.returncode == 1 and "Traceback" not in ended.stderr, ended.stderr
    assert "Read-only file system" in ended.stderr and str(root) in ended.stderr
    with pytest.raises(OSError, match="Read-only file system") as failure:
        execute(run, Resources(), never)
    assert str(run.path) in str(failure.value)
    assert tree(root) == before
    subprocess.run(["mount", "-o", "remount,bind,rw", root], check=True)
    assert execute(run, Resources(), never) == "done"
    assert outcome(run) == outcome(runs_in(undisturbed)["pretrain"])
    report("storage: a read-only folder is refused by name, unchanged, and gone on with once it can be written")


def tree(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
