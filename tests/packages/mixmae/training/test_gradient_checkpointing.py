"""Gradient checkpointing: the same losses and gradients to the bit, for less memory kept between the passes."""

from functools import partial

import numpy as np
import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from mixmae.attention.blocks import Block
from mixmae.encoders.building import build_encoder
from mixmae.methods.building import build_method
from mixmae.methods.classifier import Classifier
from support.small import ENCODERS, SIZE, VIT, pretrain_job, randomised

FAMILIES = {
    **{name: ENCODERS[name] for name in ("swin", "swin_shifted", "twins_svt", "pvt")},
    "vit": VIT,
    "vit_beit": dict(VIT, style="beit"),
    "vit_own_bias": dict(VIT, style="beit", shared_bias=False),
}
METHODS = ("mixmae", "mixmae_paper", "mixmae_noise", "simmim", "mae", "supervised")
DROP_PATH = 0.4


def possible(method: str, family: str) -> bool:
    if method.startswith("mixmae"):
        return not family.startswith("vit")
    return not (method == "mae" and family in ("vit_beit", "vit_own_bias"))


CASES = [(method, family) for method in METHODS for family in FAMILIES if possible(method, family)]


def made(method: str, family: str) -> torch.nn.Module:
    torch.manual_seed(0)
    job = pretrain_job("simmim" if method == "supervised" else method, FAMILIES[family])
    encoder = build_encoder(job.encoder, job.image_size, drop_path=DROP_PATH)
    if method == "supervised":
        return randomised(Classifier(encoder, classes=5, head_init_std=0.02)).train()
    return randomised(build_method(job.method, encoder)).train()


def loss_of(model, method: str) -> torch.Tensor:
    images = torch.randn(12, 3, *SIZE, generator=torch.Generator().manual_seed(1))
    if method == "supervised":
        return model(images, torch.arange(12) % 5).loss
    return model(images, model.draw_mask(12, np.random.default_rng(2))).loss


def step(model, method: str) -> tuple:
    """The loss, every gradient, and what the global generator gives next."""
    torch.manual_seed(3)
    loss = loss_of(model, method)
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    return loss.detach(), gradients, torch.rand(4)


def blocks_of(encoder) -> list:
    return list(encoder.blocks) if not encoder.hierarchical else [m for m in encoder.modules() if isinstance(m, Block)]


@pytest.mark.parametrize(("method", "family"), CASES)
def test_losses_and_gradients_to_the_bit(method, family):
    plain, saving = made(method, family), made(method, family)
    saving.encoder.checkpoint_blocks(True)
    runs = {"plain": 0, "saving": 0}

    def count(name, *_):
        runs[name] += 1

    for name, model in (("plain", plain), ("saving", saving)):
        for block in blocks_of(model.encoder):
            block.mlp.register_forward_pre_hook(partial(count, name))
    (loss, gradients, after), (other_loss, other_gradients, other_after) = step(plain, method), step(saving, method)
    blocks = len(blocks_of(plain.encoder))
    assert runs == {"plain": blocks, "saving": 2 * blocks}
    assert torch.equal(loss, other_loss)
    assert gradients.keys() == other_gradients.keys()
    assert [name for name in gradients if not torch.equal(gradients[name], other_gradients[name])] == []
    assert torch.equal(after, other_after)


@pytest.mark.parametrize("family", FAMILIES)
def test_drop_path_draws_in_these_tests(family):
    """Else the draws above could be forgotten unseen."""
    model = made("simmim", family)
    losses = []
    for seed in (3, 4):
        torch.manual_seed(seed)
        losses.append(loss_of(model, "simmim").item())
    assert losses[0] != losses[1]


@pytest.mark.parametrize("family", FAMILIES)
def test_keeps_little_between_the_passes(family):
    kept = {}
    for on in (False, True):
        model = made("supervised", family)
        model.encoder.checkpoint_blocks(on)
        sizes: dict[int, int] = {}

        def pack(tensor, sizes=sizes):
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = loss_of(model, "supervised")
        weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
        kept[on] = sum(size for pointer, size in sizes.items() if pointer not in weights)
        loss.backward()
    assert kept[True] < 0.4 * kept[False], kept


@pytest.mark.parametrize("family", FAMILIES)
def test_off_again_and_without_gradients(family):
    model = made("simmim", family).eval()
    images = torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(1))
    names = list(model.state_dict())
    with torch.no_grad():
        plain = model.encoder(images)
        model.encoder.checkpoint_blocks(True)
        assert torch.equal(model.encoder(images), plain)
        assert list(model.state_dict()) == names
        model.encoder.checkpoint_blocks(False)
        assert torch.equal(model.encoder(images), plain)
