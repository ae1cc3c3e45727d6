"""Attention over the groups of a layout, in windows or over spatially reduced keys, and the block around it."""

import torch
import torch.nn.functional as F
from timm.layers import DropPath, Mlp, trunc_normal_
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mixmae.attention.layouts import Bucket, Groups, recursive_offsets


class WindowAttention(nn.Module):
    """Multi-head attention within groups; tokens are (B, N, width) in the groups' order.

    table_side: side of the window that the relative position bias table is made for; None: no bias (Twins).
    """

    def __init__(self, width: int, heads: int, table_side: int | None):
        super().__init__()
        self.heads, self.table_side = heads, table_side
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        if table_side is not None:
            self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * table_side - 1) ** 2, heads))
            trunc_normal_(self.relative_position_bias_table, std=0.02)

    @torch.compiler.disable  # groups change with the mask; see mixmae.training.compilation
    def forward(self, x: Tensor, groups: Groups) -> Tensor:
        parts = []
        for qkv, bucket in zip(self.qkv(x).split(groups.sizes, 1), groups.buckets, strict=True):
            own_bias = bucket.relative is not None and len(bucket.relative) > 1
            parts.append(self._own_bias(qkv, bucket) if own_bias else self._shared_bias(qkv, bucket))
        return self.proj(parts[0] if len(parts) == 1 else torch.cat(parts, 1))

    def _shared_bias(self, qkv: Tensor, bucket: Bucket) -> Tensor:
        """Attends where all groups have the same bias or none: groups are folded into the batch."""
        batch, tokens, _ = qkv.shape
        q, k, v = qkv.reshape(batch * bucket.count, bucket.size, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        bias = None if bucket.relative is None else self._bias(bucket.relative)[:, 0]
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return out.transpose(1, 2).reshape(batch, tokens, -1)

    def _own_bias(self, qkv: Tensor, bucket: Bucket) -> Tensor:
        """Attends where every group has its own bias: groups are folded into the heads, the batch shares the bias."""
        assert bucket.relative is not None
        batch, tokens, _ = qkv.shape
        count, size, heads = bucket.count, bucket.size, self.heads
        qkv = qkv.reshape(batch, count, size, 3, heads, -1).permute(3, 0, 4, 1, 2, 5)
        q, k, v = qkv.reshape(3, batch, heads * count, size, -1)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=self._bias(bucket.relative).flatten(0, 1))
        return out.reshape(batch, heads, count, size, -1).permute(0, 2, 3, 1, 4).reshape(batch, tokens, -1)

    def _bias(self, relative: Tensor) -> Tensor:
        """Returns (heads, groups, size, size): one gather from the transposed table, whose backward is fast."""
        table = self.relative_position_bias_table.t()
        return table.index_select(1, relative.flatten()).reshape(self.heads, *relative.shape)


class ReducedAttention(nn.Module):
    """Global attention of every source to itself over spatially reduced keys; tokens are in unit order.

    A key stands for sr_ratio x sr_ratio tokens (PVT, eq. 3–5; Twins' global attention); 1: no reduction, no norm.
    """

    def __init__(self, width: int, heads: int, sr_ratio: int):
        super().__init__()
        self.heads, self.sr_ratio = heads, sr_ratio
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)
        if sr_ratio > 1:
            self.sr = nn.Conv2d(width, width, sr_ratio, sr_ratio)
            self.norm = nn.LayerNorm(width)

    @torch.compiler.disable
    def forward(self, x: Tensor, groups: Groups) -> Tensor:
        reduced = self.norm(strided_convolution(self.sr, x)) if self.sr_ratio > 1 else x
        queries = self.q(x).split(groups.sizes, 1)
        keys = self.kv(reduced).split([size // self.sr_ratio**2 for size in groups.sizes], 1)
        parts = [self._attend(q, kv, b.count) for q, kv, b in zip(queries, keys, groups.buckets, strict=True)]
        return self.proj(parts[0] if len(parts) == 1 else torch.cat(parts, 1))

    def _attend(self, q: Tensor, kv: Tensor, count: int) -> Tensor:
        batch, tokens, width = q.shape
        q = q.reshape(batch * count, tokens // count, self.heads, -1).transpose(1, 2)
        k, v = kv.reshape(batch * count, kv.shape[1] // count, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, tokens, width)


class Block(nn.Module):
    """A pre-norm transformer block around one of the attentions above, with stochastic depth.

    norm: called with a width, returns a norm layer. Tokens are (B, N, width) in the order that `attn` takes.
    `checkpointed`: the backward pass computes the block again from its input, with the same draws, instead of keeping
    what it needs.
    """

    checkpointed = False

    def __init__(self, attn: nn.Module, width: int, mlp_ratio: int, drop_path: float, norm):
        super().__init__()
        self.norm1 = norm(width)
        self.attn = attn
        self.norm2 = norm(width)
        self.mlp = Mlp(width, width * mlp_ratio)
        self.drop_path = DropPath(drop_path)

    def __call__(self, x: Tensor, groups: Groups) -> Tensor:
        # Around the call and not in `forward`, which may be compiled.
        if self.checkpointed:
            return checkpoint(super().__call__, x, groups, use_reentrant=False)
        return super().__call__(x, groups)

    def forward(self, x: Tensor, groups: Groups) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x), groups))
        return x + self.drop_path(self.mlp(self.norm2(x)))


def strided_convolution(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Applies `conv`, whose stride is its kernel s, to tokens (B, N, C) in unit order -> (B, N / s², C').

    The s x s tokens of one output follow one another, so it is a reshape and a matrix product.
    """
    side = conv.stride[0]
    offsets = recursive_offsets(side)
    weight = conv.weight[:, :, offsets[:, 0], offsets[:, 1]].transpose(1, 2).flatten(1)
    return F.linear(x.reshape(x.shape[0], x.shape[1] // side**2, -1), weight, conv.bias)


def reorder(x: Tensor, current: Groups | None, wanted: Groups | None) -> Tensor:
    """Reorders tokens from the order of `current` to that of `wanted`; None and groups without order are unit order."""
    before = None if current is None else current.inverse
    after = None if wanted is None else wanted.order
    if current is wanted:
        return x
    if before is not None and after is not None:
        return x.index_select(1, before[after])
    order = after if before is None else before
    return x if order is None else x.index_select(1, order)
