"""What galleries are drawn of: sources from any checkpoint, images from any folder, and what is refused of either."""

import os

import numpy as np
import pytest
import torch
from PIL import Image

from mixmae.data.digits.source import Digits
from mixmae.training.resources import Resources
from mixmae.weights.export import export
from mixmae.weights.opened import open_run
from mixmae.weights.stored import save
from mixmae.work.execution import execute
from results.gallery.gallery import draw_gallery
from results.gallery.inputs import Images, open_images, open_source
from results.gallery.reconstructions import reconstructions
from results.plots.files import save as save_figure
from support.opened_models import opened
from support.program import mixmae
from support.tiny_jobs import StopAfter, experiment, never, planned_runs

SIDE = 32


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("gallery")


@pytest.fixture(scope="module")
def done(root):
    """A pretraining that is done, with a kNN evaluation that is not."""
    runs = planned_runs(root / "runs", experiment("mae", evaluations={"knn": {}}))
    assert execute(runs["pretrain"], Resources(), never) == "done"
    return runs


@pytest.fixture(scope="module")
def stopped(root):
    """A pretraining stopped within its second epoch, with two checkpoints."""
    run = planned_runs(root / "runs", experiment("mixmae"))["pretrain"]
    assert execute(run, Resources(), StopAfter(6)) == "stopped"
    return run


def same_weights(model, state) -> bool:
    own = model.state_dict()
    return own.keys() == state.keys() and all(torch.equal(own[name], state[name]) for name in own)


def saved_pictures(folder, pictures):
    for name, picture in pictures.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        picture.save(folder / name)
    return folder


def plain(*colours) -> dict[str, Image.Image]:
    return {f"{name}.png": Image.new("RGB", (SIDE, SIDE), colour) for name, colour in enumerate(colours)}


def first_pixels(images: Images) -> list[tuple]:
    return [picture.getpixel((0, 0)) for picture in images.pictures]


# ----------------------------------------------------------------------------------------------------------- sources


def test_a_finished_run_is_found_by_folder_and_by_weights(done, monkeypatch):
    run = done["pretrain"]
    monkeypatch.chdir(run.checkpoints)
    final = open_run(run).model.state_dict()
    for place in (run, run.path, run.weights, run.weights.relative_to(run.checkpoints)):
        source = open_source(place)
        assert same_weights(source.model, final) and not source.model.training
        assert source.name == run.id and source.label == "MAE · swin · 3 epochs · 75 % hidden"
        assert source.data.name == "digits" and source.mixed == 1 and source.normalised


def test_a_step_checkpoint_of_an_unfinished_run(stopped):
    path = sorted(stopped.checkpoints.glob("step-*.pt"))[-1]
    source = open_source(path)
    assert same_weights(source.model, torch.load(path, weights_only=True)["model"]) and not source.model.training
    assert source.label == "MixMAE · swin · 1 of 3 epochs (step 6) · 50 % hidden" and source.mixed == 2
    assert source.name == f"{stopped.id}-step-00000006"
    with pytest.raises(ValueError, match=rf"{stopped.id}: is stopped; finish it first, or write .*step-00000006\.pt$"):
        open_source(stopped)


def test_weights_files_exported_and_imported(done, tmp_path):
    run = done["pretrain"]
    path = export(open_run(run), "safetensors", tmp_path / "mine.safetensors", False).paths[0]
    (tmp_path / "link").symlink_to(path)
    for place in (path, tmp_path / "link"):
        source = open_source(place)
        assert same_weights(source.model, open_run(run).model.state_dict())
        assert source.name == place.stem and place.name in source.label and source.data is None
    with pytest.raises(ValueError, match="mine: does not say what it was trained on; name a folder with --images"):
        open_images([open_source(path)], None, 2, 0)
    assert open_images([open_source(path), open_source(run)], None, 2, 0).of == "validation images of digits"


def test_what_reconstructs_nothing_is_refused_by_name(done, tmp_path):
    for part, said in (("classifier", "classifier of 5 classes"), ("encoder", "encoder")):
        found, path = opened("pvt", part), tmp_path / f"{part}.safetensors"
        save(path, found.model, found.description)
        with pytest.raises(ValueError, match=rf"{part}\.safetensors: holds no pretraining \({said}\) and reconst"):
            open_source(path)
    knn, instead = done["knn"], done["pretrain"].id
    with pytest.raises(ValueError, match=f"knn/{knn.id}: is no pretraining .* its pretraining {instead}$"):
        open_source(knn)


def test_what_cannot_be_read_is_refused_by_name(stopped, tmp_path):
    path = sorted(stopped.checkpoints.glob("step-*.pt"))[-1]
    whole = path.read_bytes()
    (tmp_path / "step-00000006.pt").write_bytes(whole)
    with pytest.raises(ValueError, match=r"step-00000006\.pt: does not say of what model; leave it in its run's"):
        open_source(tmp_path / "step-00000006.pt")
    (tmp_path / "theirs.pth").write_bytes(whole)
    with pytest.raises(ValueError, match=r"theirs\.pth: not a safetensors file; import it first"):
        open_source(tmp_path / "theirs.pth")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "theirs.pt")
    with pytest.raises(ValueError, match=r"theirs\.pt: not a safetensors file; import it first"):
        open_source(tmp_path / "theirs.pt")
    (tmp_path / "renamed.pt").write_bytes(whole)
    with pytest.raises(ValueError, match=r"renamed\.pt: a step checkpoint by another name; call it step-00000006"):
        open_source(tmp_path / "renamed.pt")
    for kept in (0, 2, 500, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut.pt").write_bytes(whole[:kept])
        with pytest.raises(ValueError, match=r"cut\.pt: .*; a step checkpoint like this is damaged or cut"):
            open_source(tmp_path / "cut.pt")
    with pytest.raises(ValueError, match=r"no run in .*: config.json is missing"):
        open_source(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"none\.safetensors: no such file"):
        open_source(tmp_path / "none.safetensors")
    run = tmp_path / "pretrain" / stopped.id
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.json").write_bytes((stopped.path / "config.json").read_bytes())
    copy = run / "checkpoints" / path.name
    middle = len(whole) // 2
    copy.write_bytes(whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :])
    with pytest.raises(ValueError, match=r"step-00000006\.pt: not a checkpoint, .*; .* damaged or cut short"):
        open_source(copy)
    state = torch.load(path, weights_only=True)
    torch.save({**state, "format": 2}, copy)
    with pytest.raises(ValueError, match=r"step-00000006\.pt: a checkpoint of format 2, this version reads 3"):
        open_source(copy)
    torch.save({**state, "model": {}}, copy)
    with pytest.raises(ValueError, match=r"step-00000006\.pt: not the weights of the model in .*config\.json"):
        open_source(copy)


# ------------------------------------------------------------------------------------------------------------ images


def odd_images(folder):
    """One of each kind, and of each what is shown: a picture (32, 32, 3) of integers."""
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
    clear = np.zeros((SIDE, SIDE, 4), dtype=np.uint8)
    clear[: SIDE // 2] = (10, 20, 30, 255)
    corner = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)
    corner[:8, :8] = 255
    turned = Image.Exif()
    turned[0x0112] = 3
    palette = Image.fromarray(np.stack([grey // 64 * 64] * 3, -1)).quantize(8)
    deep = Image.fromarray((grey.astype(np.uint16) << 8) + 128)
    kinds = {
        "1 grey.png": (Image.fromarray(grey), np.stack([grey] * 3, -1)),
        "2 palette.gif": (palette, np.asarray(palette.convert("RGB"))),
        "3/alpha.webp": (Image.fromarray(clear), np.where(clear[..., 3:] > 0, clear[..., :3], 255)),
        "3/deep.tif": (deep, np.stack([np.round((grey.astype(float) * 256 + 128) / 257)] * 3, -1)),
        "4 turned.png": (Image.fromarray(corner), corner[::-1, ::-1]),
    }
    for name, (image, _) in kinds.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        more = {"exif": turned} if "turned" in name else {}
        image.save(folder / name, **({"lossless": True} if "webp" in name else {}), **more)
    (folder / "2 broken.png").write_bytes((folder / "1 grey.png").read_bytes()[:200])
    (folder / "notes.txt").write_text("no image")
    return [shown for _, shown in kinds.values()]


def test_a_folder_of_odd_images_is_shown_as_it_is_by_name(done, tmp_path, caplog):
    expected = odd_images(tmp_path / "odd")
    source = open_source(done["pretrain"])
    images = open_images([source], tmp_path / "odd", 9, 0)
    assert images.rows == 5 and images.of == "images in odd"
    assert [record.message for record in caplog.records if "broken" in record.message][0].endswith("; passed over")
    assert "notes" not in caplog.text
    originals = reconstructions([source], images, 0)[0].columns[0].pictures
    for found, wanted in zip(originals, expected, strict=True):
        np.testing.assert_allclose(found * 255, wanted, atol=1.01)


def test_of_more_images_the_seed_chooses(done, tmp_path):
    levels = [(level, 0, 0) for level in range(0, 160, 20)]
    folder = saved_pictures(tmp_path, plain(*levels))
    source = open_source(done["pretrain"])
    chosen = {seed: first_pixels(open_images([source], folder, 3, seed)) for seed in range(6)}
    assert all(len(found) == 3 and found == sorted(found) for found in chosen.values())
    assert chosen[2] == first_pixels(open_images([source], folder, 3, 2))
    assert len({tuple(found) for found in chosen.values()}) > 2
    assert first_pixels(open_images([source], folder, 8, 5)) == levels


def test_a_mix_takes_images_beyond_the_rows_or_starts_over(done, stopped, tmp_path):
    sources = [open_source(done["pretrain"]), open_source(sorted(stopped.checkpoints.glob("step-*.pt"))[-1])]
    folder = saved_pictures(tmp_path, plain("red", "lime", "blue"))
    for asked, rows, pictures in ((2, 2, 3), (3, 3, 3), (9, 3, 3)):
        images = open_images(sources, folder, asked, 0)
        assert (images.rows, len(images.pictures)) == (rows, pictures)
    for name in (1, 2):
        (folder / f"{name}.png").unlink()
    with pytest.raises(ValueError, match=rf"{sources[1].name} mixes 2 images into one; found 1 \(images in"):
        open_images(sources, folder, 4, 0)
    assert len(open_images(sources[:1], folder, 4, 0).pictures) == 1


def test_validation_images_are_of_many_classes(done):
    source = open_source(done["pretrain"])
    images = open_images([source], None, 10, 3)
    split = Digits(source.data, "val")
    known = {np.asarray(split.image(index)).tobytes(): split.labels[index] for index in range(len(split))}
    labels = [known[np.asarray(picture).tobytes()] for picture in images.pictures]
    assert sorted(labels) == list(range(10))
    again, other = (open_images([source], None, 10, seed) for seed in (3, 4))
    assert all(np.array_equal(a, b) for a, b in zip(images.pictures, again.pictures, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(images.pictures, other.pictures, strict=True))


def test_folders_without_an_image_are_refused(done, tmp_path):
    source = open_source(done["pretrain"])
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder; --images takes a folder of images"):
        open_images([source], tmp_path / "nowhere", 4, 0)
    with pytest.raises(ValueError, match=r"no images \(such as \.jpg"):
        open_images([source], tmp_path, 4, 0)
    (tmp_path / "empty.png").touch()
    with pytest.raises(ValueError, match="none of the images can be read"):
        open_images([source], tmp_path, 4, 0)


def test_of_an_oblong_image_the_middle_is_shown(done, tmp_path):
    ramp = np.broadcast_to(3 * np.arange(70, dtype=np.uint8)[None, :, None], (50, 70, 3))
    folder = saved_pictures(tmp_path, {"wide.png": Image.fromarray(ramp)})
    source = open_source(done["pretrain"])
    shown = reconstructions([source], open_images([source], folder, 1, 0), 0)[0].columns[0].pictures[0]
    middle = 10 + (np.arange(SIDE) + 0.5) * 50 / SIDE - 0.5
    np.testing.assert_allclose(shown[5, :, 1], 3 * middle / 255, atol=0.02)


# ----------------------------------------------------------------------------------------------------------- command


@pytest.mark.slow
def test_the_command_draws_any_sources_on_any_images(done, stopped, tmp_path, monkeypatch):
    folder = saved_pictures(tmp_path / "photos", plain("red", "lime", "blue"))
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    checkpoint = sorted(stopped.checkpoints.glob("step-*.pt"))[0]
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    sources = [done["pretrain"].id[:6], os.path.relpath(checkpoint, tmp_path)]
    asked = ["--images", "photos", "--rows", "4", "--seed", "1", "--out", "drawn"]
    words = ["--root", str(done["pretrain"].root), "results", "gallery", *sources, *asked]
    out, said = mixmae(*words, folder=tmp_path, check=0)
    assert "broken.jpg: cannot be read as an image" in said and "; passed over" in said
    opened = [open_source(done["pretrain"]), open_source(checkpoint)]
    figure = draw_gallery(opened, open_images(opened, folder, 4, 1), 1)
    here = save_figure(figure, "gallery", tmp_path / "here")
    assert out.splitlines() == [f"drawn/{path.name}" for path in here]
    assert all((tmp_path / "drawn" / path.name).read_bytes() == path.read_bytes() for path in here)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("0123", "no run under"),
        ("nowhere/step-00000001.pt", "nowhere/step-00000001.pt: no such file or folder\n"),
    ],
)
def test_the_command_refuses_what_is_no_source(tmp_path, source, said, called):
    _, error = called("--root", str(tmp_path), "results", "gallery", source, folder=tmp_path, check=2)
    assert said in error
