from collections import Counter
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from mixmae.data.batches import open_split, subset_of
from mixmae.data.digits.source import grey_digits
from mixmae.data.digits.spec import DigitsConfig
from mixmae.data.placed_digits.source import placement
from mixmae.data.placed_digits.spec import VAL_COPIES, PlacedDigitsConfig
from mixmae.data.placing import SIDE, Placement, drawn, placed, within
from mixmae.data.sources import sources
from mixmae.data.splits import split_counts
from mixmae.data.subset import Subset, training_images
from mixmae.experiment.experiment import Experiment

CONFIGS = [DigitsConfig(tuning=0.1), PlacedDigitsConfig(tuning=0.1), PlacedDigitsConfig(tuning=0.25, copies=3)]
SPLITS = ("train", "tuning", "val")


def names(data, split) -> list[str]:
    opened = open_split(data, split)
    return [opened.name(index) for index in range(len(opened))]


def digit(name: str) -> str:
    """The source image: the row of scikit-learn's file."""
    return name.split("/")[1]


# -------------------------------------------------------------------------------------------------------------- tuning


@pytest.mark.parametrize("data", CONFIGS, ids=str)
def test_no_source_image_lies_in_two_splits(data):
    rows = {split: {digit(name) for name in names(data, split)} for split in SPLITS}
    assert sum(map(len, rows.values())) == len(set.union(*rows.values())) == 1797


@pytest.mark.parametrize("data", CONFIGS, ids=str)
def test_tuning_and_train_are_the_whole_train_split_of_before(data):
    whole = names(data.model_copy(update={"tuning": 0.0}), "train")
    train, tuning = names(data, "train"), names(data, "tuning")
    assert sorted(train + tuning) == sorted(whole)
    for part in (train, tuning):  # in the order of the source
        assert part == [name for name in whole if name in set(part)]


@pytest.mark.parametrize("data", CONFIGS, ids=str)
@pytest.mark.parametrize("split", SPLITS)
def test_counts_at_plan_time_are_those_of_the_opened_split(data, split):
    labels = Counter(open_split(data, split).labels)
    assert split_counts(data, split) == tuple(labels[label] for label in range(10))


def test_the_share_is_of_each_class():
    whole, aside = split_counts(DigitsConfig(), "train"), split_counts(DigitsConfig(tuning=0.1), "tuning")
    assert aside == tuple(round(0.1 * count) for count in whole)


def test_images_and_labels_of_a_part_are_those_of_their_names():
    data = PlacedDigitsConfig(tuning=0.1)
    whole = open_split(PlacedDigitsConfig(), "train")
    by_name = {whole.name(index): index for index in range(len(whole))}
    part = open_split(data, "tuning")
    for index in range(0, len(part), 17):
        same = by_name[part.name(index)]
        assert part.labels[index] == whole.labels[same] and part.image(index) == whole.image(same)


def test_without_tuning_nothing_is_set_aside():
    assert len(open_split(DigitsConfig(), "train")) == 1442
    assert split_counts(DigitsConfig(), "tuning") == (0,) * 10


@pytest.mark.parametrize("kind", ["finetune", "linear", "knn"])
def test_what_is_not_set_aside_cannot_be_measured(kind):
    needed = {"epochs": 2, "batch": 8, "base_lr": 0.1} if kind == "finetune" else {}
    written = {"method": "supervised", "encoder": "swin_nano", "image_size": 32, "data": "digits"}
    written["evaluations"] = {kind: {**needed, "measure": "tuning"}}
    with pytest.raises(
        ValidationError, match="nothing is set aside for tuning; write data.tuning: 0.1, or measure: val"
    ):
        Experiment.model_validate(written)
    Experiment.model_validate({**written, "data": {"name": "digits", "tuning": 0.1}})


# -------------------------------------------------------------------------------------------------------------- copies


@pytest.mark.parametrize("part", [Subset(labels_per_class=5), Subset(fraction=0.1), Subset()], ids=str)
@pytest.mark.parametrize("data", CONFIGS, ids=str)
def test_a_subset_takes_all_copies_of_a_source_image_or_none(data, part):
    split = open_split(data, "train")
    chosen = subset_of(data, split, part, seed=3)
    assert len(chosen) == training_images(data, part)
    copies = sources[data.name].copies(data, "train")
    assert set(Counter(digit(split.name(index)) for index in chosen).values()) == {copies}


def test_few_labels_are_few_source_images():
    data = PlacedDigitsConfig(copies=3)
    split = open_split(data, "train")
    chosen = subset_of(data, split, Subset(labels_per_class=5), seed=0)
    assert len(chosen) == 150 and len({digit(split.name(index)) for index in chosen}) == 50


# ------------------------------------------------------------------------------------------------------- placed digits


def test_copies_of_a_digit_are_consecutive():
    for split, copies in (("train", 2), ("val", VAL_COPIES)):
        runs = [len(list(group)) for _, group in groupby(map(digit, names(PlacedDigitsConfig(), split)))]
        assert set(runs) == {copies}


def test_placements_cover_what_they_may_and_nothing_else():
    drawn_ones = [placement("train", row, copy) for row in range(1797) for copy in range(4)]
    assert {one.size for one in drawn_ones} == set(range(14, 29))
    assert all(0 <= one.left <= SIDE - one.size and 0 <= one.top <= SIDE - one.size for one in drawn_ones)
    assert min(one.left for one in drawn_ones) == 0 and max(one.left for one in drawn_ones) == SIDE - 14
    tilts = np.array([one.tilt for one in drawn_ones])
    assert abs(tilts.mean()) < 1 and np.abs(tilts).max() <= 30 and np.abs(tilts).max() > 29
    light = [one for one in drawn_ones if one.ink == 255]
    assert 0.48 < len(light) / len(drawn_ones) < 0.52
    assert all(one.background <= 102 if one.ink == 255 else one.background >= 153 for one in drawn_ones)


def test_two_copies_and_two_splits_differ():
    ones = {placement(split, row, copy) for split in ("train", "val") for row in range(50) for copy in range(4)}
    assert len(ones) == 400


def test_images_of_the_builder_are_frozen():
    """Bit for bit: the fingerprint names the builder's version, not what it draws."""
    frozen = Placement(size=23, left=7, top=3, tilt=14.912743184488786, background=249, ink=0)
    assert placement("train", 0, 0) == frozen
    assert sources["placed_digits"].fingerprint(PlacedDigitsConfig(), Path()) == "6e3c7a43762a0ec2"


def test_the_ink_keeps_its_mass_and_lies_where_it_should():
    image = grey_digits()[0][0]
    canvas = np.asarray(placed(image, Placement(size=16, left=10, top=3)), dtype=float)
    box = np.asarray(image.resize((16, 16), Image.Resampling.BICUBIC), dtype=float)
    expected = np.zeros((SIDE, SIDE))
    expected[3:19, 10:26] = box
    assert np.array_equal(canvas, expected)


def test_a_tilt_turns_about_the_centre_of_the_digit():
    image = grey_digits()[0][4]
    straight = np.asarray(placed(image, Placement(size=16, left=2, top=12)), dtype=float)
    turned = np.asarray(placed(image, Placement(size=16, left=2, top=12, tilt=90)), dtype=float)
    assert np.abs(turned[12:28, 2:18] - np.rot90(straight[12:28, 2:18])).max() <= 1


def test_polarity_and_background_are_one_line_of_grey_levels():
    image = grey_digits()[0][2]
    plain = np.asarray(placed(image, Placement(size=20, left=1, top=1)), dtype=float)
    dark = np.asarray(placed(image, Placement(size=20, left=1, top=1, background=200, ink=0)), dtype=float)
    assert np.abs(dark - (200 - plain * 200 / 255)).max() <= 0.5


def test_draws_are_uniform_and_of_nothing_but_their_place():
    numbers = np.array([drawn("a", row, 1) for row in range(4000)])
    assert numbers.shape == (4000, 8) and numbers.min() >= 0 and numbers.max() < 1
    assert np.abs(numbers.mean(0) - 0.5).max() < 0.02 and np.abs(np.corrcoef(numbers.T) - np.eye(8)).max() < 0.06
    assert drawn("a", 1, 2) == drawn("a", 1, 2) != drawn("b", 1, 2)


def test_within_has_both_ends():
    assert [within(3, 5, share) for share in (0.0, 0.34, 0.999999)] == [3, 4, 5]
