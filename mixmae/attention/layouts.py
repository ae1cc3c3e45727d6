"""Who attends with whom: attention layouts, the one mechanism behind plain, masked and visible-only encoding.

A layout lists the units that are present, sorted by slot (the source image they show), and holds for every stage where
each token lies and which groups of tokens attend together. Four cases are one mechanism: plain windows, shifted windows
(border windows are simply smaller), masked attention (windows split by source image) and visible-only encoding (one of
the parts left out). It depends on the mask alone, so it is made once a chunk and shared by all blocks.

Tokens are kept in *unit order*: units sorted by slot and, inside a unit, in 2 x 2-recursive order with the row bit
fastest. Merging 2 x 2 tokens, or reducing s x s of them, is then a reshape, in the order of Swin's patch merging.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch


@lru_cache
def recursive_offsets(side: int) -> np.ndarray:
    """Returns (side², 2): row and column of each place of a square in 2 x 2-recursive order, row bit fastest.

    `side` is a power of two. For 2: (0, 0), (1, 0), (0, 1), (1, 1), the order of Swin's patch merging.
    """
    place = np.arange(side * side)
    offsets = np.zeros((side * side, 2), dtype=np.int64)
    for bit in range(side.bit_length() - 1):
        digit = place >> (2 * bit)
        offsets[:, 0] |= (digit & 1) << bit
        offsets[:, 1] |= (digit >> 1 & 1) << bit
    return offsets


@dataclass(frozen=True)
class Bucket:
    """`count` groups of `size` tokens each, one after another."""

    count: int
    size: int
    relative: torch.Tensor | None = None
    """(count or 1, size, size) rows of the relative position bias table; 1 where all groups have the same shape."""


@dataclass(frozen=True)
class Groups:
    """Groups of tokens that attend together. `order` puts tokens from unit order into group order."""

    buckets: tuple[Bucket, ...]
    order: torch.Tensor | None = None
    """(N,) indices into unit order; None where the groups already are slices of it."""
    inverse: torch.Tensor | None = None

    @property
    def sizes(self) -> list[int]:
        """Number of tokens in each bucket, in order."""
        return [bucket.count * bucket.size for bucket in self.buckets]


class StageLayout:
    """Holds where the tokens of one stage lie, and groups them.

    size: height and width of the stage's grid in tokens. slots: token slices of the slots. sources: token slices of
    what attends together globally. index: (N,) row-major place of each token.
    """

    def __init__(self, size: tuple[int, int], yx: np.ndarray, slots: list[slice], separate: bool, device: torch.device):
        self.size = size
        self.yx = yx
        self.slots = slots
        self.sources = slots if separate else [slice(0, len(yx))]
        self.device = device
        self.index = self._tensor(yx[:, 0] * size[1] + yx[:, 1])
        self._groups: dict[tuple, Groups] = {}

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    def global_groups(self) -> Groups:
        """Returns one group a source; sources are slices of unit order."""
        return self._cached(("global",), self._make_global, None)

    def window_groups(self, window: int, shift: int, table_side: int | None) -> Groups:
        """Returns windows of `window` x `window` tokens, `shift` tokens down and right, split by source.

        They are cut to the grid where it is smaller. `table_side` is the window side that the relative position bias
        table was made for; None: no relative positions.
        """
        height, width = (min(window, side) for side in self.size)
        if (height, width) == self.size and not shift:
            return self._cached(("global", table_side), self._make_global, table_side)
        return self._cached((height, width, shift, table_side), self._make_windows, height, width, shift, table_side)

    def _cached(self, key: tuple, make, *arguments) -> Groups:
        if key not in self._groups:
            self._groups[key] = make(*arguments)
        return self._groups[key]

    def _make_global(self, table_side: int | None) -> Groups:
        """Makes each source a group; consecutive sources of one size share a bucket."""
        buckets, start = [], 0
        sizes = [source.stop - source.start for source in self.sources]
        while sizes:
            count = next((i for i, size in enumerate(sizes) if size != sizes[0]), len(sizes))
            members = np.arange(start, start + count * sizes[0]).reshape(count, -1)
            buckets.append(Bucket(count, sizes[0], self._relative(members, table_side, same=False)))
            start += count * sizes[0]
            sizes = sizes[count:]
        return Groups(tuple(buckets))

    def _make_windows(self, height: int, width: int, shift: int, table_side: int | None) -> Groups:
        (rows, columns), (y, x) = self.size, self.yx.T
        window_y, window_x = (y - shift) // height, (x - shift) // width
        source = np.zeros(len(y), dtype=np.int64)
        for number, part in enumerate(self.sources):
            source[part] = number
        across = (columns - shift) // width + 3
        identity = ((window_y + 1) * across + window_x + 1) * len(self.sources) + source
        _, group, sizes = np.unique(identity, return_inverse=True, return_counts=True)
        # A window that no other source cuts has all its cells; whole windows of one shape, each in row-major order,
        # share one bias.
        box_rows = np.minimum((window_y + 1) * height + shift, rows) - np.maximum(window_y * height + shift, 0)
        box_columns = np.minimum((window_x + 1) * width + shift, columns) - np.maximum(window_x * width + shift, 0)
        shape = np.where(sizes[group] == box_rows * box_columns, box_rows, 0)
        order = np.lexsort((x, y, group, shape, sizes[group]))
        kinds = np.stack([sizes[group][order], shape[order]], 1)
        starts = np.flatnonzero(np.r_[True, (kinds[1:] != kinds[:-1]).any(1)])
        buckets = []
        for start, stop in zip(starts, [*starts[1:], len(order)], strict=True):
            size, whole = int(kinds[start, 0]), kinds[start, 1] > 0
            members = order[start:stop].reshape(-1, size)
            relative = self._relative(members, table_side, same=bool(whole))
            buckets.append(Bucket(len(members), size, relative))
        return Groups(tuple(buckets), self._tensor(order), self._tensor(np.argsort(order)))

    def _relative(self, members: np.ndarray, table_side: int | None, same: bool) -> torch.Tensor | None:
        """Returns (groups or 1, size, size) rows of the bias table of side `table_side`; members: (groups, size)."""
        if table_side is None:
            return None
        rank = self.yx[:, 0] * (2 * table_side - 1) + self.yx[:, 1]
        rank = rank[members[:1] if same else members]
        return self._tensor(rank[:, :, None] - rank[:, None, :] + (2 * table_side - 1) ** 2 // 2)


class Layout:
    """The units that are present and, per stage, the groups of tokens that attend together.

    grid: rows and columns in units. slots: for each slot the row-major indices of the units that show it; units in no
    slot are absent. stages: how many stages the encoder has. separate: slots do not attend to one another.
    """

    def __init__(
        self,
        grid: tuple[int, int],
        slots: Sequence[np.ndarray],
        stages: int,
        separate: bool = True,
        device: torch.device | str = "cpu",
    ):
        self.grid = grid
        self.device = torch.device(device)
        units = np.concatenate(slots)
        self.slots = [torch.from_numpy(np.asarray(slot, dtype=np.int64)).to(self.device) for slot in slots]
        self.units = torch.cat(self.slots)
        bounds = np.cumsum([0, *(len(slot) for slot in slots)]).tolist()
        self.stages = []
        for stage in range(stages):
            side = 2 ** (stages - 1 - stage)
            corners = np.stack(np.divmod(units, grid[1]), 1) * side
            yx = (corners[:, None] + recursive_offsets(side)).reshape(-1, 2)
            parts = [slice(a * side**2, b * side**2) for a, b in pairwise(bounds)]
            self.stages.append(StageLayout((grid[0] * side, grid[1] * side), yx, parts, separate, self.device))


@lru_cache(maxsize=16)
def whole_layout(grid: tuple[int, int], stages: int, device: torch.device) -> Layout:
    """Returns the layout of plain attention: every unit of one image, in row-major order. Made once a grid."""
    return Layout(grid, [np.arange(grid[0] * grid[1])], stages, device=device)


def slots_of(slots: torch.Tensor, images: int) -> list[np.ndarray]:
    """Returns the row-major indices of each slot's units. slots: (rows, columns) slot of each unit."""
    flat = slots.flatten().cpu().numpy()
    return [np.flatnonzero(flat == slot) for slot in range(images)]
