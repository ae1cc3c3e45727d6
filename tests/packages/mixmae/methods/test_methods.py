"""The methods: mixing and unmixing against naive code, masks, losses, ablation switches, learning."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mixmae.attention.layouts import Layout, slots_of
from mixmae.methods.classifier import Classifier
from mixmae.methods.mixmae.model import members_of
from mixmae.methods.target import reconstruction_target, unit_pixels
from support.dense import dense_tokens
from support.small import ENCODERS, METHODS, SIZE, VIT, make_encoder, make_method

HIERARCHICAL = ["swin", "swin_shifted", "twins_svt", "pvt"]
every_method = pytest.mark.parametrize("method", METHODS)
every_family = pytest.mark.parametrize("encoder", HIERARCHICAL)


def images_of(count=12, size=SIZE, seed=0):
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(seed))


# ------------------------------------------------------------------------------------------------ mixing and unmixing


@given(st.integers(2, 4), st.integers(1, 5))
def test_members_by_the_definition(images, groups):
    count = images * groups
    shown = members_of(count, images)
    for group in range(groups):
        member = [m * groups + (group if m % 2 == 0 else groups - 1 - group) for m in range(images)]
        for place, mixed in enumerate(member):
            for slot in range(images):
                assert shown[slot, mixed] == member[(place + slot) % images]
    assert all(sorted(row) == list(range(count)) for row in shown)


@given(st.integers(1, 8))
def test_two_images_follow_the_released_rule(half):
    count = 2 * half
    assert members_of(count, 2)[1].tolist() == [count - 1 - i for i in range(count)]


def test_an_odd_chunk_is_refused():
    with pytest.raises(ValueError, match="5 images cannot be mixed 2 by 2"):
        members_of(5, 2)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 4), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_mixing_and_unmixing_against_a_naive_loop(images, groups, seed):
    """Pixels are mixed unit by unit; each decoding sees its own source's tokens and mask tokens elsewhere."""
    name = {2: "mixmae", 3: "mixmae_three", 4: "mixmae_four"}[images]
    method = make_method(name, "pvt")
    chunk = images_of(images * groups, seed=seed)
    slots = method.draw_mask(len(chunk), np.random.default_rng(seed))
    parts, shown = slots_of(slots, images), members_of(len(chunk), images)
    layout = Layout(method.encoder.grid(chunk), parts, method.encoder.stages)
    mixed = method.mix(unit_pixels(chunk, method.encoder.unit), layout)
    flat, pixels = slots.flatten(), unit_pixels(chunk, method.encoder.unit)
    seen = torch.zeros(len(chunk), len(flat), dtype=torch.long)
    for row in range(len(chunk)):
        for place, unit in enumerate(layout.units.tolist()):
            source = shown[flat[unit], row]
            assert torch.equal(mixed[row, place], pixels[source, unit])
            seen[source, unit] += 1
    assert (seen == 1).all(), "every unit of every image is visible exactly once"

    tokens = torch.randn(len(chunk), len(flat), method.encoder.width)
    received = []
    method.decoder.blocks = torch.nn.ModuleList()
    method.decoder.embed, method.decoder.norm, method.decoder.pred = (torch.nn.Identity() for _ in range(3))
    method.decoder.mask_token.data = torch.full((1, 1, method.encoder.width), 7.0)
    positions = method.decoder(torch.zeros_like(tokens[:, :0]), layout.grid, [torch.arange(0)]) - 7.0
    decoded = method.forward_decoder(tokens, layout) - positions[:1]
    for slot in range(images):
        for row in range(len(chunk)):
            want = torch.full((len(flat), tokens.shape[2]), 7.0)
            for place, unit in enumerate(layout.units.tolist()):
                if flat[unit] == slot:
                    want[unit] = tokens[row, place]
            received.append(want)
    torch.testing.assert_close(decoded, torch.stack(received), rtol=1e-5, atol=1e-5)


@every_family
@pytest.mark.parametrize("images", [2, 3, 4])
def test_mixmae_equals_a_dense_mixmae(encoder, images):
    """Encoder tokens of the mixed images equal a naive dense encoder's on images mixed pixel by pixel."""
    method = make_method({2: "mixmae", 3: "mixmae_three", 4: "mixmae_four"}[images], encoder)
    chunk = images_of(12)
    slots = method.draw_mask(12, np.random.default_rng(1))
    shown = members_of(12, images)
    pixel_slots = slots.repeat_interleave(method.encoder.unit, 0).repeat_interleave(method.encoder.unit, 1)
    mixed = sum(chunk[shown[slot]] * (pixel_slots == slot) for slot in range(images))
    tokens, layout = method.forward_encoder(chunk, slots)
    naive = dense_tokens(method.encoder, mixed, slots)
    torch.testing.assert_close(tokens, naive[:, layout.units], rtol=1e-5, atol=1e-5)


# ------------------------------------------------------------------------------------------------------ masks and loss


@pytest.mark.parametrize(("images", "dealt"), [(2, [12, 12]), (3, [8, 8, 8]), (4, [6, 6, 6, 6])])
def test_units_are_dealt_evenly(images, dealt):
    method = make_method({2: "mixmae", 3: "mixmae_three", 4: "mixmae_four"}[images], "pvt")
    slots = method.draw_mask(12, np.random.default_rng(0))
    assert slots.flatten().bincount().tolist() == dealt


def test_uneven_deals_give_the_larger_parts_first():
    method = make_method("mixmae_four", "pvt", image_size=(40, 40))
    slots = method.draw_mask(12, np.random.default_rng(0))
    assert slots.flatten().bincount().tolist() == [7, 6, 6, 6]


@pytest.mark.parametrize(
    ("method", "encoder", "shape", "hidden"),
    [
        ("mixmae", "swin", (4, 6), 12),
        ("mae", "swin", (4, 6), 18),
        ("mae", VIT, (12, 4, 6), 18),
        ("simmim", "swin", (12, 4, 6), 15),
        ("simmim_fine", "swin", (12, 8, 12), 58),
        ("simmim", VIT, (12, 2, 3), 4),
    ],
)
def test_mask_counts(method, encoder, shape, hidden):
    mask = make_method(method, encoder).draw_mask(12, np.random.default_rng(0))
    assert mask.shape == shape
    assert (mask.bool().flatten(-2).sum(-1) == hidden).all()


@every_family
def test_dual_loss_pools_the_scored_units_of_all_decodings(encoder):
    method = make_method("mixmae_raw_target", encoder)
    chunk = images_of()
    out = method(chunk, method.draw_mask(12, np.random.default_rng(0)))
    target = reconstruction_target(chunk, method.encoder.unit, False)
    hidden = out.mask.flatten()
    own, partner = out.prediction.chunk(2)
    errors = [(own - target).square().mean(-1)[:, hidden], (partner - target.flip(0)).square().mean(-1)[:, ~hidden]]
    expected = torch.cat([error.flatten() for error in errors]).mean()
    torch.testing.assert_close(out.loss, expected)


def test_single_reconstruction_is_the_first_half_of_dual():
    torch.manual_seed(0)
    dual, single = make_method("mixmae", "swin"), make_method("mixmae_single", "swin")
    single.load_state_dict(dual.state_dict())
    chunk, slots = images_of(), dual.draw_mask(12, np.random.default_rng(0))
    out, half = dual(chunk, slots), single(chunk, slots)
    torch.testing.assert_close(half.prediction, out.prediction[:12])
    target = reconstruction_target(chunk, 8, True)
    expected = (half.prediction - target).square().mean(-1)[:, half.mask.flatten()].mean()
    torch.testing.assert_close(half.loss, expected)


@pytest.mark.parametrize("fill", ["zero", "token", "noise"])
def test_fills_hide_the_units_from_the_encoder(fill):
    method = make_method(f"mixmae_{fill}", "swin")
    chunk, slots = images_of(4), method.draw_mask(4, np.random.default_rng(0))
    hidden = slots.bool().repeat_interleave(8, 0).repeat_interleave(8, 1)
    results = []
    for images in (chunk, torch.where(hidden, torch.randn_like(chunk), chunk)):
        torch.manual_seed(3)
        results.append(method(images, slots).prediction)
    assert torch.equal(*results)
    torch.manual_seed(4)
    assert torch.equal(method(chunk, slots).prediction, results[0]) == (fill != "noise")


def test_plain_attention_on_mixed_images_is_the_dense_encoder():
    method = make_method("mixmae_plain_attention", "swin")
    for embedding in method.mix_embeddings:
        torch.nn.init.zeros_(embedding)
    chunk, slots = images_of(4), method.draw_mask(4, np.random.default_rng(0))
    pixel_slots = slots.repeat_interleave(8, 0).repeat_interleave(8, 1)
    mixed = torch.where(pixel_slots == 0, chunk, chunk.flip(0))
    tokens, layout = method.forward_encoder(chunk, slots)
    torch.testing.assert_close(tokens, method.encoder(mixed)[:, layout.units], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["mixmae_paper", "mixmae_plain_attention"])
def test_mix_embeddings_are_used_and_train(name):
    method = make_method(name, "swin")
    method(images_of()).loss.backward()
    for embedding in method.mix_embeddings:
        assert embedding.shape[0] == 2
        assert (embedding.grad.abs().sum(1) > 0).all()


def test_normalised_target_by_hand():
    chunk = images_of(2)
    target = reconstruction_target(chunk, 8, True)
    unit = chunk[1, :, 8:16, 16:24].permute(1, 2, 0).flatten()
    expected = (unit - unit.mean()) / (unit.var() + 1e-6).sqrt()
    torch.testing.assert_close(target[1, 6 + 2], expected)


def test_simmim_loss_by_hand():
    method, chunk = make_method("simmim_fine", "swin_shifted"), images_of(3)
    out = method(chunk)
    hidden = out.mask.repeat_interleave(4, 1).repeat_interleave(4, 2).unsqueeze(1).expand_as(chunk)
    torch.testing.assert_close(out.loss, (out.prediction - chunk).abs()[hidden].sum() / (hidden.sum() / 3 + 1e-5) / 3)


def test_masks_of_a_wrong_shape_are_refused():
    for method, mask in (("mixmae", torch.zeros(3, 3)), ("mae", torch.zeros(2, 4, 6)), ("simmim", torch.zeros(4, 6))):
        with pytest.raises(ValueError, match="the mask is"):
            make_method(method, "swin")(images_of(2), mask.bool())
    for method, mask in (
        ("mixmae", torch.ones(4, 6).bool()),
        ("mixmae", torch.full((4, 6), 7)),
        ("mixmae", torch.rand(4, 6)),
    ):
        with pytest.raises(ValueError, match="slot"):
            make_method(method, "swin")(images_of(2), mask)
    for mask in (torch.zeros(4, 6).bool(), torch.ones(4, 6).bool(), torch.rand(4, 6)):
        with pytest.raises(ValueError, match="must be bool, hide"):
            make_method("mae", "swin")(images_of(2), mask)
    with pytest.raises(ValueError, match=r"wanted \(2, 4, 6\) torch.bool"):
        make_method("simmim", "swin")(images_of(2), torch.rand(2, 4, 6))
    with pytest.raises(ValueError, match="slots 0 … 2"):
        make_method("mixmae_three", "swin")(images_of(3), torch.zeros(4, 6, dtype=torch.bool))


# ------------------------------------------------------------------------------------------------- every combination


@every_method
@every_family
def test_every_method_on_every_family_learns(method, encoder):
    check_learns(make_method(method, encoder), images_of(12))


@pytest.mark.parametrize("method", ["simmim", "mae"])
def test_vit_learns(method):
    check_learns(make_method(method, VIT), images_of(12))


def check_learns(model, images):
    """Every parameter gets a gradient, and a few steps on one chunk lower the loss."""
    model.train()
    mask = model.draw_mask(len(images), np.random.default_rng(0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(6):
        torch.manual_seed(0)
        out = model(images, mask)
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
        losses.append(out.loss.item())
    assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    assert losses[-1] < losses[0] - 0.01


@every_method
def test_other_image_sizes_without_a_new_model(method):
    model = make_method(method, "twins_svt")
    for size in ((32, 32), (48, 32), (64, 64)):
        out = model(images_of(12, size))
        assert out.loss.isfinite()


@pytest.mark.parametrize("encoder", [*ENCODERS, VIT], ids=[*ENCODERS, "vit"])
def test_supervised_learns_soft_and_hard_targets(encoder):
    torch.manual_seed(0)
    model = Classifier(make_encoder(encoder), classes=3, head_init_std=2e-5)
    images, labels = images_of(6), torch.arange(6) % 3
    soft = torch.nn.functional.one_hot(labels, 3).float()
    torch.testing.assert_close(model(images, labels).loss, model(images, soft).loss)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    losses = []
    for _ in range(12):
        out = model(images, labels)
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
        losses.append(out.loss.item())
    assert losses[-1] < losses[0] - 0.05
    ids = {name: model.group_matcher()(name) for name, _ in model.named_parameters()}
    assert ids["head.weight"] == ids["encoder.norm.weight"] == model.encoder.last_layer


def test_calls_without_a_mask_follow_torchs_seed():
    model, chunk = make_method("mixmae", "swin"), images_of()
    masks = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        masks.append(model(chunk).mask)
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


@every_method
@every_family
def test_bfloat16_autocast_keeps_the_loss_in_float32(method, encoder):
    model, chunk = make_method(method, encoder), images_of(12)
    mask = model.draw_mask(12, np.random.default_rng(0))
    torch.manual_seed(0)
    exact = model(chunk, mask).loss
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(chunk, mask).loss
    rounded.backward()
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, rtol=0.05, atol=0)
