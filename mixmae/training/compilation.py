"""`torch.compile` for transformer blocks, one at a time.

A model as a whole does not suit it: layouts are made on the host from every step's mask. Nor does attention over their
groups, whose number and sizes change with them; it stays as it is, in fused kernels of its own. What surrounds it, that
is norms, residuals and multi-layer perceptrons, is compiled for any batch and number of tokens: once for each width
and rate of drop path, and not again for another mask.
"""

import torch
from timm.models import beit, vision_transformer
from torch import nn

from mixmae.attention.blocks import Block

BLOCKS = (Block, vision_transformer.Block, beit.Block)
RECOMPILE_LIMIT = 64
"""Widths, times training and evaluation, times the rates of drop path: past dynamo's default of 8 of one function."""


def compile_blocks(model: nn.Module) -> None:
    """Compiles every transformer block of `model` at its first call; parameters, names and copies are as before.

    Random draws (drop path) are those of uncompiled blocks. Raises dynamo's limit of recompilations in this process.
    """
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, RECOMPILE_LIMIT)
    for module in model.modules():
        if isinstance(module, BLOCKS):
            module.compile(dynamic=True, options={"fallback_random": True})
