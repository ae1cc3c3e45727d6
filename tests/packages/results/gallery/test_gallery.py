"""The gallery: what is shown of each method, against pictures put together cell by cell; where words and frames lie."""

from itertools import combinations

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.path import Path as Outline
from PIL import Image
from safetensors.torch import save_file
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from mixmae.data.draws import generator
from mixmae.encoders.building import build_encoder
from mixmae.experiment.jobs import stage_jobs
from mixmae.methods.building import build_method
from mixmae.methods.mixmae.model import members_of
from mixmae.methods.target import reconstruction_target
from mixmae.runs.folder import RunFolder
from mixmae.weights.description import Description
from results.gallery.gallery import COLOURS, draw_gallery, gallery_figure
from results.gallery.inputs import Images, Source
from results.gallery.reconstructions import GIVEN_BACK, GREY, WHITE, reconstructions
from results.plots.drawing import save
from support import small
from support.made_runs import FINGERPRINT, experiment, write_config, write_pretraining

BEIT = {**small.VIT, "style": "beit"}
MEAN, STD = np.array(IMAGENET_DEFAULT_MEAN), np.array(IMAGENET_DEFAULT_STD)
MIXING = [("mixmae", "swin"), ("mixmae_three", "swin"), ("mixmae_four", "pvt"), ("mixmae_single", "twins_svt")]
MIXING += [("mixmae_raw_target", "swin_shifted"), ("mixmae_plain_attention", "pvt")]
MASKING = [("mixmae_zero", "swin"), ("mixmae_token", "pvt"), ("mixmae_noise", "twins_svt"), ("mae", "pvt")]
MASKING += [("mae", small.VIT), ("simmim", "swin"), ("simmim_fine", "twins_svt"), ("simmim", BEIT)]
MASKED = {"mae": ("visible only", WHITE), "zero": ("masked by zeros", GREY), "noise": ("masked by noise", GREY)}


def made(method, encoder, label="a method", size=small.SIZE) -> Source:
    job = small.pretrain_job(method, encoder, size)
    description = Description(encoder=job.encoder, image_size=job.image_size, method=job.method)
    return Source("name", label, small.make_method(method, encoder, size), description)


def some_images(count, rows, size=small.SIZE) -> Images:
    pixels = np.random.default_rng(count).integers(0, 256, (count, *size, 3), dtype=np.uint8)
    return Images(tuple(Image.fromarray(image) for image in pixels), rows, "some images")


def watched(source, monkeypatch) -> dict:
    """What the method is called with, and what it answers."""
    seen, forward = {}, source.model.forward

    def watching(images, mask):
        output = forward(images, mask)
        seen.update(images=images.numpy(), mask=mask.numpy(), prediction=output.prediction.numpy(), loss=output.loss)
        return output

    monkeypatch.setattr(source.model, "forward", watching)
    return seen


def picture(image):
    """(3, H, W) normalised -> (H, W, 3) in 0 … 1."""
    return np.clip(image.transpose(1, 2, 0) * STD + MEAN, 0, 1)


def columns_of(source, images, seed=0):
    """By title, of the originals and of the source."""
    originals, own = reconstructions([source], images, seed)
    given_back = [column.note == GIVEN_BACK for column in own.columns if "reconstruction" in column.title]
    assert given_back == [source.normalised] * len(given_back)
    return {column.title.removesuffix("*" * source.normalised): column for column in (*originals.columns, *own.columns)}


def put_together(image, cells, guess):
    """`image`, where `cells` is False that of `guess(y, x, place)`: a square of pixels (3, side, side)."""
    side, found = image.shape[1] // cells.shape[0], image.copy()
    for (y, x), kept in np.ndenumerate(cells):
        place = (slice(None), slice(y * side, (y + 1) * side), slice(x * side, (x + 1) * side))
        if not kept:
            found[place] = guess(y, x, place)
    return found


def guess_of(units, image, columns, normalised):
    """Of units (units, unit² * 3): pixels by (row, column, channel), their mean and contrast given back."""

    def guess(y, x, place):
        true, unit = image[place], units[y * columns + x]
        side = true.shape[1]
        pixels = unit.reshape(side, side, 3).transpose(2, 0, 1)
        return pixels * np.sqrt(true.var(ddof=1) + 1e-6) + true.mean() if normalised else pixels

    return guess


# ----------------------------------------------------------------------------------------------------------- methods


@pytest.mark.parametrize(("rows", "count"), [(2, 7), (4, 4)])
@pytest.mark.parametrize(("method", "encoder"), MIXING)
def test_mixed_images_are_shown_as_put_together_cell_by_cell(monkeypatch, method, encoder, rows, count):
    source = made(method, encoder)
    seen, mixed = watched(source, monkeypatch), source.mixed
    columns = columns_of(source, some_images(count, rows))
    chunk, slots, normalised = seen["images"], seen["mask"], source.normalised
    assert (slots == source.model.draw_mask(len(chunk), generator(0, "gallery")).numpy()).all()
    shows = members_of(len(chunk), mixed)
    title = "mixed input" if mixed == 2 else f"mix of {mixed}"
    for row in range(rows):
        members = [chunk[shows[slot, row]] for slot in range(mixed)]
        mix = members[0]
        for slot, member in enumerate(members):
            mix = put_together(mix, slots != slot, lambda y, x, place, member=member: member[place])
        np.testing.assert_allclose(columns["original"].pictures[row], picture(members[0]), atol=1e-6)
        np.testing.assert_allclose(columns[title].pictures[row], picture(mix), atol=1e-6)
        assert (columns[title].shown[row] == slots).all()
        partners = {} if mixed > 2 or not source.model.dual else {"partner's reconstruction": 1}
        for name, slot in {"reconstruction": 0, **partners}.items():
            guess = guess_of(seen["prediction"][slot * len(chunk) + row], members[slot], slots.shape[1], normalised)
            expected = picture(put_together(members[slot], slots == slot, guess))
            np.testing.assert_allclose(columns[name].pictures[row], expected, atol=1e-5)
            assert (columns[name].shown[row] == np.where(slots == slot, slot, -1)).all()
        assert ("partner's reconstruction" in columns) == bool(partners)
    if mixed == 2:
        originals = [picture(chunk[shows[0, row]]) for row in range(rows)]
        assert np.abs(columns["partner"].pictures[: rows - 1] - originals[1:]).max() < 1e-6


@pytest.mark.parametrize(("method", "encoder"), MASKING)
def test_masked_images_are_shown_as_put_together_cell_by_cell(monkeypatch, method, encoder):
    source, rows = made(method, encoder), 3
    seen = watched(source, monkeypatch)
    columns = columns_of(source, some_images(5, rows))
    config = source.description.method
    title, shade = MASKED.get(vars(config).get("fill", config.name), ("masked input", GREY))
    assert list(columns) == ["original", title, "reconstruction"] and len(seen["images"]) == rows
    for row in range(rows):
        image, own = seen["images"][row], seen["mask"] if seen["mask"].ndim == 2 else seen["mask"][row]
        cells, answer = own == 0, seen["prediction"][row]
        if config.name == "simmim":
            expected = put_together(image, cells, lambda y, x, place, answer=answer: answer[place])
        else:
            expected = put_together(image, cells, guess_of(answer, image, cells.shape[1], source.normalised))
        np.testing.assert_allclose(columns["reconstruction"].pictures[row], picture(expected), atol=1e-5)
        side = image.shape[1] // cells.shape[0]
        left = np.where(np.kron(cells, np.ones((side, side)))[..., None] > 0, picture(image), shade)
        np.testing.assert_allclose(columns[title].pictures[row], left, atol=1e-6)
        for column in (columns[title], columns["reconstruction"]):
            assert (column.shown[row] == np.where(cells, 0, -1)).all()
    shared = seen["mask"].ndim == 2
    assert shared == (config.name != "simmim" and source.model.encoder.hierarchical)


@pytest.mark.parametrize(("method", "encoder"), MIXING + MASKING)
def test_a_perfect_prediction_gives_the_original(monkeypatch, method, encoder):
    source, truth = made(method, encoder), {}
    model = source.model
    seen = watched(source, monkeypatch)
    forward = model.forward

    def remembering(images, mask):
        """The target as the method's own loss has it: what is shown does not decide what is true."""
        if method.startswith("simmim"):
            truth["is"] = images
        else:
            truth["is"] = reconstruction_target(images, model.encoder.unit, source.normalised)
        if vars(model).get("dual"):
            truth["is"] = torch.cat([truth["is"][slot] for slot in members_of(len(images), source.mixed)])
        return forward(images, mask)

    monkeypatch.setattr(model, "forward", remembering)
    part = "decoder" if method == "mae" else "forward_decoder"
    perfect = torch.nn.Module() if method == "mae" else lambda *_: truth["is"]
    if method == "mae":
        perfect.forward = lambda *_: truth["is"]
    monkeypatch.setattr(model, part, perfect)
    columns = columns_of(source, some_images(5, 3))
    assert seen["loss"] < 1e-9
    pairs = [("original", "reconstruction"), ("partner", "partner's reconstruction")]
    shown = [pair for pair in pairs if pair[1] in columns]
    assert len(shown) == 1 + (source.mixed == 2 and model.dual)
    for true, restored in shown:
        np.testing.assert_allclose(columns[restored].pictures, columns[true].pictures, atol=1e-5)
    inputs = next(column for title, column in columns.items() if column.shown is not None)
    assert np.abs(inputs.pictures - columns["original"].pictures).mean() > 0.05


def test_the_mix_shown_is_the_mix_encoded(monkeypatch):
    source, encoded = made("mixmae_three", "swin"), {}
    mix = source.model.mix

    def watching(units, layout):
        encoded["units"], encoded["order"] = mix(units, layout), layout.units
        return encoded["units"]

    monkeypatch.setattr(source.model, "mix", watching)
    rows = 3
    pictures = columns_of(source, some_images(5, rows))["mix of 3"].pictures
    unit, patch = source.model.encoder.unit, source.model.encoder.patch_size
    for place, number in enumerate(encoded["order"].tolist()):
        y, x = divmod(number, small.SIZE[1] // unit)
        cut = pictures[:, y * unit : (y + 1) * unit, x * unit : (x + 1) * unit].reshape(rows, -1, 3)
        values = encoded["units"][:rows, place].numpy().reshape(rows, -1, 3, patch * patch).swapaxes(2, 3)
        pixels = np.clip(values.reshape(rows, -1, 3) * STD + MEAN, 0, 1)
        np.testing.assert_allclose(np.sort(cut, 1), np.sort(pixels, 1), atol=1e-6)


def test_seeds_draw_masks_and_noise():
    source, images = made("mixmae_noise", "swin"), some_images(4, 2)
    one, same, other = (columns_of(source, images, seed)["reconstruction"] for seed in (0, 0, 1))
    assert (one.pictures == same.pictures).all() and (one.shown == same.shown).all()
    assert (one.shown != other.shown).any()


def test_originals_are_shown_again_where_the_size_changes():
    sources = [made("mae", "swin", "A"), made("simmim", "pvt", "B"), made("mae", "pvt", "C", size=(64, 32))]
    groups = reconstructions(sources, some_images(3, 2, (80, 80)), 0)
    assert [group.label for group in groups] == ["", "A", "B", "", "C"]
    shapes = [column.pictures.shape for group in groups for column in group.columns]
    assert shapes == [(2, 32, 48, 3)] * 5 + [(2, 64, 32, 3)] * 3


def test_sources_of_one_label_are_told_apart_by_name():
    sources = [made("mae", "swin"), made("mae", "swin"), made("simmim", "swin", "B")]
    labels = [group.label for group in reconstructions(sources, some_images(2, 2), 0)]
    assert labels == ["", "a method · name", "a method · name", "B"]


# ----------------------------------------------------------------------------------------------------------- drawing


def drawn(sources, images):
    figure = draw_gallery(sources, images)
    FigureCanvasAgg(figure).draw()
    return figure


def squares(ax) -> dict[str, int]:
    """How many are drawn of each colour."""
    moves = {to_hex(patch.get_edgecolor()): patch.get_path().codes for patch in ax.patches}
    return {colour: int((codes == Outline.MOVETO).sum()) for colour, codes in moves.items()}


def test_what_the_encoder_was_shown_is_outlined_in_its_images_colour():
    sources = [made("mixmae", "swin", "A"), made("mae", small.VIT, "B")]
    figure = drawn(sources, some_images(4, 2))
    assert len(figure.axes) == 2 * (1 + 4 + 2)
    grid, blue, orange = to_hex("0.6"), COLOURS["blue"], COLOURS["orange"]
    expected = [{}, {}, {grid: 24, blue: 12, orange: 12}, {grid: 24, blue: 12}, {grid: 24, orange: 12}]
    expected += [{grid: 24, blue: 6}] * 2
    assert [squares(ax) for ax in figure.axes] == [found for found in expected for _ in range(2)]


@pytest.mark.parametrize("size", [(32, 48), (64, 32), (32, 128)])
def test_no_word_is_cut_off_or_lies_on_another(size):
    long = "MixMAE · " + "$x_MMMMM$" * 9 + " · 1600 epochs"
    sources = [made("mixmae", "swin", long, size), made("simmim", "swin", "S", size), made("mae", "pvt", "M", size)]
    figure = drawn(sources, some_images(4, 2, (80, 80)))
    width, height = figure.canvas.get_width_height()
    boxes = [text.get_window_extent() for text in figure.texts]
    boxes += [ax.get_window_extent() for ax in figure.axes]
    for text, box in zip(figure.texts, boxes, strict=False):
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height, text.get_text()
    overlapping = [
        (one, two)
        for one, two in combinations(boxes, 2)
        if min(one.x1, two.x1) - max(one.x0, two.x0) > 1 and min(one.y1, two.y1) - max(one.y0, two.y0) > 1
    ]
    assert not overlapping
    assert "$x_MMMMM$" in "".join(text.get_text() for text in figure.texts)


@pytest.mark.parametrize(
    ("methods", "said"),
    [
        (["mixmae"], ["blue of the original, orange of its partner", GIVEN_BACK]),
        (["mixmae_three", "mae"], ["orange and green of what is mixed with it", "white: hidden units", GIVEN_BACK]),
        (["simmim", "mae"], ["reconstructions keep", "grey: mask tokens", "white: hidden", GIVEN_BACK]),
        (["simmim", "mixmae_zero"], ["grey: mask tokens", "grey: zeros", GIVEN_BACK]),
        (["mixmae_raw_target"], ["orange of its partner"]),
        (
            ["mixmae_four", "mixmae"],
            ["blue of the original, orange, green and pink of what is mixed with it", GIVEN_BACK],
        ),
    ],
)
def test_the_caption_says_what_outlines_shades_and_contrast_mean(methods, said):
    size = (32, 128)
    sources = [made(method, "swin", method, size) for method in methods]
    words = " ".join(text.get_text() for text in reversed(drawn(sources, some_images(4, 2, size)).texts))
    assert [part for part in said if part not in words] == []
    assert (GIVEN_BACK in words) == any(GIVEN_BACK in part for part in said)
    assert ("orange" in words) == any(name.startswith("mixmae") and "zero" not in name for name in methods)


# ------------------------------------------------------------------------------------------------------------- files


def finished(root, method="mixmae", **fields):
    """A finished pretraining with untrained weights."""
    decoder = {} if method == "simmim" else {"decoder_depth": 1, "decoder_width": 32, "decoder_heads": 2}
    planned = stage_jobs(experiment({"name": method, **decoder}, **fields), lambda data: FINGERPRINT)[0]
    run = write_pretraining(root, planned, 0.5)
    torch.manual_seed(0)
    model = build_method(planned.job.method, build_encoder(planned.job.encoder, planned.job.image_size))
    run.checkpoints.mkdir()
    save_file(model.state_dict(), run.weights)
    return run, model


def test_files_are_the_same_again(tmp_path):
    run, _ = finished(tmp_path)
    one, two = (save(gallery_figure([run]), "gallery", tmp_path / name) for name in ("one", "two"))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
    with Image.open(one[0]) as image:
        assert min(image.size) > 1000


def test_a_run_that_is_not_there_or_not_done_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no run in .*0123: config.json is missing; write the id of a pretraining"):
        gallery_figure([RunFolder(tmp_path, "pretrain", "0123")])
    planned = stage_jobs(experiment("mixmae"), lambda data: FINGERPRINT)[0]
    write_config(tmp_path, planned)
    with pytest.raises(ValueError, match=f"pretrain/{planned.id}: is planned; finish it first$"):
        gallery_figure([RunFolder(tmp_path, "pretrain", planned.id)])


def test_runs_stand_side_by_side_in_one_figure(tmp_path):
    runs = [finished(tmp_path, method)[0] for method in ("mixmae", "simmim", "mae")]
    figure = gallery_figure(runs, rows=2)
    assert len(figure.axes) == 2 * (1 + 4 + 2 + 2)
    words = " ".join(text.get_text().replace("\xa0", " ") for text in reversed(figure.texts))
    for part in ("validation images of digits", "MixMAE", "SimMIM", "MAE · swin_nano · 20 epochs", "75 % hidden"):
        assert part in words
