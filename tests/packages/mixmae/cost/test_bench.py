"""The costs of encoders against published ones, and the bench of training steps."""

import json
from functools import lru_cache

import pytest

from mixmae.cost.encoders import compute, rows
from mixmae.cost.step import Benchmark, step
from mixmae.encoders.families import variants
from mixmae.fields.documents import ConfigError


@pytest.fixture(scope="module")
def costs():
    return {row["name"]: row for row in rows()}


def test_stored_costs_are_the_counted_ones():
    assert rows() == compute()


def test_every_variant_has_its_row(costs):
    assert list(costs) == list(variants())


@lru_cache
def measured(method, encoder, ratio=None, compare=None):
    return step(Benchmark(method, encoder, image_size=32, batch=4, ratio=ratio, repeats=3, compare=compare))


@pytest.mark.parametrize(
    ("method", "encoder"),
    [("mixmae", "twins_svt_nano"), ("simmim", "pvt_nano"), ("mae", "swin_nano"), ("mae", "vit_nano")],
)
def test_measures_a_step_and_compares_it_with_dense(method, encoder, costs):
    found = measured(method, encoder, compare="dense")
    json.dumps(found)
    assert 0 < found["seconds"]["min"] <= found["seconds"]["median"]
    assert found["images_per_s"] == pytest.approx(4 / found["seconds"]["median"])
    assert found["peak_memory"] > 2 * 4 * costs[encoder]["params"], "weights and gradients at least"
    dense = found["dense"]
    assert 0 < dense["ratio"]["min"] <= dense["ratio"]["median"]
    assert dense["encoder_seconds"]["min"] > 0
    assert dense["dense_seconds"]["min"] > 0


def test_counts_forward_and_backward(costs):
    forward = costs["swin_nano"]["macs"]
    # Backward costs twice forward; attention beside it recomputes its scores, and the images need no gradient.
    assert measured("supervised", "swin_nano")["macs"] == pytest.approx(3 * (forward + 128 * 1000), rel=0.1)
    assert "dense" not in measured("supervised", "swin_nano")


def test_fewer_visible_tokens_cost_fewer_multiply_adds():
    assert measured("mae", "swin_nano", 0.9)["macs"] < measured("mae", "swin_nano", compare="dense")["macs"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("mixmae", "swin_nanoo"), r"encoder\.name: no encoder variant 'swin_nanoo'; did you mean swin_nano\?"),
        (("mixmae", "swin_nano", 30), r"image_size: 30 px is not a multiple"),
        (("mixmae", "swin_nano", 32, 3), r"pretrain\.batch: 3 images cannot be mixed 2 by 2; write a multiple of 2"),
        (("supervised", "swin_nano", 32, 2, 0.5), r"method\.ratio: unknown field"),
        (("mae", "swin_nano", 32, 2, None, 0), r"repeats, threads: expected a number above 0"),
        (("mae", "swin_nano", 32, 2, None, 1, 1, "sparse"), r"compare: 'sparse' is not known; write dense"),
        (("supervised", "swin_nano", 32, 2, None, 1, 1, "dense"), r"compare: supervised is dense itself"),
    ],
)
def test_bad_input(arguments, complaint):
    with pytest.raises(ConfigError, match=complaint):
        step(Benchmark(*arguments))
