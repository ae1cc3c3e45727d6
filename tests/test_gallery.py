"""The gallery: what is shown of a mix, against pictures put together unit by unit, and the files of a real model."""

import numpy as np
import pytest
import torch
from made_runs import FINGERPRINT, experiment, write_config, write_pretraining
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image
from safetensors.torch import save_file
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from mixmae.jobs import stage_jobs
from mixmae.mixmae import MixMAE
from mixmae.models import build_encoder, build_method
from mixmae.presentation import Declaration
from results.collect import collect
from results.gallery import GIVEN_BACK, OUTLINED, TITLES, compose, draw, restore, write_gallery
from results.report import write_report

SMALL = {"name": "mixmae", "decoder_depth": 1, "decoder_width": 32, "decoder_heads": 2}
MEAN, STD = np.array(IMAGENET_DEFAULT_MEAN), np.array(IMAGENET_DEFAULT_STD)


def finished(root, **fields):
    """A finished pretraining with untrained weights."""
    planned = stage_jobs(experiment(SMALL, **fields), FINGERPRINT)[0]
    run = write_pretraining(root, planned, 0.5)
    torch.manual_seed(0)
    model = build_method(planned.job.method, build_encoder(planned.job.encoder, planned.job.image_size))
    run.checkpoints.mkdir()
    save_file(model.state_dict(), run.weights)
    return run, planned.job, model


def picture(image):
    """(3, H, W) normalised -> (H, W, 3) in 0 … 1."""
    return np.clip(image.transpose(1, 2, 0) * STD + MEAN, 0, 1)


@pytest.mark.parametrize("normalised", [True, False])
def test_pictures_are_those_put_together_unit_by_unit(normalised):
    rng = np.random.default_rng(0)
    unit, rows, columns, count = 4, 2, 3, 4
    images = rng.normal(size=(count, 3, rows * unit, columns * unit))
    prediction = rng.normal(size=(2 * count, rows * columns, unit * unit * 3))
    shows_b = np.array([[True, False, False], [False, True, True]])
    restored = compose(images, prediction, shows_b, unit, normalised)
    for i in range(count // 2):
        a, b = images[i], images[count - 1 - i]
        mix, a_restored, b_restored = (np.empty_like(a) for _ in range(3))
        for y in range(rows):
            for x in range(columns):
                place = (slice(None), slice(y * unit, (y + 1) * unit), slice(x * unit, (x + 1) * unit))
                guesses = []
                for image, row in ((a, i), (b, count + i)):
                    guess = prediction[row, y * columns + x].reshape(unit, unit, 3).transpose(2, 0, 1)
                    if normalised:
                        guess = guess * np.sqrt(image[place].var(ddof=1) + 1e-6) + image[place].mean()
                    guesses.append(guess)
                mix[place] = b[place] if shows_b[y, x] else a[place]
                a_restored[place] = guesses[0] if shows_b[y, x] else a[place]
                b_restored[place] = b[place] if shows_b[y, x] else guesses[1]
        np.testing.assert_allclose(restored.mix[i], picture(mix))
        np.testing.assert_allclose(restored.a_restored[i], picture(a_restored))
        np.testing.assert_allclose(restored.b_restored[i], picture(b_restored))
        np.testing.assert_allclose(restored.a[i], picture(a))
        np.testing.assert_allclose(restored.b[i], picture(b))


def test_the_mix_shown_is_the_mix_encoded(tmp_path, monkeypatch):
    run, job, _ = finished(tmp_path)
    encoded = {}
    mix = MixMAE.mix

    def watched(self, units, layout):
        encoded["units"], encoded["order"] = mix(self, units, layout), layout.units
        return encoded["units"]

    monkeypatch.setattr(MixMAE, "mix", watched)
    restored = restore(run, job)
    shown = {name: value.numpy() for name, value in encoded.items()}
    assert restored.shows_b.sum() == 8 and restored.mix.shape == (4, 32, 32, 3)
    unit = restored.unit
    for place, number in enumerate(shown["order"]):
        y, x = divmod(int(number), 4)
        cut = restored.mix[:, y * unit : (y + 1) * unit, x * unit : (x + 1) * unit]
        values = shown["units"][:4, place].reshape(4, 16, 3, 4).swapaxes(2, 3).reshape(4, -1, 3)
        pixels = np.clip(values * STD + MEAN, 0, 1)
        np.testing.assert_allclose(np.sort(cut.reshape(4, -1, 3), 1), np.sort(pixels, 1), atol=1e-6)


def test_a_perfect_prediction_restores_both_images(tmp_path, monkeypatch):
    from mixmae.method import reconstruction_target

    run, job, _ = finished(tmp_path)

    def perfect(self, tokens, layout):
        return torch.cat([self.truth, self.truth.flip(0)])

    forward = MixMAE.forward

    def remembering(self, images, mask=None):
        self.truth = reconstruction_target(images, self.encoder.unit, self.normalised_target)
        output = forward(self, images, mask)
        assert output.loss < 1e-10
        return output

    monkeypatch.setattr(MixMAE, "forward_decoder", perfect)
    monkeypatch.setattr(MixMAE, "forward", remembering)
    restored = restore(run, job)
    np.testing.assert_allclose(restored.a_restored, restored.a, atol=1e-5)
    np.testing.assert_allclose(restored.b_restored, restored.b, atol=1e-5)
    assert np.abs(restored.a - restored.b).mean() > 0.1


def test_files_are_named_after_the_encoder_and_the_same_again(tmp_path):
    run, _, _ = finished(tmp_path)
    one, two = (write_gallery(tmp_path, run.id, tmp_path / name) for name in ("one", "two"))
    assert [path.name for path in one] == ["swin_nano.png", "swin_nano.pdf"]
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
    with Image.open(one[0]) as image:
        assert min(image.size) > 1000


def test_columns_are_labelled_and_nothing_is_clipped(tmp_path):
    run, job, _ = finished(tmp_path)
    figure = draw(restore(run, job), "MixMAE", f"{OUTLINED}\n{GIVEN_BACK}")
    FigureCanvasAgg(figure).draw()
    width, height = figure.canvas.get_width_height()
    texts = [*figure.texts, *(ax.title for ax in figure.axes[: len(TITLES)])]
    assert [text.get_text() for text in texts[2:]] == list(TITLES)
    assert texts[0].get_text() == "MixMAE" and texts[1].get_text().startswith("outlined")
    for text in texts:
        box = text.get_window_extent()
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height, text.get_text()
    units = [len(ax.patches) for ax in figure.axes]
    assert units == [16, 16, 16 + 16, 16 + 8, 16 + 8] * 4


@pytest.mark.parametrize("method", [{"images": 3, "ratio": 0.6}, {"fill": "zero"}, {"dual": False}])
def test_what_cannot_be_shown_is_refused(tmp_path, method):
    planned = stage_jobs(experiment({**SMALL, **method}, pretrain={"epochs": 2, "batch": 12, "base_lr": 1e-3}), "f")[0]
    write_config(tmp_path, planned)
    with pytest.raises(ValueError, match="does not restore two mixed images; write the id of a mixmae pretraining"):
        write_gallery(tmp_path, planned.id, tmp_path)


def test_an_unknown_or_unfinished_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no run pretrain/0123; write the id of a finished mixmae pretraining"):
        write_gallery(tmp_path, "0123", tmp_path)
    planned = stage_jobs(experiment(SMALL), FINGERPRINT)[0]
    write_config(tmp_path, planned)
    with pytest.raises(ValueError, match="has no final weights; finish it first"):
        write_gallery(tmp_path, planned.id, tmp_path)


def test_a_report_draws_the_gallery_once_for_the_same_weights(tmp_path):
    run, _, model = finished(tmp_path / "runs")
    ids = {"main": {("pretrain", run.id)}}

    def report():
        root = tmp_path / "runs"
        return write_report(collect(root), root, Declaration("made", members=ids), tmp_path / "report")

    assert report() == ["results", "gallery/swin_nano", "README.md", "index.html"]
    assert 'src="gallery/swin_nano.png"' in (tmp_path / "report" / "index.html").read_text()
    assert report() == []
    first = (tmp_path / "report" / "gallery" / "swin_nano.png").read_bytes()
    torch.nn.init.normal_(model.decoder.pred.weight)
    save_file(model.state_dict(), run.weights)
    assert report() == ["gallery/swin_nano"]
    assert (tmp_path / "report" / "gallery" / "swin_nano.png").read_bytes() != first


def test_images_in_folders_of_any_size_are_shown(tmp_path):
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            for number in range(2):
                Image.fromarray(rng.integers(0, 256, (50, 70, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    data = {"name": "image_folder", "path": str(tmp_path / "images")}
    run, job, _ = finished(tmp_path, data=data, image_size=(32, 48))
    restored = restore(run, job)
    assert restored.a.shape == (2, 32, 48, 3) and restored.shows_b.shape == (4, 6)
    write_gallery(tmp_path, run.id, tmp_path / "out")
