"""A naive oracle of the encoders: row-major tokens, every token computed, attention masked by a (N, N) matrix."""

import torch
import torch.nn.functional as F


def dense_tokens(encoder, images, source):
    """(B, units, width) tokens of `encoder` on whole images, units row-major.

    source: (rows, columns) ints on the unit grid; tokens attend only within their source. Negative: absent, its tokens
    are computed but seen by nobody else.
    """
    walk = {"Swin": _swin, "TwinsSVT": _twins, "PVT": _pvt}[type(encoder).__name__]
    return walk(encoder, images, source).flatten(2).transpose(1, 2)


def _sources_at(source, size):
    scale = size[0] // source.shape[0]
    return source.repeat_interleave(scale, 0).repeat_interleave(scale, 1)


def _norm(norm, x):
    return norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _attend(q, k, v, allowed, heads, bias=0.0):
    """q (B, N, C), k and v (B, M, C), allowed (N, M) bool; rows that may see nothing come out as zero."""
    batch, count, width = q.shape
    q, k, v = (x.reshape(batch, -1, heads, width // heads).transpose(1, 2) for x in (q, k, v))
    scores = q @ k.transpose(-1, -2) * (width // heads) ** -0.5 + bias
    weights = torch.softmax(scores.masked_fill(~allowed, float("-inf")), -1).nan_to_num()
    return (weights @ v).transpose(1, 2).reshape(batch, count, width)


def _window_attention(attn, x, source, window, shift):
    rows, columns = x.shape[-2:]
    y, column = (place.flatten() for place in torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij"))
    height, width = min(window, rows), min(window, columns)
    same = torch.ones(len(y), len(y), dtype=torch.bool)
    for key in ((y - shift) // height, (column - shift) // width, source.flatten()):
        same &= key[:, None] == key[None]
    same &= (source.flatten() >= 0)[None]
    bias = 0.0
    if hasattr(attn, "relative_position_bias_table"):
        index = (y[:, None] - y + window - 1) * (2 * window - 1) + column[:, None] - column + window - 1
        table = attn.relative_position_bias_table
        bias = table[index.clamp(0, len(table) - 1)].permute(2, 0, 1)
    q, k, v = attn.qkv(x.flatten(2).transpose(1, 2)).chunk(3, -1)
    out = attn.proj(_attend(q, k, v, same, attn.heads, bias))
    return out.transpose(1, 2).unflatten(2, (rows, columns))


def _reduced_attention(attn, x, source):
    tokens = x.flatten(2).transpose(1, 2)
    reduced = _norm(attn.norm, attn.sr(x)) if attn.sr_ratio > 1 else x
    key_source = source[:: attn.sr_ratio, :: attn.sr_ratio].flatten()
    allowed = (source.flatten()[:, None] == key_source) & (key_source >= 0)
    k, v = attn.kv(reduced.flatten(2).transpose(1, 2)).chunk(2, -1)
    out = attn.proj(_attend(attn.q(tokens), k, v, allowed, attn.heads))
    return out.transpose(1, 2).unflatten(2, x.shape[-2:])


def _block(block, x, attend):
    x = x + attend(_norm(block.norm1, x))
    return x + _norm(lambda y: block.mlp(block.norm2(y)), x)


def _swin(encoder, images, source):
    x = _norm(encoder.patch_embed.norm, encoder.patch_embed.proj(images))
    if encoder.positions == "sincos":
        table = encoder.absolute_pos_embed[0].T.unflatten(1, encoder.stage_size(0))[None]
        same = table.shape[-2:] == x.shape[-2:]
        x = x + (table if same else F.interpolate(table, x.shape[-2:], mode="bicubic"))
    for layer in encoder.layers:
        own = _sources_at(source, x.shape[-2:])
        for number, block in enumerate(layer.blocks):
            shift = (
                block.attn.table_side // 2
                if encoder.shift and number % 2 and min(x.shape[-2:]) > block.attn.table_side
                else 0
            )
            x = _block(
                block, x, lambda y, b=block, s=shift, o=own: _window_attention(b.attn, y, o, b.attn.table_side, s)
            )
        if hasattr(layer, "downsample"):
            corners = [x[:, :, row::2, column::2] for row, column in ((0, 0), (1, 0), (0, 1), (1, 1))]
            merge = layer.downsample
            x = _norm(lambda y, m=merge: m.reduction(m.norm(y)), torch.cat(corners, 1))
    return _norm(encoder.norm, x)


def _twins(encoder, images, source):
    x = images
    for stage in range(encoder.stages):
        x = _norm(encoder.patch_embeds[stage].norm, encoder.patch_embeds[stage].proj(x))
        own = _sources_at(source, x.shape[-2:])
        for number, block in enumerate(encoder.blocks[stage]):
            if number % 2:
                x = _block(block, x, lambda y, b=block, o=own: _reduced_attention(b.attn, y, o))
            else:
                window = encoder.windows[stage]
                x = _block(block, x, lambda y, b=block, o=own, w=window: _window_attention(b.attn, y, o, w, 0))
            if number == 0:
                convolved = encoder.pos_block[stage].proj
                x = x + sum(convolved(x * (own == one)) * (own == one) for one in own.unique() if one >= 0)
    return _norm(encoder.norm, x)


def _pvt(encoder, images, source):
    x = images
    for stage in range(encoder.stages):
        embedding = getattr(encoder, f"patch_embed{stage + 1}")
        x = _norm(embedding.norm, embedding.proj(x))
        positions = getattr(encoder, f"pos_embed{stage + 1}").transpose(1, 2).unflatten(2, encoder.stage_size(stage))
        if encoder.stage_size(stage) != tuple(x.shape[-2:]):
            positions = F.interpolate(positions, size=x.shape[-2:], mode="bilinear")
        x = x + positions
        own = _sources_at(source, x.shape[-2:])
        for block in getattr(encoder, f"block{stage + 1}"):
            x = _block(block, x, lambda y, b=block, o=own: _reduced_attention(b.attn, y, o))
    return _norm(encoder.norm, x)
