from itertools import pairwise

import pytest

from ablations.grid.file import read_grid
from ablations.grid.trials import Draw, Trials, drawn
from mixmae.fields.documents import ConfigError

GRID = """\
base: digits_nano
sweeps:
  - name: rates
    product: {method: [mixmae, simmim]}
    trials:
      count: 8
      draw:
        pretrain.base_lr: {least: 1.0e-4, most: 1.0e-2, log: true}
        method.ratio: {least: 0.25, most: 0.75}
"""


def halton(index: int, base: int) -> float:
    """The radical inverse: the digits of `index` in that base, mirrored at the point."""
    value, place = 0.0, 1 / base
    while index:
        index, digit = divmod(index, base)
        value, place = value + digit * place, place / base
    return value


def cases(tmp_path, text: str):
    path = tmp_path / "grid.yaml"
    path.write_text(text)
    return read_grid(path).cases


def test_each_method_gets_the_same_trials(tmp_path):
    settings: dict[str, list] = {}
    for case in cases(tmp_path, GRID):
        exp = case.experiment
        settings.setdefault(exp.method.name, []).append((exp.pretrain.base_lr, exp.method.ratio))
    assert settings["mixmae"] == settings["simmim"] and len(set(settings["mixmae"])) == 8


@pytest.mark.parametrize("skip", [0, 5])
def test_points_are_those_of_haltons_sequence(skip):
    draw = {"a": Draw(least=0.0, most=1.0), "b": Draw(least=1e-4, most=1e-2, log=True)}
    settings = list(drawn(Trials(count=6, skip=skip, draw=draw)))
    for place, setting in enumerate(settings, start=1 + skip):
        assert setting["a"] == pytest.approx(halton(place, 2), rel=5e-3)
        assert setting["b"] == pytest.approx(1e-4 * 100 ** halton(place, 3), rel=5e-3)


def test_skipping_goes_on_where_an_earlier_sweep_ended():
    draw = {"a": Draw(least=0.0, most=1.0)}
    both = [*drawn(Trials(count=3, draw=draw)), *drawn(Trials(count=4, skip=3, draw=draw))]
    assert both == list(drawn(Trials(count=7, draw=draw)))


def test_values_are_short_and_fill_the_range():
    values = [setting["a"] for setting in drawn(Trials(count=63, draw={"a": Draw(least=2.0, most=4.0)}))]
    assert all(len(f"{value!r}") <= 4 for value in values)
    steps = [after - before for before, after in pairwise(sorted(values))]
    assert max(steps) < 0.06 and min(values) < 2.05 and max(values) > 3.95


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("most: 0.75", "most: 0.2", "9:37: sweeps[0].trials.draw.method.ratio.most: 0.2 is not above least: 0.25"),
        ("least: 1.0e-4", "least: 0", "8:28: sweeps[0].trials.draw.pretrain.base_lr.least: 0 has no logarithm"),
        ("method.ratio", "method.ration", "9:9: method.ration: unknown field (did you mean ratio?)"),
        ("method.ratio: {least: 0.25, most: 0.75}", "method.ratio: {least: 1.25, most: 1.75}", "9:9: method.ratio"),
        ("count: 8", "count: 0", "6:7: sweeps[0].trials.count: expected a number above 0"),
        ("product: {method", "product: {method.ratio: [0.5], method", "9:9: method.ratio: is swept twice"),
    ],
)
def test_mistakes_are_told_with_their_place(tmp_path, before, after, said):
    assert before in GRID
    with pytest.raises(ConfigError) as caught:
        cases(tmp_path, GRID.replace(before, after))
    assert said in str(caught.value), str(caught.value)
