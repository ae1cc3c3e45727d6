"""Every encoder: plain, masked and visible-only encoding against a naive dense one; no leak between images."""

import pytest
import torch

from mixmae.attention.layouts import Layout, slots_of
from support.dense import dense_tokens
from support.small import ENCODERS, SIZE, VIT, make_encoder

SIZES = [SIZE, (32, 32), (48, 80)]
families = pytest.mark.parametrize("name", ENCODERS)


def random_slots(encoder, images, count, seed=0):
    grid = encoder.grid(images)
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(count, grid, generator=generator)


def encode(encoder, images, slots, count, present=None):
    """Tokens of the slots in `present` (default all) with masked attention, put back row-major; zeros elsewhere."""
    parts = slots_of(slots, count)
    parts = parts if present is None else [parts[number] for number in present]
    layout = Layout(encoder.grid(images), parts, encoder.stages)
    tokens = encoder.encode(encoder.embed(encoder.pixels(images)[:, layout.units]), layout)[-1]
    out = torch.zeros(len(images), slots.numel(), encoder.width)
    out[:, layout.units] = tokens
    return out


@families
@pytest.mark.parametrize("size", SIZES)
def test_plain_encoding_is_dense_attention(name, size):
    encoder, images = make_encoder(name), torch.randn(2, 3, *size)
    slots = torch.zeros(encoder.grid(images), dtype=torch.long)
    torch.testing.assert_close(encoder(images), dense_tokens(encoder, images, slots), rtol=1e-5, atol=1e-5)


@families
@pytest.mark.parametrize("count", [2, 3, 4])
def test_masked_attention_is_dense_attention_with_a_mask(name, count):
    encoder, images = make_encoder(name), torch.randn(2, 3, *SIZE)
    slots = random_slots(encoder, images, count)
    ours, naive = encode(encoder, images, slots, count), dense_tokens(encoder, images, slots)
    torch.testing.assert_close(ours, naive, rtol=1e-5, atol=1e-5)


@families
@pytest.mark.parametrize("size", SIZES)
def test_visible_only_is_dense_attention_with_a_mask(name, size):
    encoder, images = make_encoder(name), torch.randn(2, 3, *size)
    hidden = random_slots(encoder, images, 2)
    naive = dense_tokens(encoder, images, -hidden)
    ours = encode(encoder, images, hidden, 2, present=[0])
    visible = (hidden == 0).flatten()
    torch.testing.assert_close(ours[:, visible], naive[:, visible], rtol=1e-5, atol=1e-5)


@families
def test_gradients_of_visible_only_are_those_of_the_dense_encoder(name):
    encoder, images = make_encoder(name), torch.randn(2, 3, *SIZE)
    hidden = random_slots(encoder, images, 2)
    visible = (hidden == 0).flatten()
    gradients = []
    for tokens in (encode(encoder, images, hidden, 2, present=[0]), dense_tokens(encoder, images, -hidden)):
        encoder.zero_grad()
        tokens[:, visible].square().mean().backward()
        gradients.append([p.grad.clone() for p in encoder.parameters() if p.requires_grad])
    for ours, naive in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, naive, rtol=1e-4, atol=1e-5)


@families
def test_tokens_of_one_image_do_not_depend_on_the_other(name):
    encoder, images = make_encoder(name), torch.randn(2, 3, *SIZE)
    slots = random_slots(encoder, images, 2)
    pixel_slots = slots.repeat_interleave(encoder.unit, 0).repeat_interleave(encoder.unit, 1)
    before = encode(encoder, images, slots, 2)
    for other in (torch.randn_like(images), torch.full_like(images, float("nan"))):
        after = encode(encoder, torch.where(pixel_slots == 1, other, images), slots, 2)
        own, foreign = (slots == 0).flatten(), (slots == 1).flatten()
        assert torch.equal(before[:, own], after[:, own])
        assert not torch.equal(before[:, foreign], after[:, foreign])


@families
def test_without_masked_attention_the_other_image_shows(name):
    encoder, images = make_encoder(name), torch.randn(2, 3, *SIZE)
    parts = slots_of(random_slots(encoder, images, 2), 2)
    layout = Layout(encoder.grid(images), parts, encoder.stages, separate=False)
    pixels = encoder.pixels(images)[:, layout.units]
    changed = pixels.clone()
    changed[:, len(parts[0]) :] += 1
    before, after = (encoder.encode(encoder.embed(x), layout)[-1][:, : len(parts[0])] for x in (pixels, changed))
    assert not torch.equal(before, after)


@families
def test_maps_are_the_stages_outputs_in_place(name):
    encoder, images = make_encoder(name), torch.randn(2, 3, *SIZE)
    maps = encoder.maps(images)
    for stage, stage_map in enumerate(maps):
        side = encoder.patch_size * 2**stage
        assert stage_map.shape == (2, encoder.widths[stage], SIZE[0] // side, SIZE[1] // side)
    assert torch.equal(maps[-1].flatten(2).transpose(1, 2), encoder(images))
    pixels = encoder.pixels(images)
    place = encoder.whole(images).stages[0]
    first = images[:, :, : encoder.patch_size, : encoder.patch_size].flatten(1)
    assert torch.equal(pixels.flatten(1, 2)[:, (place.index == 0).nonzero()[0, 0]], first)


def test_vit_encodes_a_subset_as_it_would_be_alone():
    encoder, images = make_encoder(VIT), torch.randn(2, 3, *SIZE)
    pixels, grid = encoder.pixels(images), encoder.grid(images)
    everything = torch.arange(grid[0] * grid[1]).expand(2, -1)
    torch.testing.assert_close(
        encoder.encode(encoder.embed(pixels), grid), encoder.encode(encoder.embed(pixels), grid, everything)
    )


@pytest.mark.parametrize("name", [*ENCODERS, VIT], ids=[*ENCODERS, "vit"])
def test_layer_ids_cover_the_depth_and_rise_with_it(name):
    encoder = make_encoder(name)
    ids = {parameter: encoder.layer_of(parameter) for parameter, _ in encoder.named_parameters()}
    assert set(ids.values()) == set(range(encoder.last_layer + 1))
    assert encoder.no_weight_decay() <= ids.keys()


def test_an_image_that_is_no_multiple_of_the_unit_is_refused():
    with pytest.raises(ValueError, match="multiples of the unit, 8 px"):
        make_encoder("swin")(torch.randn(1, 3, 36, 32))


def test_vit_features_are_pooled_before_the_norm():
    encoder, images = make_encoder(VIT), torch.randn(2, 3, *SIZE)
    tokens = []
    encoder.norm.register_forward_pre_hook(lambda _, inputs: tokens.append(inputs[0]))
    encoder(images)
    expected = torch.nn.functional.layer_norm(
        tokens[0][:, 1:].mean(1), (encoder.width,), encoder.norm.weight, encoder.norm.bias, encoder.norm.eps
    )
    torch.testing.assert_close(encoder.features(images), expected)
