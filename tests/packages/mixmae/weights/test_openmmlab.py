"""Exports under OpenMMLab's names, run by a small module that is built as its backbones are."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mixmae.encoders.swin.official import unfold_order
from mixmae.weights.export import export
from support import small
from support.opened_models import ENCODERS, PARTS, STOCK, images, opened, same


def test_merged_channels_in_the_order_of_unfold():
    x = torch.randn(1, 3, 2, 2)
    ours = torch.cat([x[0, :, row, column] for row, column in ((0, 0), (1, 0), (0, 1), (1, 1))])
    assert torch.equal(unfold_order(ours), nn.Unfold(2)(x).flatten())
    weight = torch.randn(5, 12)
    same(unfold_order(weight) @ nn.Unfold(2)(x).flatten(), weight @ ours)


class Theirs:
    """Runs a state dict under OpenMMLab's names the way its backbones are built: images in, a map a stage out."""

    def __init__(self, state, encoder):
        self.state = {name.removeprefix("backbone."): tensor for name, tensor in state.items()}
        self.used = set()
        self.encoder = encoder

    def __call__(self, name):
        self.used.add(name)
        return self.state[name]

    def norm(self, x, name, eps=None):
        eps = self.encoder.norm_eps if eps is None else eps
        return F.layer_norm(x, x.shape[-1:], self(f"{name}.weight"), self(f"{name}.bias"), eps)

    def linear(self, x, name, bias=True):
        return F.linear(x, self(f"{name}.weight"), self(f"{name}.bias") if bias else None)

    def embed(self, x, name, stride, eps=None):
        x = F.conv2d(x, self(f"{name}.projection.weight"), self(f"{name}.projection.bias"), stride)
        return self.norm(x.permute(0, 2, 3, 1), f"{name}.norm", eps)

    def merge(self, x, name):
        batch, rows, columns, _ = x.shape
        x = F.unfold(x.permute(0, 3, 1, 2), 2, stride=2).transpose(1, 2)
        x = self.linear(self.norm(x, f"{name}.norm"), f"{name}.reduction", bias=False)
        return x.reshape(batch, rows // 2, columns // 2, -1)

    def reduced_attention(self, x, name, heads, ratio):
        keys = x
        if ratio > 1:
            keys = F.conv2d(x.permute(0, 3, 1, 2), self(f"{name}.sr.weight"), self(f"{name}.sr.bias"), ratio)
            keys = self.norm(keys.permute(0, 2, 3, 1), f"{name}.norm", 1e-5)
        layer = nn.MultiheadAttention(x.shape[-1], heads, batch_first=True)
        layer.load_state_dict({key: self(f"{name}.attn.{key}") for key in layer.state_dict()})
        out = layer(x.flatten(1, 2), keys.flatten(1, 2), keys.flatten(1, 2), need_weights=False)[0]
        return out.reshape(x.shape)

    def window_attention(self, x, name, heads, window, shift=0, bias=None):
        """x (B, rows, columns, C) whose sides the window divides; rolled by `shift`, wrapped windows masked."""
        batch, rows, columns, width = x.shape
        x = x.roll((-shift, -shift), (1, 2))
        region = torch.zeros(rows, columns)
        if shift:
            row = torch.arange(rows) >= rows - shift
            column = torch.arange(columns) >= columns - shift
            region = row[:, None] * 2.0 + column
        parts = self._windows(x, window)
        label = self._windows(region[None, :, :, None], window)[:, :, 0]
        q, k, v = self.linear(parts, f"{name}.qkv").unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2) * (width // heads) ** -0.5
        if bias is not None:
            scores = scores + bias
        forbidden = (label[:, :, None] != label[:, None]).repeat(batch, 1, 1)
        out = scores.masked_fill(forbidden[:, None], float("-inf")).softmax(-1) @ v
        out = self.linear(out.transpose(1, 2).flatten(2), f"{name}.proj")
        out = out.reshape(batch, rows // window, columns // window, window, window, width).transpose(2, 3)
        return out.reshape(batch, rows, columns, width).roll((shift, shift), (1, 2))

    @staticmethod
    def _windows(x, window):
        batch, rows, columns, width = x.shape
        x = x.reshape(batch, rows // window, window, columns // window, window, width).transpose(2, 3)
        return x.reshape(-1, window * window, width)

    def bias(self, name, window):
        place = torch.cartesian_prod(torch.arange(window), torch.arange(window))
        offset = place[:, None] - place + window - 1
        return self(name)[offset[..., 0] * (2 * window - 1) + offset[..., 1]].permute(2, 0, 1)

    def swin(self, x):
        encoder, maps = self.encoder, []
        x = self.embed(x, "patch_embed", encoder.patch_size)
        for s in range(encoder.stages):
            for b in range(encoder.depths[s]):
                name, window = f"stages.{s}.blocks.{b}", encoder.windows[s]
                shift = window // 2 if encoder.shift and b % 2 and window < x.shape[1] else 0
                bias = self.bias(f"{name}.attn.w_msa.relative_position_bias_table", window)
                y = self.norm(x, f"{name}.norm1")
                x = x + self.window_attention(y, f"{name}.attn.w_msa", encoder.heads[s], window, shift, bias)
                x = x + self.feed_forward(
                    self.norm(x, f"{name}.norm2"), f"{name}.ffn.layers.0.0", f"{name}.ffn.layers.1"
                )
            last = s == encoder.stages - 1
            maps.append(self.norm(x, f"norm{s}") if last else x)
            x = x if last else self.merge(x, f"stages.{s}.downsample")
        return maps

    def feed_forward(self, x, first, second):
        return self.linear(F.gelu(self.linear(x, first)), second)

    def pvt(self, x):
        encoder, maps = self.encoder, []
        for s in range(encoder.stages):
            x = self.embed(x, f"layers.{s}.0", 2 if s else encoder.patch_size, 1e-5)
            x = x + self(f"layers.{s}.1.0.pos_embed").reshape(1, *x.shape[1:])
            for b in range(encoder.depths[s]):
                name = f"layers.{s}.1.{b + 1}"
                y = self.norm(x, f"{name}.norm1")
                x = x + self.reduced_attention(y, f"{name}.attn", encoder.heads[s], encoder.sr_ratios[s])
                y = self.norm(x, f"{name}.norm2").permute(0, 3, 1, 2)
                for number in (0, 3):
                    y = F.conv2d(
                        y, self(f"{name}.ffn.layers.{number}.weight"), self(f"{name}.ffn.layers.{number}.bias")
                    )
                    y = F.gelu(y) if number == 0 else y
                x = x + y.permute(0, 2, 3, 1)
            maps.append(x)
            x = x.permute(0, 3, 1, 2)
        return maps

    def twins_svt(self, x):
        encoder, maps = self.encoder, []
        for s in range(encoder.stages):
            x = self.embed(x, f"patch_embeds.{s}", 2 if s else encoder.patch_size, 1e-5)
            for b in range(encoder.depths[s]):
                name = f"layers.{s}.{b}"
                y = self.norm(x, f"{name}.norm1")
                if b % 2:
                    x = x + self.reduced_attention(y, f"{name}.attn", encoder.heads[s], encoder.sr_ratios[s])
                else:
                    x = x + self.window_attention(y, f"{name}.attn", encoder.heads[s], encoder.windows[s])
                x = x + self.feed_forward(
                    self.norm(x, f"{name}.norm2"), f"{name}.ffn.layers.0.0", f"{name}.ffn.layers.1"
                )
                if b == 0:
                    conv = f"position_encodings.{s}.proj"
                    grid = x.permute(0, 3, 1, 2)
                    grid = grid + F.conv2d(grid, self(f"{conv}.weight"), self(f"{conv}.bias"), 1, 1, 1, grid.shape[1])
                    x = grid.permute(0, 2, 3, 1)
            last = s == encoder.stages - 1
            maps.append(self.norm(x, f"norm_list.{s}") if last else x)
            x = x.permute(0, 3, 1, 2)
        return maps


MM = {
    "swin_stock": dict(STOCK, windows=(4, 4, 4), positions="none"),
    "swin_without_shifts": dict(STOCK, windows=(4, 4, 2), positions="none", shift=False),
    "pvt": ENCODERS["pvt"],
    "twins_svt": dict(small.ENCODERS["twins_svt"], windows=(4, 4, 4)),
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("encoder", MM)
def test_openmmlab_computes_the_same_stages(tmp_path, encoder, part):
    one = opened(MM[encoder], part)
    export(one, "mmdet-keys", tmp_path / "w.pth", False)
    content = torch.load(tmp_path / "w.pth", weights_only=True)
    config = one.description.encoder
    theirs = Theirs(content["state_dict"], config)
    ours = one.model if part == "encoder" else one.model.encoder
    if encoder == "pvt":
        ours.norm = nn.Identity()
    with torch.no_grad():
        wanted = ours.maps(images())
        found = [x.permute(0, 3, 1, 2) for x in getattr(theirs, config.family)(images())]
    for ours_, theirs_ in zip(wanted, found, strict=True):
        same(theirs_, ours_)
    assert theirs.used == theirs.state.keys()
    assert all(name.startswith("backbone.") for name in content["state_dict"]) == (config.family == "swin")


def test_what_openmmlab_does_not_have_is_in_the_card(tmp_path):
    found = export(opened("swin_mixmae", "pretraining"), "mmdet-keys", tmp_path / "w.pth", False)
    card = (tmp_path / "w.pth.md").read_text()
    for said in ("one window in all stages", "without shifts", "sin-cos positions"):
        assert said in card and any(said in warning for warning in found.warnings)
    names = torch.load(tmp_path / "w.pth", weights_only=True)["state_dict"]
    assert not any("pos_embed" in name for name in names)


@pytest.mark.parametrize("encoder", ["vit", "vit_beit"])
def test_families_whose_names_were_not_verified_are_refused(tmp_path, encoder):
    with pytest.raises(ValueError, match="not verified"):
        export(opened(encoder, "encoder"), "mmdet-keys", tmp_path / "w.pth", False)
    assert list(tmp_path.iterdir()) == []
