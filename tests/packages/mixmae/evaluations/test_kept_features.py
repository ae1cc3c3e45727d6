"""Features that were kept are the bits that are extracted, and are taken only where they are."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from mixmae.data.sources import sources
from mixmae.encoders.families import families
from mixmae.evaluations import kept_features
from mixmae.runs.folder import RunFolder
from mixmae.runs.predictions import NOT_READ, read_predictions
from mixmae.training.resources import Resources
from mixmae.work.execution import execute
from support import several
from support.forked import job
from support.tiny_jobs import experiment, never, planned_runs

SMALL = {"fraction": 0.2}
KNN = {"knn": {"subset": SMALL}}
RECIPES = {
    "adamw": {"linear": {"epochs": 5, "subset": SMALL}},
    "batch_norm": {"linear": {"epochs": 2, "subset": SMALL, "standardise": "batch_norm", "full_batches": True}},
    "lbfgs": {
        "linear": {
            "optimizer": "lbfgs", "weight_decay": 0.1, "subset": SMALL, "epochs": None, "batch": None,
            "base_lr": None, "base_batch": None,
        }
    },
    "knn": {"knn": {"k": 7, "subset": SMALL}},
}  # fmt: skip
DIGITS = {"method": "supervised", "evaluations": KNN}
"""A kNN of random weights."""


def evaluate(root, exp, resources=None) -> RunFolder:
    """The one evaluation of the experiment, done."""
    run = list(planned_runs(root, exp).values())[-1]
    assert execute(run, resources or Resources(), never) == "done", run.read("state")
    return run


def left(run: RunFolder) -> dict[str, bytes]:
    """All files that are repeatable bit for bit."""
    names = ("result.json", "metrics.jsonl", "predictions.safetensors")
    return {name: (run.path / name).read_bytes() for name in names if (run.path / name).exists()}


def files(root) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (root / "features").glob("*")}


def none_extracted(monkeypatch):
    monkeypatch.setattr(kept_features, "extract", lambda *_: pytest.fail("features were extracted"))


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A root with a pretraining that is done."""
    root = tmp_path_factory.mktemp("pretrained")
    assert execute(planned_runs(root, experiment())["pretrain"], Resources(), never) == "done"
    return root


# --------------------------------------------------------------------------------------------------------- same bits


@pytest.mark.parametrize("name", list(RECIPES))
def test_kept_features_give_the_bits_of_extracted_ones(tmp_path, pretrained, monkeypatch, name):
    with_them, without = (shutil.copytree(pretrained, tmp_path / part) for part in ("with", "without"))
    evaluate(with_them, experiment(evaluations=KNN))
    kept = files(with_them)
    assert len(kept) == 2
    extracted = left(evaluate(without, experiment(evaluations=RECIPES[name])))
    assert files(without) == kept
    none_extracted(monkeypatch)
    run = evaluate(with_them, experiment(evaluations=RECIPES[name]))
    assert left(run) == extracted and len(extracted) > 1
    assert files(with_them) == kept
    said = (run.path / "log.txt").read_text()
    assert "features of train were kept: none extracted" in said and "features of val were kept" in said


@pytest.mark.parametrize("name", ["adamw", "knn"])
def test_two_processes_take_them_together(tmp_path, pretrained, name):
    with_them, without = (shutil.copytree(pretrained, tmp_path / part) for part in ("with", "without"))

    def evaluated(root, *evaluations) -> RunFolder:
        runs = [planned_runs(root, experiment(evaluations=one))[next(iter(one))] for one in evaluations]
        several.finish(several.start(2, several.jobs, Resources().model_dump_json(), *(run.path for run in runs)))
        return runs[-1]

    run, alone = evaluated(with_them, KNN, RECIPES[name]), evaluated(without, RECIPES[name])
    assert left(run) == left(alone)
    assert "were kept" in (run.path / "log.txt").read_text() and "were kept" not in (alone.path / "log.txt").read_text()
    assert len(files(with_them)) == 2 and files(with_them) == files(without)


def test_two_jobs_at_once_leave_whole_files(tmp_path, pretrained):
    root = shutil.copytree(pretrained, tmp_path / "root")
    runs = [
        list(planned_runs(root, experiment(evaluations=one)).values())[-1] for one in (KNN, *list(RECIPES.values())[1:])
    ]
    for process in [job(run, Resources()) for run in runs]:
        assert process.communicate(timeout=300)[0] == "done\n"
    alone = shutil.copytree(pretrained, tmp_path / "alone")
    evaluate(alone, experiment(evaluations=KNN))
    assert files(root) == files(alone)


def test_random_weights_of_one_seed_are_one_encoder(tmp_path, monkeypatch):
    evaluate(tmp_path, experiment(**DIGITS))
    none_extracted(monkeypatch)
    evaluate(tmp_path, experiment("supervised", evaluations=RECIPES["adamw"]))


def test_pixels_are_not_kept(tmp_path):
    for evaluations in ({"knn": {"features": "pixels", **KNN["knn"]}}, {"linear": {"features": "pixels", "epochs": 1}}):
        evaluate(tmp_path, experiment("supervised", evaluations=evaluations))
    assert files(tmp_path) == {}


# ------------------------------------------------------------------------------------------------- what they are of


def of_recipe(**fields):
    return experiment("supervised", evaluations={"knn": {**KNN["knn"], **fields}})


CHANGES = {
    "crop": (lambda: of_recipe(eval_crop=0.7), 2),
    "subset": (lambda: of_recipe(subset={"fraction": 0.3}), 1),
    "subset's seed": (lambda: of_recipe(subset={**SMALL, "seed": 5}), 1),
    "neighbours": (lambda: of_recipe(k=3), 0),
    "encoder": (lambda: experiment("supervised", "pvt", evaluations=KNN), 2),
    "seed": (lambda: experiment(**DIGITS, seed=1), 2),
    "one unit in the last place": (lambda: experiment(**DIGITS).model_copy(update={"perturb": 1}), 2),
    "tuning": (lambda: experiment(**DIGITS, data={"name": "digits", "tuning": 0.2}), 2),
    "other data": (lambda: experiment(**DIGITS, data="placed_digits"), 2),
}


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """A root in which the features of a kNN of random weights are kept."""
    root = tmp_path_factory.mktemp("known")
    evaluate(root, experiment(**DIGITS))
    assert len(files(root)) == 2
    return root


@pytest.mark.parametrize("change", list(CHANGES))
def test_what_sees_something_else_extracts_it(tmp_path, known, change):
    changed, extracted = CHANGES[change]
    root, alone = shutil.copytree(known, tmp_path / "root"), tmp_path / "alone"
    assert left(evaluate(root, changed())) == left(evaluate(alone, changed()))
    assert len(files(root)) == 2 + extracted
    assert files(alone).items() <= files(root).items()


@pytest.mark.parametrize("change", [{"encoder": {"heads": (2, 4)}}, {"image_size": (48, 48)}])
def test_the_same_weights_in_another_encoder_or_at_another_size_see_something_else(tmp_path, change):
    """Of PVT's random weights neither changes a shape."""
    one = experiment("supervised", "pvt", evaluations=KNN)
    other = {name: one.encoder.model_copy(update=of) if name == "encoder" else of for name, of in change.items()}
    evaluate(tmp_path, one)
    evaluate(tmp_path, one.model_copy(update=other))
    assert len(files(tmp_path)) == 4


def test_val_and_what_is_set_aside_of_train_are_not_confused(tmp_path):
    data = {"name": "digits", "tuning": 0.2}
    for split in ("val", "tuning"):
        knn = {"knn": {**KNN["knn"], "measure": split}}
        evaluate(tmp_path, experiment("supervised", evaluations=knn, data=data))
    assert sorted(len(load_file(path)["labels"]) for path in (tmp_path / "features").glob("*")) == [230, 288, 355]


@pytest.mark.parametrize("what", ["threads", "variable", "code", "fingerprint"])
def test_another_execution_extracts_its_own(tmp_path, known, monkeypatch, what):
    root = shutil.copytree(known, tmp_path / "root")
    (run,) = planned_runs(root, of_recipe(k=4)).values()
    if what == "variable":
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "ALL")
    if what == "code":
        monkeypatch.setattr(kept_features, "_code", lambda: "changed")
    if what == "fingerprint":
        identity = kept_features.identity
        monkeypatch.setattr(kept_features, "identity", lambda *a, **more: identity(*a, **{**more, "fingerprint": "f"}))
    assert execute(run, Resources(threads=2 if what == "threads" else 1), never) == "done"
    torch.set_num_threads(1)
    assert len(files(root)) == 4


def test_the_environment_counts_but_for_where_and_how_fast(tmp_path, known, monkeypatch):
    """Workers, another host and a commit change no bits."""
    root = shutil.copytree(known, tmp_path / "root")
    monkeypatch.setenv("SLURMD_NODENAME", "another")
    none_extracted(monkeypatch)
    evaluate(root, of_recipe(k=4), Resources(workers=1))


@pytest.mark.parametrize(("specs", "own"), [(families, "swin"), (sources, "digits")])
def test_features_by_the_code_of_a_plug_in_are_not_kept(tmp_path, monkeypatch, specs, own):
    monkeypatch.setattr(specs, "is_plugged_in", lambda name: name == own)
    assert "were kept" not in (evaluate(tmp_path, experiment(**DIGITS)).path / "log.txt").read_text()
    assert files(tmp_path) == {}


def test_large_ones_are_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(kept_features, "LARGEST", 288 * 32 * 4)
    evaluate(tmp_path, experiment(**DIGITS))
    (path,) = (tmp_path / "features").glob("*")
    kept = load_file(path)
    assert kept["features"].shape == (288, 32) and kept["features"].dtype == torch.float32


# ------------------------------------------------------------------------------------------------------------ damage


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


DAMAGES = {
    "empty": lambda content: b"",
    "half": lambda content: content[: len(content) // 2],
    "less one byte": lambda content: content[:-1],
    "a byte more": lambda content: content + b"\0",
    "zeros": lambda content: bytes(len(content)),
    "a bit of a number": lambda content: flipped(content, len(content) // 2),
    "a bit of the last number": lambda content: flipped(content, -1 + len(content)),
    "another's name": lambda content: content.replace(b'"features"', b'"featuref"'),
    "a shape": lambda content: content.replace(b"[288,32]", b"[32,288]"),
}


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_a_damaged_file_is_said_and_written_anew(tmp_path, known, damage):
    root = shutil.copytree(known, tmp_path / "root")
    whole = files(root)
    (path,) = [path for path in (root / "features").glob("*") if b"[288,32]" in path.read_bytes()]
    damaged = DAMAGES[damage](path.read_bytes())
    assert damaged != path.read_bytes()
    path.write_bytes(damaged)
    run = evaluate(root, of_recipe(k=4))
    said = (run.path / "log.txt").read_text()
    assert f"WARNING {path} cannot be read (" in said and "extracted anew" in said
    assert files(root) == whole
    assert left(run) == left(evaluate(tmp_path / "alone", of_recipe(k=4)))


def test_no_bit_of_a_file_can_change_unseen(known, caplog):
    (path,) = [path for path in (known / "features").glob("*") if b"[288,32]" in path.read_bytes()]
    content, kept = path.read_bytes(), kept_features._read(path)
    assert kept is not None
    other = path.parents[1] / "flipped.safetensors"
    header = 8 + int.from_bytes(content[:8], "little")
    for place in (*range(header), *range(header, len(content), 997)):
        other.write_bytes(flipped(content, place))
        assert kept_features._read(other) is None, place
    assert len(caplog.records) > header


def test_a_folder_that_cannot_be_written_costs_nothing_but_time(tmp_path, known):
    (tmp_path / "features").write_text("in the way")
    run = evaluate(tmp_path, experiment(**DIGITS))
    assert (run.path / "log.txt").read_text().count("WARNING features are not kept: ") == 2
    assert left(run) == left(evaluate(known, experiment(**DIGITS)))


def test_features_of_a_split_with_unreadable_images_are_extracted_each_time(tmp_path):
    noise = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 6)):
        for name in ("a", "b"):
            folder = tmp_path / "data" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                Image.fromarray(noise.integers(0, 255, (32, 32, 3), np.uint8)).save(folder / f"{number}.png")
    (tmp_path / "data/val/a/3.png").write_bytes(b"no image")
    data = {"name": "image_folder", "path": str(tmp_path / "data"), "bad_files": 1}

    for evaluations in ({"knn": {"k": 3}}, {"knn": {"k": 5}}, {"linear": {"epochs": 2}}):
        run = evaluate(tmp_path / "runs", experiment("supervised", evaluations=evaluations, data=data))
        assert read_predictions(run).predicted.tolist().count(NOT_READ) == 1
        assert "val/a/3.png: cannot be read" in (run.path / "log.txt").read_text()
        (path,) = (tmp_path / "runs/features").glob("*")
        assert load_file(path)["labels"].tolist() == [0] * 12 + [1] * 12
    assert "features of train were kept" in (run.path / "log.txt").read_text()
