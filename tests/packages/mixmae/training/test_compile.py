"""Compiled blocks: the losses of ten steps as without, for every method, drop path included."""

import shutil
from copy import deepcopy

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

from mixmae.encoders.building import build_encoder
from mixmae.methods.building import build_method
from mixmae.methods.classifier import Classifier
from mixmae.training.compilation import BLOCKS, compile_blocks
from support.small import SIZE, pretrain_job, randomised

COMPILER = next((found for name in ("g++", "clang++") if (found := shutil.which(name))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(COMPILER is None, reason="torch.compile on a CPU needs a C++ compiler; none is found"),
]

ENCODER = dict(family="swin", patch_size=4, widths=(16, 16), depths=(1, 1), heads=(2, 2), windows=(3, 3))
"""One width, that of the decoders too: the fewest compilations in which masks change the groups of attention."""
STEPS = 10
BATCH = 8


def made(method: str) -> torch.nn.Module:
    torch.manual_seed(0)
    job = pretrain_job("simmim" if method == "supervised" else method, ENCODER)
    encoder = build_encoder(job.encoder, job.image_size, drop_path=0.4)
    if method == "supervised":
        return randomised(Classifier(encoder, classes=5, head_init_std=0.02)).train()
    return randomised(build_method(job.method, encoder)).train()


def losses(model, method: str) -> list[float]:
    optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=1e-3)
    found = []
    for step in range(STEPS):
        images = torch.randn(BATCH, 3, *SIZE, generator=torch.Generator().manual_seed(step))
        beside = torch.arange(BATCH) % 5
        if method != "supervised":
            beside = model.draw_mask(BATCH, np.random.default_rng(step))
        torch.manual_seed(step)
        loss = model(images, beside).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


@pytest.mark.parametrize("method", ["mixmae", "simmim", "mae", "supervised"])
def test_losses_of_ten_steps(method):
    plain = losses(made(method), method)
    model = made(method)
    names = list(model.state_dict())
    compile_blocks(model)
    blocks = [module for module in model.modules() if isinstance(module, BLOCKS)]
    assert blocks and all(block._compiled_call_impl is not None for block in blocks)
    assert losses(model, method) == pytest.approx(plain, rel=1e-5)
    assert counters["stats"]["unique_graphs"] > 0
    assert list(model.state_dict()) == names


def test_with_gradient_checkpointing():
    plain, model = made("mixmae"), made("mixmae")
    compile_blocks(model)
    model.encoder.checkpoint_blocks(True)
    assert losses(model, "mixmae") == pytest.approx(losses(plain, "mixmae"), rel=1e-5)


def test_a_copy_has_weights_of_its_own():
    """As that of an average of the weights."""
    model = made("simmim").eval()
    compile_blocks(model)
    images = torch.randn(BATCH, 3, *SIZE)
    with torch.no_grad():
        before = model.encoder(images)
        copy = deepcopy(model)
        for parameter in model.parameters():
            parameter.zero_()
        torch.testing.assert_close(copy.encoder(images), before, rtol=1e-5, atol=1e-5)
        assert not torch.allclose(model.encoder(images), before)
