"""torchvision's sets: every format read as it was written, bad input refused, and an index that spares opening them."""

import json
import os
import shutil
import subprocess
import sys
from typing import get_args

import numpy as np
import pytest
import torchvision.datasets
from PIL import Image

from mixmae.data.batches import open_split
from mixmae.data.placing import Placement
from mixmae.data.reading import Unreadable
from mixmae.data.sources import DataNotHere, sources
from mixmae.data.torchvision_sets import indexed, reading
from mixmae.data.torchvision_sets.fetch import fetch
from mixmae.data.torchvision_sets.sets import SETS
from mixmae.data.torchvision_sets.source import placement
from mixmae.data.torchvision_sets.spec import SPEC, Dataset, TorchvisionConfig
from mixmae.fields.identity import identity
from results import published
from support.program import mixmae
from support.torchvision_sets import DEBIAN, MADE, fashion, needs_debian, random_set, write_idx, write_mnist


def config(folder, dataset="FashionMNIST", **fields) -> TorchvisionConfig:
    return TorchvisionConfig(dataset=dataset, path=str(folder), **fields)


@pytest.fixture(autouse=True)
def settled(monkeypatch):
    """What tests have just written counts as settled, and what others have opened is forgotten."""
    monkeypatch.setattr(indexed, "SETTLED_NS", -1)
    monkeypatch.setattr(indexed, "_known", {})


# -------------------------------------------------------------------------------------------------------------- formats


def test_the_table_holds_what_a_config_can_name():
    assert set(get_args(Dataset)) == set(SETS) == set(MADE)
    assert all(getattr(torchvision.datasets, name) for name in SETS)


@pytest.mark.parametrize("dataset", sorted(SETS))
def test_every_set_is_read_as_it_was_written(tmp_path, monkeypatch, dataset):
    made = MADE[dataset](tmp_path, monkeypatch)
    data = SPEC.placed(config(tmp_path, dataset))
    assert len(SPEC.fingerprint(data, tmp_path / "runs")) == 16
    for split, (images, labels) in made.items():
        opened = open_split(data, split)
        assert opened.labels == labels and len(opened) == len(labels)
        assert len(opened.classes) == len(set(labels))
        assert SPEC.counts(data, split) == tuple(np.bincount(labels))
        wanted = images if images.ndim == 4 else np.repeat(images[..., None], 3, -1)
        found = [opened.image(index) for index in range(len(opened))]
        assert {image.mode for image in found} == {"RGB"}
        np.testing.assert_array_equal(np.stack([np.asarray(image) for image in found]), wanted)
        assert len({opened.name(index) for index in range(len(opened))}) == len(opened)


def test_classes_are_in_the_order_of_labels(tmp_path, monkeypatch):
    for dataset, wanted in {
        "Places365": ["/z/zoo", "/a/abbey"],
        "Food101": ["apple_pie", "tacos", "waffles"],
        "SVHN": list("0123456789"),
    }.items():
        MADE[dataset](tmp_path / dataset, monkeypatch)
        assert open_split(config(tmp_path / dataset, dataset), "val").classes == wanted


def test_fashion_mnist_is_a_folder_of_its_images(tmp_path, monkeypatch):
    """With classes 00 … 09 in the order of labels, grey as three equal channels."""
    made = fashion(tmp_path / "set", monkeypatch)
    for split, (images, labels) in made.items():
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            path = tmp_path / "folder" / split / f"{label:02}" / f"{number:05}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    other = sources["image_folder"].config(path=str(tmp_path / "folder"))
    for split in made:
        ours, theirs = open_split(config(tmp_path / "set"), split), open_split(other, split)
        order = np.argsort(ours.labels, kind="stable")
        assert [ours.labels[index] for index in order] == theirs.labels
        for place, index in enumerate(order):
            assert ours.image(int(index)).tobytes() == theirs.image(place).tobytes()
        assert SPEC.counts(config(tmp_path / "set"), split) == sources["image_folder"].counts(other, split)


def test_padding_adds_black_and_resizes_nothing(tmp_path, monkeypatch):
    images, _ = fashion(tmp_path, monkeypatch)["val"]
    padded = open_split(config(tmp_path, pad=2), "val")
    for index, image in enumerate(images):
        wanted = np.pad(image, 2)
        np.testing.assert_array_equal(np.asarray(padded.image(index)), np.repeat(wanted[..., None], 3, -1))


def test_placed_images_are_the_same_for_every_seed_and_lie_all_over_the_canvas(tmp_path, monkeypatch):
    images, _ = fashion(tmp_path, monkeypatch)["train"]
    train, val = (open_split(config(tmp_path, placed=True), split) for split in ("train", "val"))
    where = [placement("train", index) for index in range(2000)]
    assert {at.size for at in where} == set(range(18, 29)) and {at.left for at in where} == set(range(15))
    for name in ("left", "top"):
        assert all(0 <= getattr(at, name) <= 32 - at.size for at in where)
    centres = np.asarray([(at.left + at.size / 2, at.top + at.size / 2) for at in where])
    np.testing.assert_allclose(centres.mean(0), 16, atol=0.3)
    assert abs(np.corrcoef(centres.T)[0, 1]) < 0.1
    assert [placement("val", index) for index in range(9)] != where[:9]
    assert where[:2] == [Placement(25, 4, 3), Placement(20, 6, 10)]
    for index, image in enumerate(images):
        size, left, top = where[index].size, where[index].left, where[index].top
        wanted = np.zeros((32, 32), np.uint8)
        wanted[top : top + size, left : left + size] = Image.fromarray(image).resize((size, size), Image.BICUBIC)
        found = np.asarray(train.image(index))
        np.testing.assert_array_equal(found, np.repeat(wanted[..., None], 3, -1))
        assert train.image(index).tobytes() == found.tobytes()
    assert val.image(0).size == (32, 32)


def test_debians_files_are_the_known_set(fashion_mnist, tmp_path):
    data = config(fashion_mnist)
    assert SPEC.fingerprint(data, tmp_path) == "52a92606c1452071"
    assert SPEC.counts(data, "train") == (6000,) * 10 and SPEC.counts(data, "val") == (1000,) * 10
    val = open_split(data, "val")
    assert val.classes[val.labels[0]] == "Ankle boot" and val.image(0).size == (28, 28)


@pytest.fixture(scope="session")
def fashion_mnist(tmp_path_factory):
    """Debian's FashionMNIST, fetched."""
    needs_debian()
    folder = tmp_path_factory.mktemp("fashion")
    fetch("FashionMNIST", folder, DEBIAN, say=lambda line: None)
    return folder


# ------------------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("fields", "where", "what"),
    [
        ({"dataset": "FashionMINST"}, "dataset", "did you mean 'FashionMNIST'"),
        ({"dataset": "Caltech101"}, "dataset", "CIFAR10"),
        ({}, "dataset", "missing field"),
        ({"dataset": "MNIST", "pad": -1}, "pad", "from 0 up"),
        ({"dataset": "CIFAR10", "placed": True}, "placed", "CIFAR10 is in colour and fills its images; leave it out"),
        ({"dataset": "MNIST", "placed": True, "pad": 2}, "pad", "placed images are 32 px already; leave it out"),
        ({"dataset": "MNIST", "split": "test"}, "split", "unknown field"),
    ],
)
def test_what_a_config_cannot_say(tmp_path, fields, where, what):
    experiment = {"base": "digits_nano", "data": {"name": "torchvision", "path": str(tmp_path), **fields}}
    (tmp_path / "one.yaml").write_text(json.dumps(experiment))
    said = mixmae("run", "one.yaml", folder=tmp_path, check=2)[1]
    assert f"data.{where}: " in said and what.replace("'", "") in said.replace("'", "")


def test_a_set_that_is_not_there_is_refused_with_the_command_that_fetches_it(tmp_path, monkeypatch):
    with pytest.raises(DataNotHere, match=f"no CIFAR10 in {tmp_path}, which lacks cifar-10-batches-py/data_batch_1; "):
        SPEC.placed(config(tmp_path, "CIFAR10"))
    with pytest.raises(DataNotHere) as refused:
        SPEC.placed(config(tmp_path / "my sets", "CIFAR10"))
    assert refused.value.what.endswith(f"fetch it: mixmae data fetch CIFAR10 '{tmp_path}/my sets'")
    assert refused.value.path == ("path",)


def test_a_variable_names_the_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("FASHION_MNIST", raising=False)
    with pytest.raises(DataNotHere, match="variable FASHION_MNIST is not set, .*mixmae data fetch FashionMNIST") as one:
        SPEC.placed(config("$FASHION_MNIST/sets"))
    assert one.value.variable == "FASHION_MNIST"
    fashion(tmp_path / "sets", monkeypatch)
    monkeypatch.setenv("FASHION_MNIST", str(tmp_path))
    assert SPEC.placed(config("$FASHION_MNIST/sets")).path == str(tmp_path / "sets")
    assert SPEC.placed(config("${FASHION_MNIST}/sets")).path == str(tmp_path / "sets")


def test_a_folder_of_an_older_torchvision_is_refused(tmp_path, monkeypatch):
    fashion(tmp_path, monkeypatch)
    (tmp_path / "FashionMNIST/processed").mkdir()
    with pytest.raises(DataNotHere, match=r"FashionMNIST/processed is of an older torchvision.*; remove it"):
        SPEC.placed(config(tmp_path))
    with pytest.raises(ValueError, match=r"FashionMNIST/processed: of an older torchvision.*; remove it"):
        open_split(config(tmp_path), "val")


@pytest.mark.parametrize(
    ("split", "other", "what"),
    [
        ("train", "val", "the train split of FashionMNIST has no image of the class 'Bag', which val has"),
        ("val", "train", "the val split of FashionMNIST has no image of the class 'Bag', which train has"),
    ],
)
def test_a_class_that_one_split_lacks_is_refused(tmp_path, split, other, what):
    made = random_set(10, (3, 2), 28, 28)
    images, labels = made[split]
    kept = [index for index, label in enumerate(labels) if label != 8]
    made[split] = images[kept], [labels[index] for index in kept]
    write_mnist(tmp_path, made)
    with pytest.raises(ValueError, match=what):
        SPEC.fingerprint(config(tmp_path), tmp_path / "runs")


@pytest.mark.parametrize(("split", "other"), [("val", "train"), ("train", "val")])
@pytest.mark.parametrize("dataset", ["Food101", "INaturalist"])
def test_a_class_of_files_that_one_split_lacks_is_refused(tmp_path, monkeypatch, dataset, split, other):
    """These number their classes in each split anew, so that labels would mean other classes."""
    MADE[dataset](tmp_path, monkeypatch)
    if dataset == "Food101":
        name = "zabaglione"
        file = tmp_path / "food-101/meta" / {"train": "train.json", "val": "test.json"}[split]
        file.write_text(json.dumps({**json.loads(file.read_text()), name: ["tacos/train0"]}))
    else:
        name = "00003_a_b_c_d_e_f_g3"
        made = tmp_path / {"train": "2021_train", "val": "2021_valid"}[split] / name
        made.mkdir()
        shutil.copy(next((tmp_path / "2021_train").rglob("*.jpg")), made / "0.jpg")
    with pytest.raises(ValueError, match=f"the {split} split of {dataset} has the class '{name}', which {other} lacks"):
        SPEC.fingerprint(config(tmp_path, dataset), tmp_path / "runs")


def test_a_label_without_a_class_and_an_image_without_a_label_are_refused(tmp_path, monkeypatch):
    made = random_set(11, (3, 2), 28, 28)
    write_mnist(tmp_path / "a", made)
    with pytest.raises(ValueError, match="has the label 10, which is none of 10 classes; remove FashionMNIST there"):
        SPEC.fingerprint(config(tmp_path / "a"), tmp_path)
    fashion(tmp_path / "b", monkeypatch)
    write_idx(tmp_path / "b/FashionMNIST/raw/train-labels-idx1-ubyte", np.zeros(4))
    with pytest.raises(ValueError, match="the train split of FashionMNIST has 30 images and 4 labels"):
        SPEC.fingerprint(config(tmp_path / "b"), tmp_path)


@pytest.mark.parametrize("size", [0, 3, 500])
def test_a_file_that_was_cut_off_is_refused(tmp_path, monkeypatch, size):
    fashion(tmp_path, monkeypatch)
    os.truncate(tmp_path / "FashionMNIST/raw/train-images-idx3-ubyte", size)
    with pytest.raises(ValueError, match=r"cannot read the train split of FashionMNIST .*mixmae data fetch Fashion"):
        SPEC.fingerprint(config(tmp_path), tmp_path / "runs")


@pytest.mark.parametrize("file", ["data_batch_3", "test_batch", "batches.meta"])
def test_no_pickle_is_opened_that_is_another_than_torchvision_knows(tmp_path, monkeypatch, file):
    MADE["CIFAR10"](tmp_path, monkeypatch)
    path = tmp_path / "cifar-10-batches-py" / file
    path.write_bytes(b"cos\nsystem\n(S'touch " + str(tmp_path / "opened").encode() + b"'\ntR.")
    with pytest.raises(ValueError, match=r"torchvision cannot read the train split of CIFAR10 \(.*corrupted\); remove"):
        SPEC.fingerprint(config(tmp_path, "CIFAR10"), tmp_path / "runs")
    assert not (tmp_path / "opened").exists()


def test_an_image_that_is_not_there_or_none_is_named(tmp_path, monkeypatch):
    MADE["Food101"](tmp_path, monkeypatch)
    path = tmp_path / "food-101/images/tacos/train1.jpg"
    path.write_bytes(b"nothing")
    opened = open_split(config(tmp_path, "Food101", bad_files=3), "train")
    index = [opened.name(index) for index in range(len(opened))].index("food-101/images/tacos/train1.jpg")
    with pytest.raises(Unreadable, match=r"tacos/train1\.jpg: cannot be read as an image"):
        opened.image(index)
    assert opened.bad_files == 3
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"tacos/train1\.jpg"):
        SPEC.fingerprint(config(tmp_path, "Food101"), tmp_path / "runs")


# ---------------------------------------------------------------------------------------------- identity, what is kept


def test_only_what_changes_images_is_hashed(tmp_path):
    ids = [
        identity(TorchvisionConfig(dataset="MNIST", path=path, **more))
        for path, more in (("/a", {}), ("/b", {"bad_files": 3}), ("/a", {"pad": 2}), ("/a", {"placed": True}))
    ]
    assert ids[0] == ids[1] and len(set(ids)) == 3
    assert identity(TorchvisionConfig(dataset="FashionMNIST", path="/a")) != ids[0]


def test_a_fingerprint_is_of_pixels_and_labels_wherever_they_lie(tmp_path, monkeypatch):
    made = fashion(tmp_path / "a", monkeypatch)
    found = [SPEC.fingerprint(config(tmp_path / "a"), tmp_path)]
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert SPEC.fingerprint(config(tmp_path / "b"), tmp_path / "other") == found[0]
    images, labels = made["val"]
    changed = images.copy()
    changed[3, 4, 5] ^= 1
    for number, val in enumerate([(changed, labels), (images, labels[::-1]), (images[::-1], labels[::-1])]):
        write_mnist(tmp_path / str(number), {**made, "val": val})
        found.append(SPEC.fingerprint(config(tmp_path / str(number)), tmp_path))
    assert len(set(found)) == 4


def test_a_fingerprint_of_files_is_of_names_sizes_and_classes(tmp_path, monkeypatch):
    MADE["Food101"](tmp_path / "a", monkeypatch)
    data = config(tmp_path / "a", "Food101")
    before = SPEC.fingerprint(data, tmp_path)
    with (tmp_path / "a/food-101/images/tacos/test0.jpg").open("ab") as file:
        file.write(b"more")
    assert SPEC.fingerprint(data, tmp_path) != before


@pytest.mark.parametrize("dataset", ["FashionMNIST", "Food101", "INaturalist"])
def test_a_set_is_opened_once_for_all_plans(tmp_path, monkeypatch, dataset):
    MADE[dataset](tmp_path, monkeypatch)
    data = config(tmp_path, dataset)
    before = SPEC.fingerprint(data, tmp_path / "runs")
    labels = open_split(data, "val").labels
    indexed._known.clear()
    monkeypatch.setattr(reading, "make_index", lambda *_: pytest.fail("opened again"))
    assert SPEC.fingerprint(data, tmp_path / "runs") == before
    indexed._known.clear()
    SPEC.recall(data, tmp_path / "runs")
    assert open_split(data, "val").labels == labels
    assert indexed.indexed(dataset, tmp_path).counts("val") == tuple(np.bincount(labels))


def test_an_index_is_made_anew_when_a_file_changes(tmp_path, monkeypatch):
    made = fashion(tmp_path, monkeypatch)
    before = SPEC.fingerprint(config(tmp_path), tmp_path / "runs")
    images, labels = made["train"]
    images[0, 0, 0] ^= 1
    write_mnist(tmp_path, {**made, "train": (images, labels)})
    changed = SPEC.fingerprint(config(tmp_path), tmp_path / "runs")
    assert changed != before
    indexed._known.clear()
    assert SPEC.fingerprint(config(tmp_path), tmp_path / "runs") == changed


def test_what_has_just_been_written_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(indexed, "SETTLED_NS", 60_000_000_000)
    fashion(tmp_path, monkeypatch)
    assert SPEC.fingerprint(config(tmp_path), tmp_path / "runs") == SPEC.fingerprint(config(tmp_path), tmp_path)
    assert not (tmp_path / "runs").exists()


def test_a_damaged_index_is_written_anew(tmp_path, monkeypatch, caplog):
    fashion(tmp_path, monkeypatch)
    before = SPEC.fingerprint(config(tmp_path), tmp_path / "runs")
    (kept,) = (tmp_path / "runs/fingerprints").iterdir()
    kept.write_text(kept.read_text().replace("Bag", "Hat"))
    indexed._known.clear()
    assert SPEC.fingerprint(config(tmp_path), tmp_path / "runs") == before
    assert "is damaged" in caplog.text and "Bag" in kept.read_text()


def test_a_root_that_cannot_be_written_only_costs_the_index(tmp_path, monkeypatch):
    fashion(tmp_path, monkeypatch)
    readonly = tmp_path.__class__("/sys/mixmae-runs")
    assert SPEC.fingerprint(config(tmp_path), readonly) == SPEC.fingerprint(config(tmp_path), tmp_path / "runs")


def test_plans_of_a_known_set_load_no_torch(tmp_path, monkeypatch):
    fashion(tmp_path / "sets", monkeypatch)
    grid = {
        "base": "digits_nano",
        "set": {
            "data": {"name": "torchvision", "dataset": "FashionMNIST", "path": "$SETS", "pad": 2},
            "pretrain": {"batch": 6, "chunk": 6, "warmup_epochs": 0},
            "evaluations": {"knn": {"k": 3}, "linear": None, "finetune": None},
        },
        "sweeps": [{"name": "all", "product": {"seed": [0, 1]}}],
    }
    (tmp_path / "grid.yaml").write_text(json.dumps(grid))
    code = (
        "import sys, cli; from mixmae.data.torchvision_sets import indexed; indexed.SETTLED_NS = -1\n"
        "sys.argv[1:] = ['grid', 'plan', 'grid.yaml', '--json']\n"
        "try: cli.main()\n"
        "except SystemExit as ended: print('\\n', *sys.modules, file=sys.stderr); sys.exit(ended.code)\n"
    )
    environment = {**os.environ, "SETS": str(tmp_path / "sets")}
    command = [sys.executable, "-P", "-c", code]
    said = [
        subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        for _ in range(2)
    ]
    assert [ended.returncode for ended in said] == [0, 0], said[0].stderr[-2000:]
    loaded = [set(ended.stderr.splitlines()[-1].split()) & {"torch", "torchvision", "timm"} for ended in said]
    assert "torchvision" in loaded[0] and not loaded[1]
    first, second = (json.loads(ended.stdout) for ended in said)
    assert first == second and len(first["jobs"]) == 4


def test_a_set_is_named_in_captions_and_beside_published_numbers(tmp_path):
    data = config(tmp_path, "STL10")
    assert SPEC.title(data) == "STL10"
    row = {"data.name": "torchvision", "data.dataset": "STL10"}
    assert published._dataset(row) == "STL10"
    assert SPEC.title(config(tmp_path, "MNIST", placed=True)) == "MNIST, placed"
    assert published._dataset({**row, "data.dataset": "MNIST", "data.placed": True}) == "MNIST, placed"
    assert published._dataset({"data.name": "image_folder", "data.path": "/a"}) == "ImageNet-1K"
