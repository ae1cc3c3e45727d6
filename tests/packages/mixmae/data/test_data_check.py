import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from mixmae.data.image_folder import check as checking
from mixmae.data.image_folder.check import check, lines
from mixmae.data.image_folder.fingerprint import fingerprint
from mixmae.data.image_folder.spec import ImageFolderConfig


@pytest.fixture
def tree(tmp_path):
    """3 cats and 2 dogs to train on, one of each to validate; no two alike."""
    root = tmp_path / "pets"
    random = np.random.default_rng(0)
    for number, place in enumerate(
        ["train/cat/a.png", "train/cat/b.jpg", "train/cat/c.png", "train/dog/a.png", "train/dog/b.png"]
        + ["val/cat/d.png", "val/dog/d.png"]
    ):
        path = root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (10 + number, 20, 3), dtype=np.uint8)).save(path)
    return root


def checked(root, bad_files=0) -> dict:
    found = check(ImageFolderConfig(path=str(root), bad_files=bad_files))
    assert json.loads(json.dumps(found)) == found
    assert found["trainable"] == (not found["problems"])
    return found


def test_a_sound_folder(tree, tmp_path):
    found = checked(tree)
    assert found["trainable"] and found["duplicates"] == []
    assert found["fingerprint"] == fingerprint(ImageFolderConfig(path=str(tree)), tmp_path / "runs")
    assert found["splits"]["train"] == {
        "images": 5,
        "unreadable": {},
        "classes": {"cat": 3, "dog": 2},
        "formats": {"PNG": 4, "JPEG": 1},
        "modes": {"RGB": 5},
        "width": {"min": 20, "median": 20, "max": 20},
        "height": {"min": 10, "median": 12, "max": 14},
        "others": [],
    }
    assert lines(found) == [
        f"{tree}: can be trained on",
        "train: 5 images of 2 classes, 2 to 3 files a class",
        "  formats: PNG 4, JPEG 1",
        "  modes: RGB 5",
        "  width: 20 to 20 px, median 20",
        "  height: 10 to 14 px, median 12",
        "val: 2 images of 2 classes, 1 to 1 files a class",
        "  formats: PNG 2",
        "  modes: RGB 2",
        "  width: 20 to 20 px, median 20",
        "  height: 15 to 16 px, median 15",
        f"fingerprint: {found['fingerprint']}",
    ]


def test_unreadable_files_are_named_with_their_reasons(tree):
    (tree / "train/cat/a.png").write_bytes(b"")
    (tree / "train/dog/a.png").write_bytes((tree / "train/dog/a.png").read_bytes()[:200])
    found = checked(tree, bad_files=1)
    unreadable = found["splits"]["train"]["unreadable"]
    assert list(unreadable) == ["train/cat/a.png", "train/dog/a.png"]
    assert unreadable["train/cat/a.png"] == "cannot be read as an image (no known image format)"
    assert found["problems"] == ["train: 2 unreadable images, more than data.bad_files: 1 allows"]
    assert found["splits"]["train"]["images"] == 3 and found["fingerprint"]
    assert checked(tree, bad_files=2)["trainable"]
    assert "    train/cat/a.png: cannot be read as an image (no known image format)" in lines(found)
    (tree / "val/cat/d.png").write_bytes(b"no image")
    assert checked(tree, bad_files=2)["problems"] == ["val/cat: none of its 1 images can be read"]


def test_duplicates_other_files_and_modes_are_found(tree):
    shutil.copy(tree / "train/cat/a.png", tree / "val/dog/leak.png")
    (tree / "train/cat/notes.txt").write_text("x")
    (tree / "train/list.csv").write_text("x")
    (tree / "train/.hidden").write_text("x")
    Image.new("CMYK", (400, 3)).save(tree / "val/cat/wide.jpg")
    found = checked(tree)
    assert found["trainable"] and found["duplicates"] == [["train/cat/a.png", "val/dog/leak.png"]]
    assert found["splits"]["train"]["others"] == ["train/list.csv", "train/cat/notes.txt"]
    assert found["splits"]["val"]["modes"] == {"RGB": 3, "CMYK": 1}
    assert found["splits"]["val"]["width"]["max"] == 400
    assert "    train/cat/a.png = val/dog/leak.png" in lines(found)


def test_every_problem_of_a_layout_is_told_at_once(tree):
    (tree / "val/emu").mkdir()
    (tree / "train/cat/z.png").symlink_to("nowhere")
    (tree / "train/dog/again").symlink_to(".")
    os.mkfifo(tree / "val/dog/pipe.png")
    found = checked(tree)
    said = "\n".join(found["problems"])
    for part in (
        "train/cat/z.png: a link that leads nowhere",
        "train/dog/again: a link back to a folder it lies in",
        "val/dog/pipe.png: neither a file nor a folder",
        "val/emu: no images",
        "train: 1 classes of",
    ):
        assert said.count(part) == 1, said
    assert found["fingerprint"] is None and "cannot be trained on" in lines(found)[0]


def test_missing_folders_and_splits(tree):
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder; write the one that holds"):
        check(ImageFolderConfig(path=str(tree / "nowhere")))
    shutil.rmtree(tree / "val")
    (problem,) = checked(tree)["problems"]
    assert "val: no such folder" in problem


def test_many_files_are_read_by_several_processes(tree, monkeypatch):
    alone = checked(tree)
    monkeypatch.setattr(checking, "ALONE_UP_TO", 0)
    assert checked(tree) == alone


def test_checking_imports_no_torch():
    code = "import sys, mixmae.data.image_folder.check; assert not {'torch', 'sklearn', 'timm'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
