"""Multiply-adds of an encoder's parts, by the groups of tokens that are computed (no torch).

Norms, activations, softmax and additions count as nothing. `sources` are arrays of row-major unit indices: the units of
one source attend to one another and to no others, and units in none are absent.
"""

from collections.abc import Sequence

import numpy as np

from mixmae.encoders.families import Hierarchical

Sources = Sequence[np.ndarray]


def tokens_of(config: Hierarchical, image_size: tuple[int, int], stage: int, sources: Sources) -> list[np.ndarray]:
    """The tokens of each source at a stage: (n, 2), row and column on the stage's grid."""
    columns, side = image_size[1] // config.unit, 2 ** (config.stages - 1 - stage)
    inside = np.stack(np.divmod(np.arange(side * side), side), 1)
    corners = [np.stack(np.divmod(units, columns), 1) * side for units in sources]
    return [(corner[:, None] + inside).reshape(-1, 2) for corner in corners]


def stage_size(config: Hierarchical, image_size: tuple[int, int], stage: int) -> tuple[int, int]:
    """Rows and columns of a stage's grid."""
    side = config.patch_size * 2**stage
    return image_size[0] // side, image_size[1] // side


def window_pairs(tokens: Sequence[np.ndarray], size: tuple[int, int], window: int, shift: int = 0) -> int:
    """Pairs of tokens that attend to one another in windows, cut to the grid of `size`, of which border windows are
    smaller."""
    height, width = (min(window, side) for side in size)
    if (height, width) == size and not shift:
        return sum(len(part) ** 2 for part in tokens)
    across = size[1] // width + 3
    groups = [((part[:, 0] - shift) // height + 1) * across + (part[:, 1] - shift) // width + 1 for part in tokens]
    return sum(int((np.unique(group, return_counts=True)[1] ** 2).sum()) for group in groups)


def attention(pairs: int, width: int) -> int:
    """Queries by keys, and what they weigh by values."""
    return 2 * pairs * width


def block(tokens: int, width: int, mlp_ratio: int) -> int:
    """The projections of plain attention and the MLP of a block, without the attention itself."""
    return tokens * (4 + 2 * mlp_ratio) * width**2


def reduced_block(tokens: Sequence[int], width: int, mlp_ratio: int, reduction: int) -> int:
    """A block that attends to keys of `reduction` x `reduction` tokens. tokens: of each source."""
    total, keys = sum(tokens), [count // reduction**2 for count in tokens]
    projected = total * (2 + 2 * mlp_ratio) * width**2 + sum(keys) * 2 * width**2
    strided = total * width**2 if reduction > 1 else 0
    return projected + strided + attention(sum(n * m for n, m in zip(tokens, keys, strict=True)), width)


def embedded(config: Hierarchical, tokens: int, stage: int) -> int:
    """The patch embedding, or a later stage's: a linear layer of the 2 x 2 tokens that become one."""
    inputs = 3 * config.patch_size**2 if stage == 0 else 4 * config.widths[stage - 1]
    return tokens * inputs * config.widths[stage]
