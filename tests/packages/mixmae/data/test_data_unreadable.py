"""Unreadable images in training and evaluation."""

import logging
import os
import signal

import numpy as np
import pytest
import torch
from PIL import Image

from mixmae.data.batches import Samples, epoch_order, evaluation_keys, load_batches, open_split, training_keys
from mixmae.data.image_folder.spec import ImageFolderConfig
from mixmae.data.reading import Unreadable

COUNT = 12
BAD = {2: b"", 5: b"no image", 9: None}
"""By index: empty, not an image, cut off."""


def shade(image: Image.Image) -> torch.Tensor:
    return torch.tensor(image.getpixel((0, 0))[0])


@pytest.fixture
def tree(tmp_path):
    """One class, COUNT images of shade 10 * index in train and val, those of BAD damaged in both."""
    for split in ("train", "val"):
        folder = tmp_path / split / "cat"
        folder.mkdir(parents=True)
        for index in range(COUNT):
            path = folder / f"{index:02}.png"
            Image.new("RGB", (64, 64), (10 * index,) * 3).save(path)
            if index in BAD:
                path.write_bytes(path.read_bytes()[:60] if BAD[index] is None else BAD[index])
    return tmp_path


def samples(tree, bad_files: int, split="train", indices=range(COUNT), transform=shade) -> Samples:
    config = ImageFolderConfig(path=str(tree), bad_files=bad_files)
    return Samples(open_split(config, split), transform, 7, None if indices is None else list(indices))


def shades(loaded) -> list[list[int]]:
    return [(images // 10).tolist() for images, _ in loaded]


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_bad_image_is_replaced_by_the_next_readable_one_of_the_epoch(tree, workers, caplog):
    here = samples(tree, bad_files=3)
    found = shades(load_batches(here, training_keys(list(range(COUNT)), 4, 7, epochs=3, start=0), workers))
    expected = []
    for epoch in range(3):
        order = epoch_order(list(range(COUNT)), 7, epoch).tolist()
        good = [next(i for i in (order * 2)[place:] if i not in BAD) for place in range(COUNT)]
        expected += [good[start : start + 4] for start in range(0, COUNT, 4)]
    assert found == expected
    assert here.unreadable.keys() == BAD.keys()
    warned = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warned) == 3 and all(f"train/cat/{i:02}.png: cannot be read" in "\n".join(warned) for i in BAD)


def test_replacements_come_from_the_subset_and_do_not_depend_on_the_start(tree):
    chosen = [1, 2, 3, 5, 8, 9]
    whole = shades(load_batches(samples(tree, 3, indices=chosen), training_keys(chosen, 2, 7, 4, 0), 0))
    assert {index for batch in whole for index in batch} == {1, 3, 8}
    for start in (1, 5, 11):
        assert (
            shades(load_batches(samples(tree, 3, indices=chosen), training_keys(chosen, 2, 7, 4, start), 0))
            == whole[start:]
        )


def test_a_replacement_is_augmented_by_the_seed_of_the_replaced(tree):
    def drawing(image):
        return shade(image) + torch.rand(())

    here = samples(tree, 3, transform=drawing)
    ((batch, _),) = load_batches(here, [[(0, index) for index in range(COUNT)]], 0)
    assert len(set((batch % 10).tolist())) == COUNT


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("limit", [0, 1, 2])
def test_more_bad_images_than_allowed_fail_by_name(tree, limit, workers):
    here = samples(tree, limit)
    with pytest.raises(Unreadable, match=rf"\d\d\.png: cannot be read .*more than data.bad_files: {limit} allows") as e:
        list(load_batches(here, training_keys(list(range(COUNT)), 4, 7, epochs=3, start=0), workers))
    assert str(e.value).count("cannot be read as an image") > limit
    assert all(text in str(e.value) for text in here.unreadable.values())


@pytest.mark.parametrize("workers", [0, 2])
def test_the_step_that_fails_does_not_depend_on_workers(tree, workers):
    served = []
    with pytest.raises(Unreadable):
        for batch in load_batches(samples(tree, 1), training_keys(list(range(COUNT)), 2, 7, 2, 0), workers):
            served.append(batch)
    order = epoch_order(list(range(COUNT)), 7, 0).tolist()
    second = sorted(order.index(i) for i in BAD)[1]
    first_seen = second if order[second - 1] not in BAD else second - 1
    assert len(served) == first_seen // 2


def test_training_without_a_readable_image_fails_by_name(tree):
    with pytest.raises(Unreadable, match="no readable image to take its place"):
        list(load_batches(samples(tree, 9, indices=list(BAD)), training_keys(list(BAD), 3, 7, 1, 0), 0))
    with pytest.raises(Unreadable, match="02.png: .*no readable image to take its place"):
        list(load_batches(samples(tree, 9, indices=None), [[(0, 2), (0, 3)]], 0))


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_leaves_bad_images_out_and_counts_them(tree, workers):
    here = samples(tree, 3, "val", indices=None)
    found = shades(load_batches(here, evaluation_keys(list(range(COUNT)), 1), workers))
    assert found == [[index] for index in range(COUNT) if index not in BAD]
    assert here.unreadable.keys() == BAD.keys()
    list(load_batches(here, evaluation_keys(list(range(COUNT)), 5), workers))
    assert here.unreadable.keys() == BAD.keys()
    with pytest.raises(Unreadable, match=r"val/cat/09\.png: .*bad_files: 2 allows"):
        list(load_batches(samples(tree, 2, "val", indices=None), evaluation_keys(list(range(COUNT)), 4), workers))


def test_labels_are_those_of_the_images_served(tree):
    (tree / "train/dog").mkdir()
    (tree / "val/dog").mkdir()
    for split in ("train", "val"):
        Image.new("RGB", (8, 8), (120,) * 3).save(tree / split / "dog/a.png")
    here = samples(tree, 3, indices=range(COUNT + 1))
    for images, labels in load_batches(here, training_keys(list(range(COUNT + 1)), 13, 7, 4, 0), 0):
        np.testing.assert_array_equal(labels, images == 120)


# -------------------------------------------------------------------------------------------------------------- crashes


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_in_loading_names_the_file(tree, workers):
    def fails(image):
        raise KeyError("odd")

    with pytest.raises(RuntimeError, match="cat/03.png: KeyError: 'odd'"):
        list(load_batches(samples(tree, 0, indices=None, transform=fails), [[(0, 3)]], workers))


def test_a_loading_process_that_dies_names_the_file(tree, caplog):
    def dies(image):
        if image.getpixel((0, 0))[0] == 70:
            os.kill(os.getpid(), signal.SIGKILL)
        return shade(image)

    here = samples(tree, 3, "val", indices=None, transform=dies)
    with pytest.raises(RuntimeError, match="DataLoader worker"):
        list(load_batches(here, evaluation_keys(list(range(COUNT)), 1), 2))
    assert "a data loading process died at cat/07.png" in caplog.text
