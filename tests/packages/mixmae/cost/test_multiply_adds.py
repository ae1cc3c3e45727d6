"""Multiply-adds that are counted without torch against torch's counter, which gives twice as many."""

from statistics import fmean

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mixmae.cost.encoders import resolved_encoder, rows
from mixmae.cost.multiply_adds import pretraining_step
from mixmae.encoders.building import build_encoder
from mixmae.encoders.families import families
from mixmae.experiment.experiment import Experiment
from mixmae.experiment.jobs import stage_jobs
from mixmae.methods.building import build_method

BATCH = 6
LIGHT = {"decoder_depth": 2, "decoder_width": 48, "decoder_heads": 4}
METHODS = {
    "mixmae": {"name": "mixmae", **LIGHT},
    "three images": {"name": "mixmae", "images": 3, **LIGHT},
    "a quarter": {"name": "mixmae", "ratio": 0.25, "decoder_mlp_ratio": 2, **LIGHT},
    "not dual": {"name": "mixmae", "dual": False, **LIGHT},
    "attending to all": {"name": "mixmae", "masked_attention": False, **LIGHT},
    "filled": {"name": "mixmae", "fill": "token", **LIGHT},
    "simmim": {"name": "simmim"},
    "mae": {"name": "mae", **LIGHT},
    "mae, half": {"name": "mae", "ratio": 0.5, **LIGHT},
}
SHIFTED = {"name": "swin_nano", "windows": [3, 5, 3], "shift": True}
ENCODERS = {"swin": "swin_nano", "shifted swin": SHIFTED, "twins": "twins_svt_nano", "pvt": "pvt_nano"}
PAIRS = [
    *((method, encoder) for method in METHODS for encoder in ENCODERS.values()),
    ("mae", "vit_nano"),
    ("simmim", "vit_nano"),
    ("simmim", {"name": "vit_nano", "style": "beit"}),
]


def job_of(method, encoder, image_size=32):
    recipe = {"epochs": 1, "batch": BATCH, "base_lr": 1e-3}
    written = {"method": METHODS[method], "encoder": encoder, "image_size": image_size, "pretrain": recipe}
    return stage_jobs(Experiment.model_validate(written), lambda data: "")[0].job


def counted(job, masks):
    """Multiply-adds of one image's forward pass by torch's counter, for each of so many masks."""
    method = build_method(job.method, build_encoder(job.encoder, job.image_size)).eval()
    images = torch.zeros(BATCH, 3, *job.image_size)
    for number in range(masks):
        mask = method.draw_mask(BATCH, np.random.default_rng(number))
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            method(images, mask)
        yield counter.get_total_flops() / 2 / BATCH


@pytest.mark.parametrize(("method", "encoder"), PAIRS, ids=str)
def test_a_step_is_three_times_the_forward_pass_of_the_groups_that_are_computed(method, encoder):
    job = job_of(method, encoder)
    found = list(counted(job, 8))
    spread = (max(found) - min(found)) / fmean(found)
    assert spread < 0.05
    assert pretraining_step(job) / 3 == pytest.approx(fmean(found), rel=spread / 2 + 1e-9)


@pytest.mark.parametrize("encoder", [*ENCODERS.values()], ids=str)
def test_of_one_mask_every_multiply_add_is_counted(encoder):
    """On a grid that is no square, with an image's units dealt to three sources and some left out."""
    encoder = job_of("mixmae", encoder, [32, 48]).encoder
    sources = [np.array(units) for units in ([0, 5, 6, 23], [1, 2, 3, 8, 9, 14], [4])]
    from mixmae.attention.layouts import Layout

    model = build_encoder(encoder, (32, 48)).eval()
    pixels = model.pixels(torch.zeros(1, 3, 32, 48))[:, np.concatenate(sources)]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.encode(model.embed(pixels), Layout((4, 6), sources, model.stages))
    assert families[encoder.family].multiply_adds(encoder, (32, 48), sources) == counter.get_total_flops() / 2


@pytest.mark.parametrize("row", rows(), ids=lambda row: row["name"])
def test_plain_attention_counts_as_what_is_stored(row):
    for size in (row, *row["other_sizes"]):
        side = size["image_size"]
        encoder = resolved_encoder(row["name"], side)
        if "windows" in size:
            encoder = families[encoder.family].with_windows(encoder, tuple(size["windows"]))
        every = np.arange((side // encoder.unit) ** 2)
        assert families[encoder.family].multiply_adds(encoder, (side, side), [every]) == size["macs"]


def test_masked_attention_and_visible_units_cost_less():
    """Visible-only encoding even less than its share of the units."""
    from mixmae.methods.methods import methods

    size, costs = (224, 224), {}
    encoder = resolved_encoder("swin_base_w14", 224)
    for name, method in {"masked": {}, "all": {"masked_attention": False}}.items():
        config = methods["mixmae"].config.model_validate({"name": "mixmae", **method})
        units = methods["mixmae"].sources(config, 49, np.random.default_rng(0))
        costs[name] = families["swin"].multiply_adds(encoder, size, units)
    visible = methods["mae"].sources(methods["mae"].config(), 49, np.random.default_rng(0))
    assert [len(units) for units in visible] == [12]
    plain = families["swin"].multiply_adds(encoder, size, [np.arange(49)])
    assert costs["masked"] < costs["all"] == plain
    assert families["swin"].multiply_adds(encoder, size, visible) < plain * 12 / 49
