"""Plots of real run folders: files, the same bytes again, nothing clipped, and the figures that they show."""

import numpy as np
import pytest
from made_runs import FINGERPRINT, Made, declared, experiment
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from PIL import Image

from mixmae.jobs import stage_jobs
from mixmae.presentation import PlotSpec
from mixmae.runs import RunFolder
from results.cells import MixedCell
from results.collect import collect
from results.plots import DPI, draw, write_plots

EPOCHS = PlotSpec(name="epochs", title="Accuracy against epochs", x="pretrain_epochs")
LOSS = PlotSpec(name="loss", title="Pretraining losses", kind="loss")


@pytest.fixture
def made(tmp_path):
    made = Made(tmp_path / "runs")
    for seed in range(2):
        for epochs in (5, 10, 20, 80):
            figures = {"finetune": 90 + seed, "linear": 60 + epochs / 4 + seed, "knn": 70 + epochs / 8 + seed}
            made.add(experiment("mixmae", seed=seed, epochs=epochs), **figures)
        for method in ("simmim", "mae"):
            for encoder in ("swin_nano", "twins_svt_nano", "pvt_nano"):
                made.add(experiment(method, encoder, seed), finetune=89 + seed, linear=66 + seed, knn=69 + seed)
        made.add(experiment("supervised", seed=seed), finetune=88 + seed, linear=60 + seed, knn=65 + seed)
        pixels = experiment("supervised", seed=seed, evaluations={"knn": {"features": "pixels"}})
        made.add(pixels, knn=88)
    return made


def drawn(made, spec):
    figure = draw(collect(made.root), spec, declared(made))
    FigureCanvasAgg(figure).draw()
    return figure


@pytest.mark.parametrize("spec", [EPOCHS, LOSS], ids=lambda spec: spec.name)
def test_files_are_there_and_the_same_bytes_again(made, tmp_path, spec):
    frame = collect(made.root)
    written = [write_plots(frame, declared(made, plots=(spec,)), tmp_path / name) for name in ("one", "two")]
    assert [path.name for path in written[0]] == [f"{spec.name}.{kind}" for kind in ("png", "pdf", "svg")]
    for one, two in zip(*written, strict=True):
        assert one.read_bytes() == two.read_bytes()
        assert len(one.read_bytes()) > 5000
    with Image.open(written[0][0]) as image:
        assert round(image.info["dpi"][0]) == DPI
        assert set(image.info) <= {"dpi"}
    assert b"CreationDate" not in written[0][1].read_bytes()


@pytest.mark.parametrize("spec", [EPOCHS, LOSS], ids=lambda spec: spec.name)
@pytest.mark.parametrize("stages", [("knn",), ("finetune", "linear", "knn")], ids=len)
def test_no_text_is_clipped_and_none_covers_another(made, spec, stages):
    title = "A title that is longer than a single panel is wide, as titles of figures often are"
    figure = drawn(made, spec.model_copy(update={"stages": stages, "title": title}))
    renderer = figure.canvas.get_renderer()
    width, height = figure.canvas.get_width_height()
    texts = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in texts]
    shown = [(text, box) for text, box in boxes if _on_an_axis(text, box, figure)]
    assert len(shown) > 10
    for text, box in shown:
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height, text
    for number, (text, box) in enumerate(shown):
        for other, other_box in shown[number + 1 :]:
            assert not box.padded(-1).overlaps(other_box.padded(-1)), (text, other)


def _on_an_axis(text, box, figure):
    """Matplotlib keeps tick labels beyond the axis limits without drawing them: those are left out."""
    for ax in figure.axes:
        ticks = [*ax.xaxis.get_major_ticks(), *ax.yaxis.get_major_ticks()]
        of_this = [tick for tick in ticks if tick.label1.get_window_extent().bounds == box.bounds]
        if of_this:
            axis = ax.xaxis if of_this[0] in ax.xaxis.get_major_ticks() else ax.yaxis
            low, high = sorted(axis.get_view_interval())
            return low <= of_this[0].get_loc() <= high
    return True


def test_a_curve_shows_means_and_std_over_seeds(made):
    ax = drawn(made, EPOCHS).axes[1]
    (line,) = [
        line for line in ax.get_lines() if list(line.get_xdata()) == [5, 10, 20, 80] and line.get_marker() == "o"
    ]
    np.testing.assert_allclose(line.get_ydata(), [61.75, 63.0, 65.5, 80.5])
    bars = [bar for bar in ax.containers if len(bar.lines[2][0].get_segments()) == 4][0]
    half = [(top - bottom) / 2 for (_, bottom), (_, top) in bars.lines[2][0].get_segments()]
    np.testing.assert_allclose(half, np.sqrt(0.5))
    assert ax.get_xscale() == "log"
    assert [label.get_text() for label in ax.get_xticklabels()] == ["5", "10", "20", "80"]


def test_what_was_not_pretrained_is_a_dashed_level(made):
    figure = drawn(made, EPOCHS)
    levels = [
        {float(line.get_ydata()[0]) for line in ax.get_lines() if list(line.get_xdata()) == [0, 1]}
        for ax in figure.axes
    ]
    assert levels == [{88.5}, {60.5}, {65.5, 88.0}]
    for ax in figure.axes:
        dashed = [line for line in ax.get_lines() if list(line.get_xdata()) == [0, 1]]
        assert all(line.is_dashed() for line in dashed)


def test_lines_differ_without_colour(made):
    legend = drawn(made, EPOCHS).legends[0]
    looks = [(line.get_marker(), line.get_linestyle(), str(line._unscaled_dash_pattern)) for line in legend.get_lines()]
    names = [text.get_text() for text in legend.get_texts()]
    assert names[0] == "MixMAE · swin_nano" and names[-1] == "raw pixels" and len(names) == 10
    assert len(set(looks)) == len(looks)


def test_losses_have_a_panel_a_method_with_its_unit(made):
    figure = drawn(made, LOSS.model_copy(update={"sweeps": ()}))
    assert [ax.get_title() for ax in figure.axes] == ["MixMAE", "SimMIM", "MAE"]
    assert [ax.get_ylabel() for ax in figure.axes] == ["loss (squared error)", "loss (L1)", "loss (squared error)"]
    (line,) = [line for line in figure.axes[0].get_lines() if len(line.get_xdata()) == 80]
    np.testing.assert_allclose(line.get_ydata()[:2], [1.1, 0.8])


def test_a_running_pretraining_is_drawn_as_far_as_it_has_come(tmp_path):
    made = Made(tmp_path)
    pretrain = made.add(experiment("mixmae"))[0]
    run = RunFolder(tmp_path, "pretrain", pretrain.id)
    lines = (run.path / "metrics.jsonl").read_text().split("\n")
    (run.path / "metrics.jsonl").write_text("\n".join(lines[:7]) + '\n{"epoch": 8, "st')
    (run.path / "result.json").unlink()
    run.write("state", {"state": "stopped", "tries": 1})
    (line,) = drawn(made, LOSS).axes[0].get_lines()
    assert list(line.get_xdata()) == [1, 2, 3, 4, 5, 6, 7]


def test_sweeps_that_differ_in_more_than_the_seed_are_lines_of_their_own(made):
    for seed in range(2):
        for depth in (2, 4):
            method = {"name": "mixmae", "decoder_depth": depth}
            made.add(experiment(method, seed=seed, epochs=5), sweep="depth", knn=60 + depth)
    spec = EPOCHS.model_copy(update={"sweeps": ("depth",), "stages": ("knn",)})
    texts = [text.get_text() for text in drawn(made, spec).legends[0].get_texts()]
    assert texts == ["MixMAE · swin_nano · decoder depth 2", "MixMAE · swin_nano · decoder depth 4"]
    other = experiment("mixmae", epochs=5, evaluations={"knn": {"k": 5}})
    made.add(other, knn=50)
    with pytest.raises(MixedCell, match=r"recipe\.k"):
        drawn(made, EPOCHS)


def test_a_grid_without_finished_runs_says_so(tmp_path):
    made = Made(tmp_path)
    for planned in stage_jobs(experiment("mixmae"), FINGERPRINT):
        made.members.setdefault("main", set()).add((planned.stage, planned.id))
    for spec in (EPOCHS, LOSS):
        texts = [text.get_text() for text in drawn(made, spec).findobj(Text)]
        assert "no finished run" in texts
