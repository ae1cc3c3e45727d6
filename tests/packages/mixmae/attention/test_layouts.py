"""Layouts against their definition: two tokens attend together where window and source are the same."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mixmae.attention.layouts import Layout, recursive_offsets, slots_of


def test_recursive_order_of_two_is_swins_merge_order():
    assert recursive_offsets(2).tolist() == [[0, 0], [1, 0], [0, 1], [1, 1]]


@pytest.mark.parametrize("side", [1, 2, 4, 8])
def test_recursive_order_visits_every_place_once_and_nests(side):
    offsets = recursive_offsets(side)
    assert len({tuple(place) for place in offsets}) == side * side
    if side > 1:
        quads = offsets.reshape(-1, 4, 2)
        assert (quads // 2 == quads[:, :1] // 2).all()
        assert (quads[:, 0] // 2 == recursive_offsets(side // 2)).all()


@st.composite
def layouts(draw):
    """A layout with its grid, the slot of every unit (-1 = absent), and the number of stages."""
    grid = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    stages, images = draw(st.integers(2, 4)), draw(st.integers(1, 4))
    slots = np.array(
        draw(st.lists(st.integers(-1, images - 1), min_size=grid[0] * grid[1], max_size=grid[0] * grid[1]))
    )
    if (slots < 0).all():
        slots[0] = 0
    separate = draw(st.booleans())
    layout = Layout(grid, [np.flatnonzero(slots == image) for image in range(images)], stages, separate)
    return layout, grid, slots, stages, separate


@given(layouts(), st.integers(1, 9), st.booleans(), st.data())
def test_window_groups_are_what_the_definition_says(drawn, window, shifted, data):
    layout, grid, slots, stages, separate = drawn
    stage = data.draw(st.integers(0, stages - 1))
    place, side = layout.stages[stage], 2 ** (stages - 1 - stage)
    shift = window // 2 if shifted and min(place.size) > window else 0
    groups = place.window_groups(window, shift, window)
    order = np.arange(len(place.yx)) if groups.order is None else groups.order.numpy()
    assert sorted(order) == list(range(len(place.yx)))
    if groups.order is not None:
        assert (groups.order[groups.inverse] == torch.arange(len(order))).all()

    height, width = (min(window, size) for size in place.size)
    slot = slots[(place.yx[:, 0] // side) * grid[1] + place.yx[:, 1] // side]
    assert (slot >= 0).all()
    assert len(place.yx) == (slots >= 0).sum() * side**2
    key = np.stack([(place.yx[:, 0] - shift) // height, (place.yx[:, 1] - shift) // width, slot * separate], 1)
    expected = (key[:, None] == key[None]).all(-1)
    together = np.zeros_like(expected)
    starts = np.cumsum([0, *groups.sizes])
    for start, bucket in zip(starts, groups.buckets, strict=False):
        members = order[start : start + bucket.count * bucket.size].reshape(bucket.count, bucket.size)
        for number, member in enumerate(members):
            together[np.ix_(member, member)] = True
            relative = bucket.relative[number % len(bucket.relative)].numpy()
            yx = place.yx[member]
            offset = yx[:, None] - yx[None] + (window - 1)
            if (height, width) == (window, window):
                assert (relative == offset[..., 0] * (2 * window - 1) + offset[..., 1]).all()
    assert (together == expected).all()


@given(layouts())
def test_global_groups_are_the_sources(drawn):
    layout, _, _, stages, separate = drawn
    for place in layout.stages:
        sizes = [bucket.size for bucket in place.global_groups().buckets for _ in range(bucket.count)]
        expected = [part.stop - part.start for part in place.slots] if separate else [len(place.yx)]
        assert sizes == expected
    assert layout.stages[stages - 1].index.tolist() == layout.units.tolist()


def test_slots_of_lists_units_row_major():
    slots = torch.tensor([[0, 1], [2, 0]])
    assert [part.tolist() for part in slots_of(slots, 3)] == [[0, 3], [1], [2]]
