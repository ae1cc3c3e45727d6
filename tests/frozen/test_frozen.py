"""What c6eac5b made of the same files: ids, bits, sentences, and a root that is read and gone on with ever after."""

import csv
import io
import json
import os
import shutil
import tarfile
from pathlib import Path

import pytest

from frozen.images import write_images
from frozen.recording import HERE, OWN, ask, bits, ids, losses, machine, prepare, run_all, sentences
from support import several, started
from support.forked import Forked, program

LISTS = "write one of "
CLOSE = 1e-4
"""How far a loss may lie from the one of another CPU or other versions."""


def launched(*words: object) -> Forked:
    """The command as a process, whose workers have torch loaded when they start."""
    return program(*map(str, words), python=started.python())


def recorded(name: str) -> dict:
    return json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))


LONGER = {
    "run: unknown data without a near one": "2: file.yaml:4:1: data: no data 'zzz'; write one of digits, "
    "placed_digits, torchvision, image_folder\n",
    "run: unknown field of data": "2: file.yaml:4:22: data.path: unknown field; write one of name, tuning\n",
}
"""Sentences that list what can be written, where that has become more since the record."""


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """Where the images are, once they are written."""
    return tmp_path_factory.mktemp("images")


@pytest.fixture
def place(tmp_path, images, monkeypatch) -> Path:
    """A folder with what the frozen grids read, which is the working directory."""
    for name in ("FROZEN_IMAGES", "IMAGENET", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, "")  # so that they are set back after the test
    monkeypatch.chdir(tmp_path)
    with tarfile.open(HERE / "root.tar.gz") as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.11.2 has none
        archive.extractall(tmp_path)
    prepare(tmp_path, tmp_path / "export" / "encoder.safetensors", images)
    return tmp_path


def test_ids_of_every_job(place):
    found, known = ids(place), recorded("ids")["grids"]
    assert {name: found[name] for name in known} == known


def test_sentences_about_mistakes(place):
    """Word for word, but that a list of what can be written has the names of fields that were added since."""
    found, known = dict(sentences(place)), {**recorded("mistakes")["said"], **LONGER}
    assert {name: _as_known(said, known[name]) for name, said in found.items()} == known


def _as_known(said: str, known: str) -> str:
    """The sentence, less the names at the end of its "write one of …" that the known one, with the same names before
    them, does not have."""
    names = known.partition(LISTS)[2].strip()
    before, _, after = said.partition(LISTS)
    return known if names and f"{before}{LISTS}{names}\n" == known and after.startswith(f"{names}, ") else said


def test_only_added_names_are_left_out_of_a_sentence():
    known = f"2: a.yaml:1:1: b: unknown field; {LISTS}method, seed\n"
    assert _as_known(known.replace("seed", "seed, perturb"), known) == known
    for other in ("seed", "method", "1:1", "2: "):
        changed = known.replace(other, "x", 1).replace("\n", ", perturb\n")
        assert _as_known(changed, known) == changed


def test_bits_of_every_kind_of_run(place):
    """Bit for bit on the CPU and with the versions of the record, elsewhere by its losses. `compare.py` compares with
    another commit bit for bit anywhere."""
    known = recorded("bits")
    run_all(place / "runs", lambda words: launched(*words), lambda words: several.start(2, program, *words))
    if machine() == known["machine"]:
        assert bits(place / "runs") == known["files"]
        return
    found = losses(place / "runs")
    assert found.keys() == known["losses"].keys()
    for run, values in known["losses"].items():
        if not run.startswith("knn/"):
            assert found[run] == pytest.approx(values, rel=CLOSE, abs=CLOSE), run


# ------------------------------------------------------------------------------------------------------------ the root


@pytest.fixture
def root(place, monkeypatch) -> Path:
    """The old root, and the images that one of its runs failed for."""
    broken = write_images(place / "broken", 3, 24, 8, side=16, bad=("train/class1/0002.ppm",))
    monkeypatch.setenv("FROZEN_BROKEN", str(broken))
    return place / "root"


def asked(root: Path, *words, code: int = 0) -> str:
    found, out, err = ask("--root", str(root), *map(str, words))
    assert found == code, err
    return out


def said(root: Path, name: str) -> str:
    return (root.parent / "said" / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("grid", ["local", "cluster"])
def test_states_of_an_old_root_are_read(root, grid, tmp_path, monkeypatch):
    """Without Slurm's programs: a cluster that happens to run here knows nothing of those jobs."""
    monkeypatch.setenv("PATH", str(tmp_path))
    found = json.loads(asked(root, "grid", "status", OWN / f"{grid}.yaml", "--json"))
    known = json.loads(said(root, f"{grid}-status.json"))
    assert [{name: job[name] for name in old} for job, old in zip(found["jobs"], known["jobs"], strict=True)] == (
        known["jobs"]
    )


@pytest.mark.parametrize("kept", [True, False], ids=["with what was collected", "anew"])
def test_an_old_root_is_collected_and_tabulated(root, kept):
    if not kept:
        (root / ".collected").unlink()
    asked(root, "results", "collect", "--out", root.parent / "collected")
    found, known = (
        list(csv.DictReader(io.StringIO(text)))
        for text in ((root.parent / "collected" / "results.csv").read_text(encoding="utf-8"), said(root, "results.csv"))
    )
    assert [{name: row[name] for name in old} for row, old in zip(found, known, strict=True)] == known
    for grid in ("local", "cluster"):
        for form in ("md", "csv"):
            table = asked(root, "results", "table", OWN / f"{grid}.yaml", "--format", form)
            assert table == said(root, f"{grid}-table.{form}")
    old = root.parent / "said" / "results.parquet"
    found = json.loads(asked(root, "results", "diff", old, root, "--json"))
    assert (found["only_a"], found["only_b"], found["refigured"]) == ([], [], [])
    assert {(str(pair["changed"]), pair["verdict"]) for pair in found["pairs"]} == {
        ("{}", "the same"),
        ("{}", "no figures"),
    }
    checked = asked(root, "results", "check", OWN / "local.yaml", "--json")
    now, then = (
        [one["verdict"] for one in json.loads(text)["checked"]] for text in (checked, said(root, "check.json"))
    )
    assert now == then


def test_an_old_root_is_gone_on_with(root):
    """The stopped run resumes from its checkpoint, to the bits of one that was never stopped."""
    launch = launched("--root", root, "grid", "run", OWN / "local.yaml")
    assert launch.wait() == 0, launch.communicate()
    status = json.loads(asked(root, "grid", "status", OWN / "local.yaml", "--json"))["jobs"]
    resumed = [job for job in status if job["tries"] == 2]
    assert [(job["stage"], job["state"]) for job in resumed] == [("pretrain", "done")]
    if machine() == recorded("bits")["machine"]:
        found, whole = bits(root), json.loads(said(root, "whole.json"))
        assert {name: found[name] for name in whole} == whole


def test_a_seed_run_now_is_averaged_with_those_of_an_old_root(root, tmp_path):
    (tmp_path / "more.yaml").write_text(
        f"base: {OWN / 'small_base.yaml'}\n"
        "sweeps: [{name: seeds, product: {seed: [0, 4]}}]\n"
        "tables: [{name: seeds, rows: [method, encoder], stages: [linear, knn]}]\n"
    )
    launch = launched("--root", root, "grid", "run", tmp_path / "more.yaml")
    assert launch.wait() == 0, launch.communicate()
    table = asked(root, "results", "table", tmp_path / "more.yaml", "--format", "md")
    (row,) = [line for line in table.splitlines() if line.startswith("| MixMAE")]
    assert row.count("(n=2)") == 2


def test_tasks_that_wait_in_a_queue_run(root, tmp_path, monkeypatch):
    """What submitit pickled of an old version, as a node runs it: a pack of a pretraining, then a single evaluation."""
    from submitit.core.utils import DelayedSubmission, pickle_load

    pickles = root / "grids" / "cluster" / "submitit"
    waiting = [path for path in sorted(pickles.glob("*_submitted.pkl")) if not _result(path).exists()]
    ran = []
    for path in waiting:
        task = pickle_load(path)
        (old,) = task.args
        config = root / Path(old).relative_to("/tmp/mixmae-frozen/root")
        runs = json.loads(config.read_text()).get("runs") or [[config.parents[1].name, config.parent.name]]
        states = [json.loads((root / stage / id / "launch.json").read_text())["submission"] for stage, id in runs]
        if any(stage == "pretrain" for stage, _ in runs) and set(states) <= _newest(root):
            name = f"again_{path.name}"
            DelayedSubmission(task.function, str(config)).dump(pickles / name)
            monkeypatch.setenv("SLURM_JOB_ID", "77")
            assert pickle_load(pickles / name).result() in ("done", "waiting")
            ran += runs
    assert ran
    for stage, id in ran:
        assert (root / stage / id / "result.json").exists()


def _result(path: Path) -> Path:
    return path.with_name(path.name.replace("_submitted", "_0_result"))


def _newest(root: Path) -> set[str]:
    return {path.stem for path in (root / "grids" / "cluster" / "submissions").glob("*.json")}


def test_what_lies_beside_the_runs_is_read(root):
    found = json.loads(asked(root, "weights", "inspect", root.parent / "export" / "encoder.safetensors", "--json"))
    assert (found["format"], found["is"]) == ("mixmae", "encoder")
    assert list((root / "bench").glob("*.json"))
    pruned = asked(root, "runs", "prune")
    assert "would delete" in pruned or "nothing to delete" in pruned
    shutil.rmtree(root / "pretrain")  # readers say so, and do not end
    asked(root, "results", "collect", "--out", root.parent / "left")
    assert os.path.exists(root.parent / "left" / "results.csv")
