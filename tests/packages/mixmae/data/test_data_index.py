"""Which files count, what is refused by name, and when the index is read again."""

import json
import os
from types import SimpleNamespace

import pytest
from PIL import Image

from mixmae.data.batches import open_split
from mixmae.data.image_folder import fingerprint as fingerprints
from mixmae.data.image_folder import index as indexes
from mixmae.data.image_folder.fingerprint import fingerprint
from mixmae.data.image_folder.index import index
from mixmae.data.image_folder.spec import ImageFolderConfig
from mixmae.data.sources import sources
from mixmae.training.resources import Resources
from mixmae.work import execution
from support.tiny_jobs import experiment, never, planned_runs


def put(path, shade=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (shade,) * 3).save(path, "PNG")


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "pets"
    for place in ("train/cat/a.png", "train/cat/b.png", "train/dog/a.png", "val/cat/c.png", "val/dog/c.png"):
        put(root / place)
    return root


def config(root) -> ImageFolderConfig:
    return ImageFolderConfig(path=str(root))


# ---------------------------------------------------------------------------------------------------------- what counts


def test_names_in_any_script(tree):
    for name in ("猫", "кошка", "قطة", "Füchse und Dachse", "🦊"):
        put(tree / "train" / name / f"{name} 1.PNG")
        put(tree / "val" / name / f"{name}\n2.jpg")
    split = open_split(config(tree), "train")
    assert {"猫", "кошка", "قطة", "Füchse und Dachse", "🦊"} < set(split.classes)
    assert split.classes == sorted(split.classes)
    assert "猫/猫 1.PNG" in [split.name(i) for i in range(len(split))]
    assert all(split.image(i).size == (4, 4) for i in range(len(split)))
    assert len(fingerprint(config(tree), tree / "runs")) == 16


def test_names_that_are_no_text_are_refused(tree):
    name = os.fsencode(tree / "train/cat") + b"/\xff\xfe.png"
    with open(name, "wb"):
        pass
    with pytest.raises(ValueError, match=r"train/cat: the name b'\\xff\\xfe.png' is not UTF-8; rename it"):
        index(tree)


def test_hidden_files_and_other_files_are_passed_over(tree):
    before = index(tree).files
    put(tree / "train/cat/.hidden.png")
    put(tree / "train/cat/.thumbnails/a.png")
    put(tree / "train/.cache/a.png")
    (tree / "train/cat/notes.txt").write_text("x")
    (tree / "train/README.png").write_text("not in a class")
    assert index(tree).files == before


def test_folders_within_classes_and_links_are_followed(tree, tmp_path):
    put(tmp_path / "elsewhere/deep/z.png")
    (tree / "train/cat/more").symlink_to(tmp_path / "elsewhere")
    (tree / "train/dog/z.png").symlink_to(tmp_path / "elsewhere/deep/z.png")
    (tree / "val/emu").symlink_to(tmp_path / "elsewhere")
    (tree / "train/emu").symlink_to(tmp_path / "elsewhere")
    assert index(tree).files["train"] == {
        "cat": ["a.png", "b.png", "more/deep/z.png"],
        "dog": ["a.png", "z.png"],
        "emu": ["deep/z.png"],
    }
    assert sources["image_folder"].counts(config(tree), "train") == (3, 2, 1)


@pytest.mark.parametrize("target", ["..", ".", "../../.."])
def test_links_back_are_refused_by_name(tree, target):
    (tree / "train/cat/again").symlink_to(target)
    with pytest.raises(ValueError, match=r"train/cat/again.*: a link back to a folder it lies in; remove it"):
        index(tree)


def test_links_to_nowhere_and_to_themselves_are_refused_by_name(tree):
    (tree / "train/cat/z.png").symlink_to(tree / "gone.png")
    with pytest.raises(ValueError, match=r"train/cat/z\.png: a link that leads nowhere; remove it"):
        index(tree)
    (tree / "train/cat/z.png").unlink()
    (tree / "train/cat/y.png").symlink_to("y.png")
    with pytest.raises(ValueError, match=r"train/cat/y\.png: a link that leads nowhere; remove it"):
        index(tree)


def test_pipes_are_refused_by_name(tree):
    os.mkfifo(tree / "val/dog/pipe.jpg")
    with pytest.raises(ValueError, match=r"val/dog/pipe\.jpg: neither a file nor a folder; remove it"):
        index(tree)


def test_classes_that_differ_are_named_in_both_directions(tree):
    put(tree / "val/emu/a.png")
    with pytest.raises(ValueError, match=r"train: 1 classes of .*val are missing, the first is 'emu'"):
        index(tree)
    put(tree / "train/emu/a.png")
    put(tree / "train/yak/a.png")
    with pytest.raises(ValueError, match=r"val: 1 classes of .*train are missing, the first is 'yak'"):
        index(tree)


def test_empty_classes_and_splits_are_named(tree):
    (tree / "val/cat/c.png").rename(tree / "val/cat/c.txt")
    with pytest.raises(ValueError, match="val/cat: no images .such as .jpg"):
        index(tree)
    for place in ("cat/c.txt", "dog/c.png"):
        (tree / "val" / place).unlink()
    for name in ("cat", "dog"):
        (tree / "val" / name).rmdir()
    with pytest.raises(ValueError, match="val: no class folders"):
        index(tree)


# ---------------------------------------------------------------------------------------------------------------- cache


@pytest.fixture
def cached(tree, tmp_path, monkeypatch):
    """The file that keeps the index of `tree`, whose folders count as settled."""
    monkeypatch.setattr(fingerprints, "CACHED_FROM", 0)
    monkeypatch.setattr(indexes, "SETTLED_NS", 0)
    fingerprint(config(tree), tmp_path / "runs")
    (path,) = (tmp_path / "runs/fingerprints").iterdir()
    return path


def forget(monkeypatch):
    monkeypatch.setattr(indexes, "_walked", {})


def test_a_kept_index_is_used_without_a_walk(tree, cached, tmp_path, monkeypatch):
    expected, print_ = index(tree), fingerprint(config(tree), tmp_path / "none")
    forget(monkeypatch)
    monkeypatch.setattr(indexes, "walk", lambda _: pytest.fail("walked again"))
    monkeypatch.setattr(fingerprints, "_of_files", lambda *_: pytest.fail("sizes read again"))
    assert fingerprint(config(tree), tmp_path / "runs") == print_
    assert index(tree) == expected
    assert open_split(config(tree), "train").labels == [0, 0, 1]


def test_every_process_of_a_run_uses_the_kept_index(tree, cached, tmp_path, monkeypatch):
    exp = experiment("supervised", evaluations={"knn": {}}).model_copy(update={"data": config(tree)})
    run = planned_runs(tmp_path / "runs", exp)["knn"]
    forget(monkeypatch)
    monkeypatch.setattr(indexes, "walk", lambda _: pytest.fail("walked"))
    monkeypatch.setattr(execution, "resolve", lambda _: lambda session, job: open_split(job.data, "train").labels)
    asked = iter([{"root": str(run.root), "stage": run.stage, "id": run.id}, None])
    second = SimpleNamespace(
        leads=False, rank=1, count=2, device="cpu", broadcast=lambda _: next(asked), leave=lambda: None, ends=None
    )
    assert execution.follow(Resources(), never, second) == "done"


@pytest.mark.parametrize(
    "change",
    [
        lambda tree: put(tree / "train/cat/z.png"),
        lambda tree: (tree / "train/cat/a.png").unlink(),
        lambda tree: (tree / "val/dog/c.png").rename(tree / "val/dog/d.png"),
        lambda tree: (put(tree / "train/emu/a.png"), put(tree / "val/emu/a.png")),
    ],
    ids=["added", "removed", "renamed", "class"],
)
def test_a_changed_tree_is_walked_again(tree, cached, tmp_path, monkeypatch, change):
    before = fingerprint(config(tree), tmp_path / "runs")
    change(tree)
    assert index(tree) == indexes.walk(tree)
    forget(monkeypatch)
    after = fingerprint(config(tree), tmp_path / "runs")
    assert after != before and index(tree) == indexes.walk(tree)
    assert json.loads(cached.read_text())["fingerprint"] == after


def test_a_file_of_equal_size_written_in_place_is_not_seen(tree, cached, tmp_path):
    """As the docstrings say."""
    before = fingerprint(config(tree), tmp_path / "runs")
    path = tree / "train/cat/a.png"
    path.write_bytes(path.read_bytes()[::-1])
    assert fingerprint(config(tree), tmp_path / "runs") == before


def test_a_tree_changed_just_now_is_not_kept(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(fingerprints, "CACHED_FROM", 0)
    fingerprint(config(tree), tmp_path / "runs")
    assert not (tmp_path / "runs").exists() and not index(tree).settled


@pytest.mark.parametrize("damage", ["cut", "empty", "byte", "json", "old"])
def test_a_damaged_cache_is_warned_of_and_written_anew(tree, cached, tmp_path, monkeypatch, caplog, damage):
    whole = cached.read_bytes()
    print_ = json.loads(whole)["fingerprint"]
    cached.write_bytes(
        {
            "cut": whole[: len(whole) // 2],
            "empty": b"",
            "byte": whole.replace(b"a.png", b"A.png", 1),
            "json": b"[]",
            "old": b'{"schema": 1, "path": "x", "stamp": "0", "fingerprint": "0"}',
        }[damage]
    )
    forget(monkeypatch)
    assert fingerprint(config(tree), tmp_path / "runs") == print_
    assert cached.read_bytes() == whole
    assert f"{cached.name} is damaged or of another version and is written anew" in caplog.text
