"""The light decoder of MixMAE and MAE: transformer blocks over unit tokens, then the units' pixels."""

from functools import partial
from typing import Protocol

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from mixmae.attention.positions import sincos_positions
from mixmae.encoders.encoder import Encoder


class DecoderConfig(Protocol):
    """The fields of a method's config that a decoder is made of."""

    @property
    def decoder_depth(self) -> int: ...

    @property
    def decoder_width(self) -> int: ...

    @property
    def decoder_heads(self) -> int: ...

    @property
    def decoder_mlp_ratio(self) -> int: ...

    @property
    def decoder_norm_eps(self) -> float: ...


class Decoder(nn.Module):
    """Decodes the tokens of `encoder`; its class token, where it has one, comes before those of units."""

    def __init__(self, encoder: Encoder, config: DecoderConfig):
        super().__init__()
        width = config.decoder_width
        norm = partial(nn.LayerNorm, eps=config.decoder_norm_eps)
        self.class_token = bool(encoder.extra_tokens)
        self.embed = nn.Linear(encoder.width, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        shape = width, config.decoder_heads, config.decoder_mlp_ratio
        block = partial(Block, *shape, qkv_bias=True, norm_layer=norm)  # type: ignore[arg-type]
        self.blocks = nn.ModuleList(block() for _ in range(config.decoder_depth))
        self.norm = norm(width)
        self.pred = nn.Linear(width, encoder.unit**2 * 3)

    def reset_tokens(self) -> None:
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, tokens: Tensor, grid: tuple[int, int], slots: list[Tensor]) -> Tensor:
        """Decodes each slot's tokens, with mask tokens at all other units, as one batch.

        tokens: (B, n, in_width), sorted by slot (after the class token, where there is one). slots: for each slot the
        row-major units of its tokens, (n_slot,) shared or (B, n_slot) per sample.
        Returns (len(slots) * B, units, outputs), units row-major: first slot 0 of all B, then slot 1, …
        """
        x = self.embed(tokens)
        head = []
        if self.class_token:
            head, x = [x[:, :1]], x[:, 1:]
        parts = x.split([slot.shape[-1] for slot in slots] + [x.shape[1] - sum(s.shape[-1] for s in slots)], 1)
        # Without dual reconstruction the last part holds the tokens of slots that are not decoded.
        full = [self._placed(part, slot, grid) for part, slot in zip(parts, slots, strict=False)]
        x = torch.cat([torch.cat([*head, slot], 1) for slot in full]) if head else torch.cat(full)
        for block in self.blocks:
            x = block(x)
        x = self.pred(self.norm(x))
        return x[:, 1:] if self.class_token else x

    def _placed(self, tokens: Tensor, slot: Tensor, grid: tuple[int, int]) -> Tensor:
        """(B, n, width) -> (B, units, width): tokens at the units of `slot`, mask tokens elsewhere, plus positions."""
        batch, _, width = tokens.shape
        index = slot.expand(batch, -1).unsqueeze(-1).expand(-1, -1, width)
        full = self.mask_token.to(tokens.dtype).expand(batch, grid[0] * grid[1], -1).scatter(1, index, tokens)
        return full + sincos_positions(width, grid).to(tokens.device)
