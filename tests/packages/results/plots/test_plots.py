"""Plots of every kind: files, the same bytes again, nothing clipped, one look."""

import itertools
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib import font_manager, rc_context
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle
from PIL import Image, ImageFont

from mixmae.experiment.jobs import stage_jobs
from mixmae.presentation.plots import PlotModel
from mixmae.presentation.row import method_labels
from results.plots.bars.spec import BarsPlot
from results.plots.curve.spec import CurvePlot
from results.plots.drawing import write_plots
from results.plots.files import save, svg_element
from results.plots.forest.spec import ForestPlot
from results.plots.loss.spec import LossPlot
from results.plots.theme import DPI, TEXT, look_of
from support.made_runs import Made, experiment
from support.plotted import Shown, boxes_of, planned_as_run, shown, texts_of

LOOKS = {method: look_of(method) for method in method_labels()}
COLOURS = {method: look.colour for method, look in LOOKS.items()}
REFERENCE = {"method": "mixmae", "encoder": "swin_nano", "pretrain_epochs": 20}
SPECS = [
    CurvePlot(name="epochs", title="Accuracy against epochs", x="pretrain_epochs"),
    CurvePlot(name="macs", title="Accuracy against multiply-adds", x="pretrain_macs"),
    LossPlot(name="loss", title="Pretraining losses", smoothing=0.5),
    BarsPlot(name="bars", title="Encoders", sweeps=("encoders",)),
    ForestPlot(name="forest", title="Differences", reference=REFERENCE),
]
CURVE, MACS, LOSS, BARS, FOREST = SPECS
TITLE = (
    "A title that is longer than a page is wide, as titles of figures that say it all are, and_has_words_of_" + 90 * "x"
)
LONG = "of_a_width_that_nobody_would_give_to_an_encoder"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Shown:
    made = Made(tmp_path_factory.mktemp("runs"))
    for seed in range(2):
        for epochs in (5, 10, 20, 80):
            made.add(
                experiment("mixmae", seed=seed, epochs=epochs), finetune=90 + seed, linear=60 + epochs / 4, knn=71.0
            )
        for method, encoder in itertools.product(
            ("mixmae", "simmim", "mae"), ("swin_nano", "twins_svt_nano", "pvt_nano")
        ):
            for sweep in ("main", "encoders"):
                figures = {"finetune": 89 + seed, "linear": 66 + seed, "knn": 69.5 + seed}
                made.add(experiment(method, encoder, seed), sweep, **figures)
        made.add(experiment("supervised", seed=seed), finetune=88 + seed, linear=60 + seed, knn=65 + seed)
        made.add(experiment("supervised", seed=seed, evaluations={"knn": {"features": "pixels"}}), knn=88.0)
    return shown(made)


@pytest.fixture(scope="module")
def wide(runs) -> Shown:
    """The same with encoders of long names."""
    rows = [{**row, "encoder.name": row["encoder.name"].replace("nano", LONG)} for row in runs.frame["row"]]
    frame = runs.frame.assign(row=rows)
    return Shown(frame, runs.members, more={**runs.more, **planned_as_run(frame)})


def of_wide(spec: PlotModel) -> PlotModel:
    reference = {**REFERENCE, "encoder": f"swin_{LONG}"} if spec.kind == "forest" else {}
    return spec.model_copy(update={"title": TITLE, "reference": reference})


def of_knn(spec: PlotModel) -> PlotModel:
    return spec if spec.selects is None else spec.model_copy(update={"stages": ("knn",)})


def named(spec: PlotModel) -> str:
    return spec.name


# ------------------------------------------------------------------------------------------------------------- files


@pytest.mark.slow
@pytest.mark.parametrize("spec", [CURVE, LOSS, BARS, FOREST], ids=named)
def test_files_are_there_and_the_same_bytes_again(runs, tmp_path, spec):
    declaration = runs.changed(plots=(of_knn(spec),)).declaration
    one = write_plots(runs.frame, declaration, tmp_path / "one")
    with rc_context({"font.size": 20, "axes.facecolor": "black", "svg.fonttype": "path", "savefig.dpi": 30}):
        two = write_plots(runs.frame, declaration, tmp_path / "two")
    assert [path.name for path in one] == [f"{spec.name}.{kind}" for kind in ("png", "pdf", "svg")]
    for path, again in zip(one, two, strict=True):
        assert path.read_bytes() == again.read_bytes()
        assert len(path.read_bytes()) > 5000
    with Image.open(one[0]) as image:
        assert round(image.info["dpi"][0]) == DPI
        assert set(image.info) <= {"dpi"}
        assert image.size[0] / DPI in (3.5, 7.0)
    assert b"CreationDate" not in one[1].read_bytes()
    assert b"date" not in one[2].read_bytes()


def test_only_the_formats_asked_for_are_written(runs, tmp_path):
    paths = save(runs.draw(CURVE), "epochs", tmp_path, ["svg"])
    assert paths == [tmp_path / "epochs.svg"] == list(tmp_path.iterdir())


# --------------------------------------------------------------------------------------------------------------- text


@pytest.mark.parametrize("spec", SPECS, ids=named)
def test_no_text_is_clipped_small_or_covers_another(runs, wide, spec):
    for figure in (runs.draw(spec), wide.draw(of_wide(spec))):
        boxes = boxes_of(figure)
        width, height = figure.canvas.get_width_height()
        assert len(boxes) > 10
        for text, box in boxes:
            assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height, text
            assert text.get_fontsize() >= TEXT == 8
        for (text, box), (other, other_box) in itertools.combinations(boxes, 2):
            assert not box.padded(-2).overlaps(other_box.padded(-2)), (text, other)


@pytest.mark.parametrize("spec", SPECS, ids=named)
def test_svg_text_is_text_within_the_figure(wide, spec):
    """Measured by another program than the one that laid it out: Pillow, in the font that comes with matplotlib."""
    root = ElementTree.fromstring(svg_element(wide.draw(of_wide(spec)), "wide", TITLE))
    width, height = (float(number) for number in root.get("viewBox").split()[2:])
    file = font_manager.findfont("DejaVu Sans")
    fonts = {size: ImageFont.truetype(file, size * 10) for size in (8, 9, 10)}
    texts = [element for element in root.iter(f"{SVG}text") if (element.text or "").strip()]
    assert len(texts) > 10 and "of figures" in " ".join(element.text for element in texts)
    for element in texts:
        style = element.get("style")
        long = fonts[int(float(re.search(r"font-size: ([\d.]+)px", style)[1]))].getlength(element.text) / 10
        before = {"middle": 0.5, "end": 1.0}.get((re.search(r"text-anchor: (\w+)", style) or [0, ""])[1], 0.0) * long
        moved = re.match(r"translate\(([-\d.]+) ([-\d.]+)\)", element.get("transform", ""))
        x, y = map(float, moved.groups() if moved else (element.get("x"), element.get("y")))
        if re.search(r"rotate\(-?90", element.get("transform", "")):
            assert y + before <= height + 0.5 and y + before - long >= -0.5, element.text
        else:
            assert x - before >= -0.5 and x - before + long <= width + 0.5, element.text
            assert 0 <= y <= height, element.text


@pytest.mark.parametrize("spec", SPECS, ids=named)
def test_a_scale_is_said_first(runs, spec):
    spec = of_knn(spec)
    at_scale = runs.changed(scale="laptop")
    assert f"Laptop scale: {spec.title}" in " ".join(texts_of(at_scale.draw(spec)))


@pytest.mark.parametrize("spec", SPECS, ids=named)
def test_a_grid_without_finished_runs_says_so(tmp_path, spec):
    made = Made(tmp_path)
    for planned in stage_jobs(experiment("mixmae"), lambda data: "f" * 16):
        made.members.setdefault("main", set()).add((planned.stage, planned.id))
    if spec.kind == "forest":
        with pytest.raises(ValueError, match="no setting has method: mixmae"):
            shown(made).draw(spec)
        return
    figure = shown(made).draw(spec.model_copy(update={"sweeps": ()}))
    assert {"no finished run", "no epoch yet"} & set(texts_of(figure))


def test_what_cannot_be_printed_is_shown_as_such(runs, tmp_path):
    spec = LOSS.model_copy(update={"title": "bell \x07\x1c and \ud800 and $x_1$"})
    (path,) = write_plots(runs.frame, runs.changed(plots=(spec,)).declaration, tmp_path, ["svg"])
    root = ElementTree.parse(path).getroot()
    shown_title = "bell \ufffd  and \ufffd and $x_1$"
    assert root.get("aria-label") == shown_title
    assert " ".join(shown_title.split()) in [element.text for element in root.iter(f"{SVG}text")]


# ---------------------------------------------------------------------------------------------------------------- svg


@pytest.mark.filterwarnings("error")
def test_letters_that_the_font_lacks_are_named_once(runs, tmp_path, caplog):
    spec = LOSS.model_copy(update={"title": "Losses 🐍 of 象"})
    write_plots(runs.frame, runs.changed(plots=(spec,)).declaration, tmp_path)
    assert caplog.messages == ["loss: the font of plots has no 象 🐍; PNG and PDF show boxes there"]
    assert "Losses 🐍 of 象" in (tmp_path / "loss.svg").read_text("utf-8")
    caplog.clear()
    write_plots(runs.frame, runs.changed(plots=(spec,)).declaration, tmp_path, ["svg"])
    assert not caplog.messages


def test_svgs_of_a_page_share_no_id_and_no_style(runs, tmp_path):
    labels = ['<script>"one" & two</script>', "two"]
    specs = [
        BARS.model_copy(update={"name": name, "title": title, "stages": ("knn",)})
        for name, title in zip(("a b", "c"), labels, strict=True)
    ]
    declaration = runs.changed(scale="laptop", plots=tuple(specs)).declaration
    pages = [path.read_text() for path in write_plots(runs.frame, declaration, tmp_path, ["svg"])]
    assert all(page.startswith("<svg ") and "<script" not in page for page in pages)
    roots = [ElementTree.fromstring(page) for page in pages]
    assert [root.get("id") for root in roots] == ["made-laptop-a-b-figure", "made-laptop-c-figure"]
    for root, page, label in zip(roots, pages, labels, strict=True):
        assert root.get("role") == "img" and root.get("aria-label") == f"Laptop scale: {label}"
        assert root[0].tag == f"{SVG}title" and root[0].text == f"Laptop scale: {label}"
        ids = {element.get("id") for element in root.iter() if element.get("id")}
        refers = set(re.findall(r"url\(#([^)]+)\)", page)) | set(re.findall(r'href="#([^"]+)"', page))
        assert refers and refers == ids - {root.get("id")}
        (sheet,) = root.iter(f"{SVG}style")
        selectors = re.findall(r"([^{}]+)\{", sheet.text)
        assert selectors and all(selector.strip().startswith(f"#{root.get('id')} ") for selector in selectors)
    ids = [[element.get("id") for element in root.iter() if element.get("id")] for root in roots]
    assert not set(ids[0]) & set(ids[1])
    assert all(len(set(found)) == len(found) for found in ids)


# --------------------------------------------------------------------------------------------------------------- look


def test_a_method_has_one_colour_in_all_figures(runs):
    curve, loss, bars, forest = map(runs.draw, (CURVE, LOSS, BARS, FOREST))
    mixmae = to_rgb(COLOURS["mixmae"])
    assert to_rgb(curve.legends[0].get_lines()[0].get_color()) == mixmae
    assert mixmae in {to_rgb(line.get_color()) for line in loss.axes[0].get_lines()}
    assert bars.axes[0].findobj(Rectangle)[0].get_facecolor()[:3] == mixmae
    assert mixmae in {to_rgb(line.get_color()) for line in forest.axes[0].get_lines()}


def test_every_method_has_a_look_of_its_own_without_colour():
    for part in ("colour", "dashes", "hatch"):
        assert len({getattr(look, part) for look in LOOKS.values()}) == len(LOOKS)


SEEN_BY = {
    "all": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
"""Linear RGB as it is seen without cones of a kind (Machado, Oliveira and Fernandes 2009, severity 1)."""


def linear(colour: str) -> np.ndarray:
    channels = np.array(to_rgb(colour))
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def lab(light: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of linear sRGB under D65."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(np.clip(to_xyz @ np.clip(light, 0, 1) / to_xyz.sum(1), 1e-4, 1))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("eyes", SEEN_BY)
def test_colours_of_methods_are_far_apart_for_all_eyes(eyes):
    seen = {method: lab(np.array(SEEN_BY[eyes]) @ linear(colour)) for method, colour in COLOURS.items()}
    for one, other in itertools.combinations(("mixmae", "simmim", "mae", "supervised", "imported"), 2):
        assert np.linalg.norm(seen[one] - seen[other]) > 20, (one, other)


def test_colours_stand_out_on_white_paper():
    for method, colour in COLOURS.items():
        luminance = linear(colour) @ [0.2126, 0.7152, 0.0722]
        assert 1.05 / (luminance + 0.05) > 3, method
