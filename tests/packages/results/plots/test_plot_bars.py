"""Bars of every encoder: how high they are, what is written above them, and the published numbers on them."""

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from mixmae.presentation.declaration import Expected, PublishedRow
from results.plots.bars.spec import BarsPlot
from results.plots.theme import look_of
from support.made_runs import Made, experiment
from support.plotted import boxes_of, shown, texts_of

BARS = BarsPlot(name="bars", stages=("knn",))


@pytest.fixture
def made(tmp_path):
    made = Made(tmp_path / "runs")
    for seed in range(2):
        made.add(experiment("mixmae", "swin_nano", seed), knn=80.0 + seed)
        made.add(experiment("mae", "swin_nano", seed), knn=70.0)
    made.add(experiment("mixmae", "pvt_nano"), knn=75.0)
    made.add(experiment("supervised", evaluations={"knn": {"features": "pixels"}}), knn=60.0)
    return made


def bars_of(ax):
    found = [patch for patch in ax.patches if isinstance(patch, Rectangle) and patch.get_width() > 0]
    return sorted(found, key=lambda bar: bar.get_x())


def test_a_group_an_encoder_and_a_bar_a_method(made):
    (ax,) = shown(made).draw(BARS).axes
    assert [bar.get_height() for bar in bars_of(ax)] == [80.5, 70.0, 75.0, 60.0]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["swin_nano", "pvt_nano", "–"]
    groups = [round(bar.get_x() + bar.get_width() / 2) for bar in bars_of(ax)]
    assert groups == [0, 0, 1, 2]
    edges = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in bars_of(ax)]
    assert all(left[1] <= right[0] + 1e-9 for left, right in zip(edges, edges[1:], strict=False))


def test_std_over_seeds_is_a_bar_and_a_single_seed_has_none(made):
    figure = shown(made).draw(BARS)
    segments = [segment for lines in figure.axes[0].collections for segment in lines.get_segments()]
    reach = [(float(segment[0][1]), float(segment[1][1])) for segment in segments]
    np.testing.assert_allclose(sorted(reach), [(70, 70), (80.5 - np.sqrt(0.5), 80.5 + np.sqrt(0.5))])
    assert "Mean and standard deviation (n - 1) over 1 to 2 seeds." in texts_of(figure)


def test_means_are_written_above_the_bars_and_hatches_tell_methods_apart(made):
    figure = shown(made).draw(BARS)
    boxes = {text.get_text(): box for text, box in boxes_of(figure)}
    (ax,) = figure.axes
    for bar in bars_of(ax):
        box = boxes[f"{bar.get_height():.1f}"]
        top = ax.transData.transform((bar.get_x() + bar.get_width() / 2, bar.get_height()))
        assert box.y0 >= top[1] and box.y1 <= ax.get_window_extent().y1
        assert (box.x0 + box.x1) / 2 == pytest.approx(top[0], abs=2)
    hatches = [bar.get_hatch() or "" for bar in bars_of(ax)]
    assert hatches == [look_of(method).hatch for method in ("mixmae", "mae", "mixmae", "raw pixels")]
    assert [patch.get_hatch() or "" for patch in figure.legends[0].get_patches()] == list(dict.fromkeys(hatches))


def test_bars_begin_at_zero(made):
    """A bar is read by its length."""
    assert all(ax.get_ylim()[0] == 0 for ax in shown(made).draw(BARS).axes)


def test_bars_that_differ_in_more_than_method_and_encoder_say_in_what(made):
    made.add(experiment({"name": "mixmae", "ratio": 0.25}), knn=79.0)
    texts = [text.get_text() for text in shown(made).draw(BARS).legends[0].get_texts()]
    assert texts == ["MixMAE · ratio 0.25", "MixMAE · ratio 0.5", "MAE · ratio 0.75", "raw pixels"]


def test_published_numbers_are_hollow_diamonds_on_their_bars(made):
    expected = Expected(
        where={"method": "mixmae", "encoder": "swin_nano"},
        stage="knn",
        top1=85.1,
        published=PublishedRow(method="MixMAE", encoder="Swin-B/W14", pretrain_epochs="600", resolution=224),
    )
    figure = shown(made, expected=(expected,)).draw(BARS)
    (ax,) = figure.axes
    (diamond,) = [line for line in ax.get_lines() if line.get_marker() == "D" and len(line.get_xdata())]
    bar = bars_of(ax)[0]
    assert diamond.get_xydata().tolist() == [[bar.get_x() + bar.get_width() / 2, 85.1]]
    assert diamond.get_markerfacecolor() == "white"
    assert figure.legends[0].get_texts()[-1].get_text() == "published"
    assert any(text.startswith("MixMAE 85.1: github.com/Sense-X/MixMIM") for text in texts_of(figure))
    at_scale = shown(made, expected=(expected,), scale="laptop").draw(BARS)
    assert not any("published" in text for text in texts_of(at_scale))


def test_many_bars_are_panels_below_one_another(tmp_path):
    made = Made(tmp_path)
    for encoder in ("swin_nano", "twins_svt_nano", "pvt_nano", "vit_nano"):
        for method in ("mixmae", "simmim", "mae") if encoder != "vit_nano" else ("simmim", "mae"):
            for ratio in (0.5, 0.75):
                made.add(experiment({"name": method, "ratio": ratio}, encoder), linear=60.0, knn=70.0)
    figure = shown(made).draw(BARS.model_copy(update={"stages": ("linear", "knn")}))
    upper, lower = (ax.get_position() for ax in figure.axes)
    assert upper.x0 == pytest.approx(lower.x0) and upper.y0 > lower.y1
