"""Tables and positions at another size, against other ways to compute them."""

import logging

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.interpolate import CubicSpline

from mixmae.encoders.building import build_encoder
from mixmae.weights.description import Description
from mixmae.weights.kinds import kinds
from mixmae.weights.loading import load_encoder
from mixmae.weights.resizing import fitted
from mixmae.weights.stored import save

SWIN = dict(embed_dim=8, depths=(1, 1, 2, 1), num_heads=(1, 1, 2, 2))
VIT = dict(patch_size=8, embed_dim=16, depth=2, num_heads=2)


def encoder(kind: str, **config):
    torch.manual_seed(0)
    description = Description.model_validate(kinds()[kind].arguments.model_validate(config).description())
    made = build_encoder(description.encoder, description.image_size)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return made, description


def refitted(kind: str, before: dict, after: dict, tables: str):
    """The encoder of `before`, its state fitted to the encoder of `after`, and that encoder."""
    old, description = encoder(kind, **before)
    new, _ = encoder(kind, **after)
    return old, fitted(old.state_dict(), new, description.image_size, tables), new


def test_mixmae_from_224_to_384():
    """Windows [14, 14, 14, 7] become [16, 16, 24, 12]; tables and the fixed positions are resized bicubically."""
    windows = [(14, 14, 14, 7), (16, 16, 24, 12)]
    before, after = ({**SWIN, "img_size": size, "window_size": w} for size, w in zip((224, 384), windows, strict=True))
    old, state, new = refitted("mixmae_classifier", before, after, "bicubic")
    new.load_state_dict(state)
    for stage, (small, large) in enumerate(zip(*windows, strict=True)):
        table = old.layers[stage].blocks[0].attn.relative_position_bias_table.detach()
        square = table.T.reshape(1, -1, 2 * small - 1, 2 * small - 1)
        wanted = F.interpolate(square, size=2 * large - 1, mode="bicubic").flatten(2)[0].T
        assert torch.equal(state[f"layers.{stage}.blocks.0.attn.relative_position_bias_table"], wanted)
    square = old.absolute_pos_embed.detach().reshape(1, 56, 56, 8).permute(0, 3, 1, 2)
    wanted = F.interpolate(square, size=96, mode="bicubic").permute(0, 2, 3, 1).reshape(1, 96 * 96, 8)
    torch.testing.assert_close(state["absolute_pos_embed"], wanted)
    assert new(torch.randn(1, 3, 384, 384)).shape == (1, 144, 64)


def beit_spline(table: torch.Tensor, new: int) -> torch.Tensor:
    """(old², heads) -> (new², heads): not-a-knot cubic splines along one axis, then the other, at BEiT's places."""
    old = round(len(table) ** 0.5)
    low, high = 1.01, 1.5
    while high - low > 1e-6:
        ratio = (low + high) / 2
        reach = sum(ratio**power for power in range(old // 2))
        low, high = (low, ratio) if reach > new // 2 else (ratio, high)
    steps = [sum(ratio**power for power in range(count)) for count in range(old // 2 + 1)]
    places = np.array([-step for step in reversed(steps[1:])] + steps)
    # Places beyond the old ones take the border, as interp2d, which BEiT used, does.
    wanted = np.clip(np.arange(-(new // 2), new // 2 + 1), places[0], places[-1])
    square = table.T.reshape(-1, old, old).double().numpy()
    along = CubicSpline(places, square, axis=1)(wanted)
    both = CubicSpline(places, along, axis=2)(wanted)
    return torch.from_numpy(both).flatten(1).T.float()


@pytest.mark.parametrize(("small", "large"), [(6, 7), (7, 12), (12, 6), (3, 4)])
def test_simmim_resizes_tables_geometrically(small, large):
    before, after = ({**SWIN, "img_size": w * 32, "window_size": w} for w in (small, large))
    old, state, new = refitted("simmim_swin_classifier", before, after, "geometric")
    new.load_state_dict(state)
    for name, tensor in old.state_dict().items():
        if name.endswith("relative_position_bias_table"):
            torch.testing.assert_close(state[name], beit_spline(tensor, 2 * large - 1), rtol=1e-4, atol=1e-5)


def test_a_shared_beit_bias_goes_into_every_block_and_keeps_its_class_rows():
    old, description = encoder("simmim_vit_pretrain", **VIT, img_size=48)
    new, _ = encoder("simmim_vit_classifier", **VIT, img_size=64)
    shared = old.rel_pos_bias.relative_position_bias_table.detach()
    state = fitted(old.state_dict(), new, description.image_size, "geometric")
    new.load_state_dict(state)
    for block in new.blocks:
        table = block.attn.relative_position_bias_table
        assert torch.equal(table[-3:], shared[-3:])
        torch.testing.assert_close(table[:-3].detach(), beit_spline(shared[:-3], 15), rtol=1e-4, atol=1e-5)
    same, _ = encoder("simmim_vit_classifier", **VIT, img_size=48)
    same.load_state_dict(fitted(old.state_dict(), same, description.image_size, "geometric"))
    images = torch.randn(2, 3, 48, 48)
    torch.testing.assert_close(same(images), old(images))


def test_positions_of_mae_keep_their_class_row():
    old, state, new = refitted("mae_vit_classifier", {**VIT, "img_size": 48}, {**VIT, "img_size": 80}, "geometric")
    new.load_state_dict(state)
    assert torch.equal(state["pos_embed"][:, 0], old.pos_embed[:, 0])
    square = old.pos_embed[:, 1:].detach().reshape(1, 6, 6, 16).permute(0, 3, 1, 2)
    wanted = F.interpolate(square, size=10, mode="bicubic").permute(0, 2, 3, 1).reshape(1, 100, 16)
    torch.testing.assert_close(state["pos_embed"][:, 1:], wanted)


@pytest.mark.parametrize("kind", ["pvt_classifier", "mae_vit_classifier", "mixmae_classifier"])
def test_a_resized_encoder_is_the_old_one_called_at_that_size(kind):
    """The forward pass of the old encoder resizes positions the same way."""
    shape = {
        "pvt_classifier": dict(embed_dims=(8, 8, 16, 16), depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2)),
        "mae_vit_classifier": dict(VIT),
        "mixmae_classifier": {**SWIN, "window_size": (2, 2, 2, 2)},
    }[kind]
    old, state, new = refitted(kind, {**shape, "img_size": 64}, {**shape, "img_size": 96}, "geometric")
    new.load_state_dict(state)
    images = torch.randn(2, 3, 96, 96)
    torch.testing.assert_close(new(images), old(images))


def test_resizing_is_said_in_the_log_and_the_rest_is_left_alone(tmp_path, caplog):
    before, after = ({**SWIN, "img_size": 64, "window_size": (w, w, 4, 2)} for w in (4, 8))
    old, description = encoder("mixmae_classifier", **before)
    new, _ = encoder("mixmae_classifier", **after)
    alone = Description(encoder=description.encoder, image_size=description.image_size)
    save(tmp_path / "old.safetensors", old, alone)
    with caplog.at_level(logging.INFO):
        load_encoder(new, tmp_path / "old.safetensors", description.image_size, "bicubic")
    tables = [f"layers.{stage}.blocks.0.attn.relative_position_bias_table" for stage in (0, 1)]
    said = [f"{name}: (49, 1) resized to (225, 1)" for name in tables]
    assert [record.getMessage() for record in caplog.records] == said
    for name, tensor in new.state_dict().items():
        assert name in tables or torch.equal(tensor, old.state_dict()[name])


def test_what_cannot_be_resized_is_named():
    old, description = encoder("mixmae_classifier", **SWIN, img_size=64, window_size=(4, 4, 4, 2))
    wider, _ = encoder("mixmae_classifier", **{**SWIN, "embed_dim": 16}, img_size=64, window_size=(4, 4, 4, 2))
    deeper, _ = encoder("mixmae_classifier", **{**SWIN, "depths": (1, 1, 3, 1)}, img_size=64, window_size=(4, 4, 4, 2))
    with pytest.raises(ValueError, match=r"\(1, 256, 8\) in the weights, \(1, 256, 16\) in the model"):
        fitted(old.state_dict(), wider, description.image_size, "bicubic")
    with pytest.raises(ValueError, match=r"they differ in layers\.2\.blocks\.2\.attn\.proj\.bias.* more"):
        fitted(old.state_dict(), deeper, description.image_size, "bicubic")
