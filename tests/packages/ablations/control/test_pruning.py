"""What `runs prune` finds and deletes of real run folders, and all that it leaves alone."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ablations.control.pruning import DAY_S, delete, find
from mixmae.experiment.jobs import stage_jobs
from mixmae.files.records import write_json
from mixmae.runs.folder import RunFolder
from mixmae.runs.locks import lock
from support.made_runs import Made, experiment, write_config, write_state

HOLD = """
import sys
from pathlib import Path
from mixmae.runs.folder import RunFolder
with RunFolder(Path(sys.argv[1]), sys.argv[2], sys.argv[3]).lease():
    print("held", flush=True)
    sys.stdin.read()
"""
STEP, ASIDE, WEIGHTS = (
    f"checkpoints/{name}" for name in ("step-00000220.pt", "set-aside-1/step-00000011.pt", "final.safetensors")
)


def tree(root: Path) -> dict[str, bytes | None]:
    """All below `root` but leases, which come and go."""
    paths = (path for path in sorted(root.rglob("*")) if not path.name.startswith("lease-"))
    return {str(path.relative_to(root)): path.read_bytes() if path.is_file() else None for path in paths}


def finished(root: Path, seed: int, done: bool = True) -> tuple[RunFolder, RunFolder]:
    """A pretraining and its kNN, with 1000 bytes each of what is needed and what is not."""
    jobs = Made(root).add(experiment(seed=seed, evaluations={"knn": {}}), knn=80.0)
    runs = tuple(RunFolder(root, planned.stage, planned.id) for planned in jobs)
    for name in (STEP, ASIDE, WEIGHTS):
        path = runs[0].path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 1000)
    if done:
        runs[0].commit({"loss": 0.5})
    else:
        (runs[0].path / "result.json").unlink()
        write_state(runs[0], "stopped")
    return runs


def named_by(root: Path, name: str, *runs: RunFolder) -> None:
    write_json(root / "grids" / f"{name}.json", {"launched": [[run.stage, run.id] for run in runs]})


def aged(path: Path, seconds: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"half")
    os.utime(path, (time.time() - seconds,) * 2)
    return path


def pruned(root: Path, plans=None, no_grid=False) -> tuple[set[str], dict[str, str]]:
    """What was deleted and what was kept and why, after it was shown and nothing was touched by that."""
    before, found = tree(root), find(root, plans, no_grid)
    assert tree(root) == before
    ended = delete(found)
    return (
        {str(one.path.relative_to(root)) for one in ended.leftovers},
        {str(path.relative_to(root)): why for path, why in ended.kept},
    )


@pytest.fixture
def holding():
    """Makes another process hold a run until the test ends."""
    processes = []

    def hold(run: RunFolder) -> None:
        words = [sys.executable, "-c", HOLD, str(run.root), run.stage, run.id]
        processes.append(subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        assert processes[-1].stdout.readline() == "held\n"

    yield hold
    for process in processes:
        process.communicate()


def test_a_done_run_loses_what_it_no_longer_needs_and_nothing_else(tmp_path):
    done, knn = finished(tmp_path, 0)
    stopped, _ = finished(tmp_path, 1, done=False)
    before = tree(tmp_path)
    assert find(tmp_path, None, False).bytes == 2000
    assert pruned(tmp_path)[0] == {f"pretrain/{done.id}/{STEP}", f"pretrain/{done.id}/checkpoints/set-aside-1"}
    gone = before.keys() - tree(tmp_path).keys()
    assert gone == {f"pretrain/{done.id}/{name}" for name in (STEP, ASIDE, "checkpoints/set-aside-1")}
    done.check(done.weights)
    assert pruned(tmp_path) == (set(), {}), "a second time there is nothing left"


def test_half_written_files_go_after_a_day(tmp_path):
    run, knn = finished(tmp_path, 0, done=False)
    old = [
        aged(run.path / ".state.json.ab12_x9z", DAY_S + 60),
        aged(run.path / ".lease.0123456789abcdef", DAY_S + 60),
        aged(run.checkpoints / ".step-00000003.pt.abcdefgh", DAY_S + 60),
        aged(tmp_path / "grids" / "g" / ".worklist.json.abcdefgh", DAY_S + 60),
        aged(tmp_path / ".clock.0123", DAY_S + 60),
    ]
    aged(knn.path / ".state.json.abcdefgh", DAY_S - 60)
    aged(tmp_path / ".mine.json.backup", DAY_S + 60)
    aged(run.path / "notes.txt", DAY_S + 60)
    before = tree(tmp_path)
    assert pruned(tmp_path)[0] == {str(path.relative_to(tmp_path)) for path in old}
    assert before.keys() - tree(tmp_path).keys() == {str(path.relative_to(tmp_path)) for path in old}


def test_features_go_a_day_after_they_were_extracted(tmp_path):
    finished(tmp_path, 0, done=False)
    features = tmp_path / "features"
    old = [aged(features / name, DAY_S + 60) for name in ("0123456789abcdef.safetensors", ".01ab.safetensors.x_9")]
    young = aged(features / "abcdef0123456789.safetensors", DAY_S - 60)
    mine = aged(features / "notes.txt", DAY_S + 60)
    assert pruned(tmp_path)[0] == {str(path.relative_to(tmp_path)) for path in old}
    assert sorted(features.iterdir()) == [young, mine]


def test_a_held_run_is_left_alone(tmp_path, holding):
    run, knn = finished(tmp_path, 0)
    aged(run.path / ".state.json.abcdefgh", 2 * DAY_S)
    found = find(tmp_path, None, True)
    holding(run)
    before = tree(tmp_path)
    assert pruned(tmp_path) == (set(), {})
    kept = dict(delete(found).kept)
    assert kept == {run.path: "a process holds it"}
    assert {path for path in before if path.startswith("pretrain")} <= tree(tmp_path).keys()


def test_optimizer_state_stays_where_the_weights_are_gone(tmp_path):
    run, _ = finished(tmp_path, 0)
    run.weights.unlink()
    assert pruned(tmp_path) == (set(), {})


def test_runs_of_no_grid_go_by_choice_and_a_pretraining_that_is_needed_stays(tmp_path):
    needed, named = finished(tmp_path, 0)
    free, also = finished(tmp_path, 1)
    kept, kept_too = finished(tmp_path, 2)
    named_by(tmp_path, "one", named)
    record = tmp_path / "grids" / "two" / "submissions" / "ab.json"  # of a launch that died: no two.json
    write_json(record, {"grid": "two", "tasks": [[[r.stage, r.id]] for r in (kept, kept_too)], "job": None})
    exported = tmp_path / "exports" / "hf" / "config.json"
    exported.parent.mkdir(parents=True)
    exported.write_text("{}")
    deleted, why = pruned(tmp_path, no_grid=True)
    assert deleted >= {f"pretrain/{free.id}", f"knn/{also.id}"}
    assert why == {f"pretrain/{needed.id}": f"needed by knn/{named.id}"}
    assert needed.weights.exists() and kept.weights.exists() and kept_too.path.exists() and exported.exists()
    assert not free.path.exists() and not also.path.exists() and not (tmp_path / ".pruned").exists()


def test_a_pretraining_stays_while_its_evaluation_is_held(tmp_path, holding):
    run, knn = finished(tmp_path, 0)
    found = find(tmp_path, None, True)
    holding(knn)
    ended = delete(found)
    assert dict(ended.kept) == {knn.path: "a process holds it", run.path: f"needed by knn/{knn.id}"}
    assert pruned(tmp_path, no_grid=True)[1] == {
        f"knn/{knn.id}": "a process holds it",
        f"pretrain/{run.id}": f"needed by knn/{knn.id}",
    }
    assert run.weights.exists() and not ended.leftovers


def test_what_cannot_be_read_keeps_what_it_may_need(tmp_path):
    run, knn = finished(tmp_path, 0)
    (knn.path / "config.json").write_text("{")
    deleted, why = pruned(tmp_path, no_grid=True)
    assert set(why) == {f"knn/{knn.id}", f"pretrain/{run.id}"} and "perhaps needed by" in why[f"pretrain/{run.id}"]
    (tmp_path / "grids").mkdir()
    (tmp_path / "grids" / "g.json").write_text("{")
    with pytest.raises(ValueError, match=r"g\.json: damaged"):
        find(tmp_path, None, True)


def test_links_are_not_followed(tmp_path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    run, knn = finished(root, 0)
    elsewhere, _ = finished(outside, 1)
    (root / "pretrain" / elsewhere.id).symlink_to(elsewhere.path)
    run.checkpoints.rename(outside / "checkpoints")
    run.checkpoints.symlink_to(outside / "checkpoints")
    before = tree(outside)
    deleted, why = pruned(root, no_grid=True)
    assert why == {f"pretrain/{elsewhere.id}": "a link, or in a linked folder"}
    assert deleted == {f"pretrain/{run.id}", f"knn/{knn.id}"}
    assert tree(outside) == before and (root / "pretrain" / elsewhere.id).is_symlink()


def test_what_jobs_of_a_grid_left_goes_when_all_are_done(tmp_path):
    run, knn = finished(tmp_path, 0)
    stopped, _ = finished(tmp_path, 1, done=False)
    for name, runs in (("all", (run, knn)), ("part", (run, stopped)), ("live", (run,)), ("never", ())):
        named_by(tmp_path, name, *runs)
        (tmp_path / "grids" / name / "submitit").mkdir(parents=True)
        (tmp_path / "grids" / name / "submitit" / "1_0_log.out").write_text("said")
    write_json(tmp_path / "bench" / "kept.json", {"images_per_second": 1})
    with lock(tmp_path / "grids" / "live" / "launcher.lock"):
        deleted, _ = pruned(tmp_path)
    assert {path for path in deleted if path.startswith("grids")} == {"grids/all/submitit"}
    assert (tmp_path / "bench" / "kept.json").exists()


def test_only_runs_of_the_grids_that_are_named(tmp_path):
    from ablations.plan.plan import Entry, Plan

    run, _ = finished(tmp_path, 0)
    other, _ = finished(tmp_path, 1)
    planned = stage_jobs(experiment(seed=0, evaluations={"knn": {}}), lambda data: "f" * 16)[0]
    plan = Plan("one", tmp_path, 1, (Entry(planned, "mixmae", "f" * 16, (), run),), ())
    assert {path.split("/")[1] for path in pruned(tmp_path, [plan])[0]} == {run.id}
    assert (other.path / STEP).exists()
    with pytest.raises(ValueError, match="leave --grid out"):
        find(tmp_path, [plan], True)


def test_the_command_deletes_only_when_told(tmp_path, called):
    run, _ = finished(tmp_path, 0)
    write_config(tmp_path, stage_jobs(experiment(seed=3, evaluations={}), lambda data: "f" * 16)[0])
    command = ["--root", str(tmp_path), "runs", "prune"]
    shown, _ = called(*command, folder=tmp_path)
    assert f"1 kB  pretrain/{run.id}/{STEP}  (optimizer state of a done run)\n" in shown
    assert shown.endswith("would delete 2 kB in 2 places; add --apply to delete it\n") and (run.path / STEP).exists()
    done, _ = called(*command, "--apply", folder=tmp_path)
    assert done.endswith("deleted: 2 kB in 2 places\n") and not (run.path / STEP).exists()
