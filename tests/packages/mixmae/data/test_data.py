import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from mixmae.data.batches import Samples, evaluation_keys, load_batches, open_split, training_keys
from mixmae.data.digits.source import read
from mixmae.data.digits.spec import DigitsConfig
from mixmae.data.draws import generator, seed_of, subset
from mixmae.data.image_folder import fingerprint as fingerprints
from mixmae.data.image_folder import index as indexes
from mixmae.data.image_folder.fingerprint import fingerprint
from mixmae.data.image_folder.spec import ImageFolderConfig
from mixmae.data.sources import sources
from mixmae.data.subset import Subset, training_images
from mixmae.data.transforms import evaluation_transform
from mixmae.evaluations.finetune.spec import FinetuneRecipe
from mixmae.evaluations.finetune.transform import finetuning_transform
from mixmae.training.pretrain.spec import PretrainRecipe
from mixmae.training.pretrain.transform import pretraining_transform

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


@pytest.fixture
def tree(tmp_path):
    """train: 3 cats, 2 dogs; val: 1 of each; 20 x 12 px, each image of one colour of its own."""
    root = tmp_path / "pets"
    for number, place in enumerate(
        ["train/cat/a", "train/cat/b", "train/cat/c", "train/dog/a", "train/dog/b", "val/cat/d", "val/dog/d"]
    ):
        path = root / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 12), (number * 30, 10, 200)).save(path)
    return root


def folder(root) -> ImageFolderConfig:
    return ImageFolderConfig(path=str(root))


# -------------------------------------------------------------------------------------------------------------- splits


def test_val_is_the_last_fifth_of_each_class_in_file_order():
    targets = load_digits().target
    train, val = (open_split(DigitsConfig(), split) for split in ("train", "val"))
    rows = {
        split: [int(part.name(i).split("/")[1]) for i in range(len(part))]
        for split, part in (("train", train), ("val", val))
    }
    assert sorted(rows["train"] + rows["val"]) == list(range(1797))
    for digit in range(10):
        of_train = [row for row in rows["train"] if targets[row] == digit]
        of_val = [row for row in rows["val"] if targets[row] == digit]
        assert max(of_train) < min(of_val)
        assert len(of_val) == (len(of_train) + len(of_val)) // 5
    assert train.labels == [targets[row] for row in rows["train"]]


def test_digits_are_read_as_scikit_learn_reads_them():
    levels, targets = read()
    ours = load_digits()
    assert np.array_equal(levels, ours.images) and np.array_equal(targets, ours.target)
    assert open_split(DigitsConfig(), "val").classes == [str(name) for name in ours.target_names]


def test_digits_are_32_px_rgb_of_the_original_levels():
    split = open_split(DigitsConfig(), "train")
    image = split.image(0)
    assert (image.size, image.mode) == ((32, 32), "RGB")
    levels = load_digits().images[0]
    small = np.asarray(image.convert("L").resize((8, 8), Image.Resampling.BOX)).astype(float) * 16 / 255
    assert np.corrcoef(small.ravel(), levels.ravel())[0, 1] > 0.97
    # Bicubic undershoot is cut off at black, which lifts the mean a little; a scale of 255 / 15 would lift it by 0.3.
    assert abs(small.mean() - levels.mean()) < 0.2


def test_image_folder_reads_the_imagenet_layout(tree):
    (tree / "train/cat/notes.txt").write_text("not an image")
    (tree / "train/.cache").mkdir()
    train, val = (open_split(folder(tree), split) for split in ("train", "val"))
    assert train.classes == val.classes == ["cat", "dog"]
    assert train.labels == [0, 0, 0, 1, 1]
    assert [train.name(i) for i in range(5)] == ["cat/a.png", "cat/b.png", "cat/c.png", "dog/a.png", "dog/b.png"]
    assert train.image(4).getpixel((0, 0)) == (120, 10, 200)


def test_grey_and_palette_images_become_rgb(tree):
    Image.new("L", (4, 4), 7).save(tree / "val/dog/e.png")
    assert open_split(folder(tree), "val").image(2).getpixel((0, 0)) == (7, 7, 7)


def test_what_is_wrong_with_a_tree_is_said(tree):
    with pytest.raises(FileNotFoundError, match="nowhere/train: no such folder"):
        open_split(folder(tree / "nowhere"), "train")
    (tree / "train/emu").mkdir()
    with pytest.raises(ValueError, match=r"val: 1 classes of .*train are missing, the first is 'emu'"):
        open_split(folder(tree), "train")
    (tree / "val/emu").mkdir()
    with pytest.raises(ValueError, match="train/emu: no images"):
        open_split(folder(tree), "train")


def test_a_broken_image_is_named(tree):
    (tree / "val/cat/d.png").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"val/cat/d\.png: cannot be read as an image"):
        open_split(folder(tree), "val").image(0)


# ------------------------------------------------------------------------------------------------------- fingerprints


def test_fingerprint_does_not_depend_on_where_the_data_lies(tree, tmp_path):
    before = fingerprint(folder(tree), tmp_path / "runs")
    shutil.move(tree, tmp_path / "elsewhere")
    assert fingerprint(folder(tmp_path / "elsewhere"), tmp_path / "runs") == before


@pytest.mark.parametrize("cached_from", [0, 50_000])
def test_fingerprint_changes_with_the_files(tree, tmp_path, monkeypatch, cached_from):
    monkeypatch.setattr(fingerprints, "CACHED_FROM", cached_from)
    found = [fingerprint(folder(tree), tmp_path / "runs")]
    shutil.copy(tree / "train/cat/a.png", tree / "train/cat/z.png")
    found.append(fingerprint(folder(tree), tmp_path / "runs"))
    (tree / "train/cat/z.png").rename(tree / "train/dog/z.png")
    found.append(fingerprint(folder(tree), tmp_path / "runs"))
    (tree / "train/dog/z.png").unlink()
    assert len(set(found)) == 3
    assert fingerprint(folder(tree), tmp_path / "runs") == found[0]


def test_fingerprint_changes_when_a_file_is_rewritten_in_place(tree, tmp_path):
    before = fingerprint(folder(tree), tmp_path)
    with (tree / "train/cat/a.png").open("ab") as file:
        file.write(b"more")
    assert fingerprint(folder(tree), tmp_path) != before


def test_large_folders_are_cached_by_real_path(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(fingerprints, "CACHED_FROM", 0)
    monkeypatch.setattr(indexes, "SETTLED_NS", 0)
    found = fingerprint(folder(tree), tmp_path / "runs")
    (tmp_path / "link").symlink_to(tree)
    monkeypatch.setattr(fingerprints, "_of_files", lambda *_: pytest.fail("read again"))
    assert fingerprint(folder(tmp_path / "link"), tmp_path / "runs") == found


def test_a_root_that_cannot_be_written_only_costs_the_cache(tree, monkeypatch):
    monkeypatch.setattr(fingerprints, "CACHED_FROM", 0)
    monkeypatch.setattr(indexes, "SETTLED_NS", 0)
    readonly = Path("/sys/mixmae-runs")
    assert fingerprint(folder(tree), readonly) == fingerprint(folder(tree), readonly)


def test_fingerprints_and_execution_import_neither_torch_nor_sklearn():
    code = (
        "import sys, pathlib\n"
        "from mixmae.data.digits.spec import SPEC, DigitsConfig\n"
        "import mixmae.work.execution\n"
        "print(SPEC.fingerprint(DigitsConfig(), pathlib.Path('.')))\n"
        "assert not {'torch', 'sklearn', 'timm'} & set(sys.modules)\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == sources["digits"].fingerprint(DigitsConfig(), Path("."))


# ------------------------------------------------------------------------------------------------------------- subsets

LABELS = [index % 3 for index in range(90)] + [0] * 10


def test_subsets_are_drawn_a_class_by_seed():
    chosen = subset(LABELS, Subset(labels_per_class=5), seed=1)
    assert chosen == sorted(set(chosen))
    assert [sum(LABELS[index] == label for index in chosen) for label in range(3)] == [5, 5, 5]
    assert chosen == subset(LABELS, Subset(labels_per_class=5), seed=1)
    assert chosen != subset(LABELS, Subset(labels_per_class=5), seed=2)
    assert set(chosen) < set(subset(LABELS, Subset(labels_per_class=6), seed=1))


def test_a_fraction_is_of_every_class():
    chosen = subset(LABELS, Subset(fraction=0.1), seed=0)
    assert [sum(LABELS[index] == label for index in chosen) for label in range(3)] == [4, 3, 3]
    assert len(subset(LABELS, Subset(fraction=1e-6), seed=0)) == 3
    assert subset(LABELS, Subset(), seed=0) == list(range(100))


def test_counts_before_loading_are_those_of_the_loaded_splits(tree):
    for data in (DigitsConfig(), folder(tree)):
        labels = open_split(data, "train").labels
        assert list(sources[data.name].counts(data, "train")) == [
            labels.count(label) for label in range(len(set(labels)))
        ]
        for part in (Subset(), Subset(fraction=0.3), Subset(labels_per_class=1)):
            assert training_images(data, part) == len(subset(labels, part, seed=0))


def test_too_many_labels_are_refused():
    with pytest.raises(ValueError, match="labels_per_class: 31: class 1 has 30 training images; write 30 or fewer"):
        subset(LABELS, Subset(labels_per_class=31), seed=0)


# ------------------------------------------------------------------------------------------------------------- samples


def recipe(**fields) -> PretrainRecipe:
    return PretrainRecipe(epochs=1, batch=8, base_lr=1.0, **fields)


def finetune_recipe(**fields) -> FinetuneRecipe:
    return FinetuneRecipe(epochs=1, batch=8, base_lr=1.0, **fields)


def test_seeds_are_frozen():
    """Stored numbers: every result of this project rests on them."""
    assert seed_of(0, "mask", 3, 1) == seed_of(np.int64(0), "mask", np.int64(3), 1) == 5186125892771175555
    assert generator(7, "order", 0).permutation(5).tolist() == [1, 0, 3, 2, 4]


@pytest.mark.parametrize("make", [pretraining_transform, finetuning_transform])
def test_a_sample_depends_on_its_key_alone(make):
    split = open_split(DigitsConfig(), "train")
    fields = recipe() if make is pretraining_transform else finetune_recipe(erase=0.5)
    samples = Samples(split, make(fields, (32, 32)), seed=3)
    keys = [[(epoch, index) for index in range(8)] for epoch in (0, 1)]
    here = list(load_batches(samples, keys, workers=0))
    there = list(load_batches(samples, keys, workers=2))
    backwards = [samples[key][0] for batch in reversed(keys) for key in reversed(batch)][::-1]
    for (images, labels), (others, other_labels) in zip(here, there, strict=True):
        assert torch.equal(images, others) and torch.equal(labels, other_labels)
    assert torch.equal(torch.cat([images for images, _ in here]), torch.stack(backwards))
    assert not torch.equal(here[0][0], here[1][0])
    assert not torch.equal(here[0][0], next(load_batches(Samples(split, samples.transform, 4), keys, 0))[0])


def test_transforms_of_oblong_images():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 70, 3), dtype=np.uint8))
    for transform in (
        pretraining_transform(recipe(), (32, 48)),
        finetuning_transform(finetune_recipe(), (32, 48)),
        evaluation_transform((32, 48), 0.875),
    ):
        assert transform(image).shape == (3, 32, 48) and transform(image).dtype == torch.float32


def test_the_central_crop_is_resize_bicubic_and_cut():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8))
    expected = np.asarray(image.resize((54, 36), Image.Resampling.BICUBIC).crop((11, 2, 43, 34))) / 255
    found = evaluation_transform((32, 32), 32 / 36)(image)
    np.testing.assert_allclose(found.permute(1, 2, 0).numpy(), (expected - MEAN) / STD, atol=1e-6)


def test_flips_and_crops_follow_the_recipe():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8))
    whole = {"crop_scale": (1.0, 1.0), "crop_ratio": (1.0, 1.0)}
    plain = evaluation_transform((32, 32), 1.0)(image)
    still = pretraining_transform(recipe(flip=False, **whole), (32, 32))
    assert all(torch.equal(still(image), plain) for _ in range(8))
    flipping = pretraining_transform(recipe(**whole), (32, 32))
    found = [flipping(image) for _ in range(32)]
    assert {"plain" if torch.equal(x, plain) else "flipped" for x in found} == {"plain", "flipped"}
    assert all(torch.equal(x, plain) or torch.equal(x, plain.flip(2)) for x in found)


def test_randaugment_at_full_magnitude_posterizes_to_black():
    """timm then asks for 0 bits, which Pillow 13 refuses."""
    transform = finetuning_transform(finetune_recipe(rand_augment="rand-m10-n15-mstd0-inc1", erase=0.0), (32, 32))
    operations = [operation for step in transform.transforms for operation in getattr(step, "ops", [])]
    (posterizing,) = [operation for operation in operations if operation.name == "PosterizeIncreasing"]
    posterizing.prob = 1.0
    image = Image.new("RGB", (32, 32), (200, 100, 50))
    assert posterizing(image).getextrema() == ((0, 0),) * 3
    posterizing.magnitude = 5
    assert posterizing(image).getextrema() == ((192, 192), (64, 64), (0, 0))


def test_training_order_is_full_batches_and_resumes_anywhere():
    indices = list(range(100, 110))
    keys = list(training_keys(indices, batch=4, seed=0, epochs=3, start=0))
    assert [len(batch) for batch in keys] == [4] * 6
    epochs = [[index for batch in keys[2 * e : 2 * e + 2] for _, index in batch] for e in range(3)]
    assert all(len(set(epoch)) == 8 and set(epoch) <= set(indices) for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert [epoch for batch in keys for epoch, _ in batch] == [0] * 8 + [1] * 8 + [2] * 8
    for start in range(7):
        assert list(training_keys(indices, batch=4, seed=0, epochs=3, start=start)) == keys[start:]


def test_evaluation_sees_every_image_once():
    assert list(evaluation_keys([5, 6, 7], batch=2)) == [[(None, 5), (None, 6)], [(None, 7)]]
