"""Image folders with hostile files in them, fuzzed from real ones.

Each is read by Pillow and used, or replaced by the next image of the order and named; nothing else may happen.
"""

import io
import shutil
import signal
import struct
import tempfile
import warnings
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mixmae.data.batches import Samples, epoch_order, evaluation_keys, load_batches, open_split, training_keys
from mixmae.data.draws import seed_everything
from mixmae.data.image_folder.check import check
from mixmae.data.image_folder.spec import ImageFolderConfig
from mixmae.data.reading import Unreadable
from mixmae.experiment.experiment import Experiment
from mixmae.training.pretrain.spec import PretrainRecipe
from mixmae.training.pretrain.transform import pretraining_transform
from mixmae.training.resources import Resources
from mixmae.work.execution import execute
from support.tiny_jobs import experiment, never, planned_runs

IMAGES = 12
"""In the train split, hostile ones included."""
BATCH = 4
SEED = 7
HANG_S = 120
RECIPE = PretrainRecipe(epochs=1, batch=BATCH, base_lr=1e-3)


@dataclass(frozen=True)
class Hostile:
    """A file below a class's folder; content None: a folder that holds nothing."""

    path: str
    content: bytes | None


# --------------------------------------------------------------------------------------------------------------- files


@cache
def real() -> list[bytes]:
    """Digits in the formats that image folders hold, in several modes."""
    images = [image.resize((24, 20)) for image in map(digits().image, range(6))]
    stored = []
    for kind, mode, options in (
        ("JPEG", "RGB", {}),
        ("JPEG", "L", {"progressive": True}),
        ("JPEG", "CMYK", {}),
        ("PNG", "RGB", {}),
        ("PNG", "P", {"transparency": 0}),
        ("PNG", "RGBA", {}),
        ("PNG", "I;16", {}),
        ("WEBP", "RGB", {}),
        ("WEBP", "RGBA", {"lossless": True}),
        ("WEBP", "RGB", {"save_all": True, "append_images": images[:2]}),
        ("GIF", "P", {}),
        ("GIF", "P", {"save_all": True, "append_images": images[:2]}),
        ("TIFF", "RGB", {}),
        ("TIFF", "L", {"compression": "tiff_lzw"}),
        ("TIFF", "RGB", {"compression": "jpeg"}),
        ("TIFF", "1", {"compression": "group4"}),
        ("BMP", "RGB", {}),
        ("BMP", "P", {}),
    ):
        image = images[len(stored) % len(images)].convert("L" if mode == "I;16" else mode)
        if mode == "I;16":
            image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
        file = io.BytesIO()
        image.save(file, kind, **options)
        stored.append(file.getvalue())
    return stored


@cache
def digits():
    return open_split(experiment().data, "train")


def resized(content: bytes, width: int, height: int) -> bytes:
    """The file, its header declaring another size; checksums follow."""
    data = bytearray(content)
    if data.startswith(b"\x89PNG"):
        data[16:24] = struct.pack(">II", width, height)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    elif data.startswith(b"GIF"):
        data[6:10] = struct.pack("<HH", width, height)
    elif data.startswith(b"BM"):
        data[18:26] = struct.pack("<ii", width, height)
    elif data.startswith(b"RIFF"):
        data[26:30] = struct.pack("<HH", width & 0x3FFF, height & 0x3FFF)
    elif data.startswith(b"II*\0"):
        first = struct.unpack_from("<I", data, 4)[0]
        for entry in range(first + 2, first + 2 + 12 * struct.unpack_from("<H", data, first)[0], 12):
            if (tag := struct.unpack_from("<H", data, entry)[0]) in (256, 257):
                data[entry + 2 : entry + 12] = struct.pack("<HII", 4, 1, width if tag == 256 else height)
    elif data.startswith(b"\xff\xd8"):
        frame = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))
        data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def flipped(content: bytes, flips: list[tuple[int, int]], reach: int) -> bytes:
    data = bytearray(content)
    for place, bits in flips:
        data[place % min(len(data), reach)] ^= bits
    return bytes(data)


@st.composite
def contents(draw) -> bytes:
    """A real image, spoilt in one way or another, or none at all."""
    one, other = draw(st.sampled_from(real())), draw(st.sampled_from(real()))
    place = draw(st.integers(0, 10_000)) % (len(one) + 1)
    match draw(st.sampled_from(["whole", "flips", "head", "cut", "magic", "size", "joined", "zeros", "text", "bytes"])):
        case "whole":
            return one
        case "flips" | "head" as where:
            flips = draw(st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 255)), min_size=1, max_size=8))
            return flipped(one, flips, 64 if where == "head" else len(one))
        case "cut":
            return one[:place]
        case "magic":
            return other[: draw(st.integers(1, 16))] + one[draw(st.integers(0, 16)) :]
        case "size":
            side = st.sampled_from([0, 1, 33, 1500, 4000, 16_383, 65_535])
            return resized(one, draw(side), draw(side))
        case "joined":
            return one[:place] + other[draw(st.integers(0, 10_000)) % len(other) :]
        case "zeros":
            return one[:place] + bytes(draw(st.integers(1, 400))) + one[place:]
        case "text":
            return draw(st.text(max_size=60)).encode()
    return draw(st.binary(max_size=200))


CHARACTERS = st.characters(codec="utf-8", exclude_characters="/\0")
ODD = ("数字", "צילום", "صورة", "ชื่อ", "🙂", "é", "e\u0301", "a\nb", "\n", "%s{0}", "-rf", "'\"\\", "x" * 240)
STEMS = (st.text(CHARACTERS, min_size=1, max_size=20) | st.sampled_from(ODD)).filter(lambda stem: stem[0] != ".")
NAMES = st.tuples(STEMS, st.sampled_from([".jpg", ".JPEG", ".png", ".webp", ".gif", ".tif", ".bmp", ".tga", ".jp2"]))
FOLDERS = st.sampled_from([None, None, None, "folder.jpg"])


@st.composite
def hostile_files(draw) -> list[Hostile]:
    """One to three; as folders go, also one that is named like an image."""
    found = {}
    for _ in range(draw(st.integers(1, 3))):
        folder, name = draw(FOLDERS), "".join(draw(NAMES))
        if folder and draw(st.booleans()):
            found[folder] = Hostile(folder, None)
            continue
        path = f"{folder}/{name}" if folder else name
        if len(name.encode()) <= 255:
            found[path] = Hostile(path, draw(contents()))
    return list(found.values())


def lay(tree: Path, hostile: list[Hostile]) -> set[str]:
    """Fills `tree`: IMAGES images in train, fewer in val, the hostile ones in one class of both. Returns the paths of
    the hostile ones Pillow does not read, as CLASS/FILE."""
    bad = set()
    files = [found for found in hostile if found.content is not None]
    for split, count in (("train", IMAGES - len(files)), ("val", 2)):
        for number in range(count):
            path = tree / split / ("ab"[number % 2]) / f"good {number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            digits().image(10 + number).save(path)
        for found in hostile:
            path = tree / split / "a" / found.path
            (path if found.content is None else path.parent).mkdir(parents=True, exist_ok=True)
            if found.content is not None:
                path.write_bytes(found.content)
                if not pillow_reads(path):
                    bad.add(f"a/{found.path}")
    return bad


def pillow_reads(path: Path) -> bool:
    """Whether Pillow alone makes 8-bit colours of it; 32-bit greys have no range to make them of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(path) as image:
                image.load()
                image.convert("RGB")
                wide = image.mode == "F" or (image.mode == "I" and not 0 <= min(image.getextrema()) <= 65_535)
                return not wide and (image.mode != "I" or max(image.getextrema()) <= 65_535)
        except Exception:
            return False


# ------------------------------------------------------------------------------------------------------------- reading


@contextmanager
def no_hang():
    def ring(*_):
        raise TimeoutError(f"nothing came for {HANG_S} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(HANG_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def samples(tree: Path, split: str, limit: int) -> Samples:
    opened = open_split(ImageFolderConfig(path=str(tree), bad_files=limit), split)
    indices = list(range(len(opened))) if split == "train" else None
    return Samples(opened, pretraining_transform(RECIPE, (32, 32)), SEED, indices)


def epoch(tree: Path, limit: int, workers: int) -> tuple[list, set[str]]:
    """The batches of an epoch, and the unreadable images met."""
    train = samples(tree, "train", limit)
    batches = list(load_batches(train, training_keys(train.indices, BATCH, SEED, 1, 0), workers))
    return batches, {train.split.name(index) for index in train.unreadable}


def expected(tree: Path, bad: set[str]) -> list:
    """The batches that a training epoch must hold: each bad image replaced by the next good one of the order."""
    train = samples(tree, "train", 0)
    order = epoch_order(train.indices, SEED, 0).tolist()
    served = []
    for place, index in enumerate(order):
        taken = next(other for other in order[place:] + order if train.split.name(other) not in bad)
        image = train.split.image(taken)
        seed_everything(SEED, "augment", 0, index)
        served.append((train.transform(image), train.split.labels[taken]))
    chunks = [served[start : start + BATCH] for start in range(0, IMAGES, BATCH)]
    return [[torch.stack([image for image, _ in some]), torch.tensor([label for _, label in some])] for some in chunks]


def same(batches: list, wanted: list) -> bool:
    return len(batches) == len(wanted) and all(
        all(torch.equal(mine, theirs) for mine, theirs in zip(one, other, strict=True))
        for one, other in zip(batches, wanted, strict=True)
    )


def try_out(tree: Path, hostile: list[Hostile]) -> int:
    """Loads, evaluates and checks; returns how many of the hostile files cannot be read."""
    bad = lay(tree, hostile)
    wanted = expected(tree, bad)
    for workers in (0, 2):
        batches, named = epoch(tree, len(bad), workers)
        assert named == bad
        assert same(batches, wanted)
        if bad:
            with pytest.raises(Unreadable, match=f"more than data.bad_files: {len(bad) - 1} allows") as refused:
                epoch(tree, len(bad) - 1, workers)
            assert all(name in str(refused.value) for name in bad)
    val = samples(tree, "val", len(bad))
    measured = list(load_batches(val, evaluation_keys(list(range(len(val.split))), BATCH), 0))
    assert sum(len(images) for images, _ in measured) == len(val.split) - len(bad)
    found = check(ImageFolderConfig(path=str(tree), bad_files=len(bad)))
    for split in ("train", "val"):
        assert found["splits"][split]["unreadable"].keys() == {f"{split}/{name}" for name in bad}
    assert found["trainable"], found["problems"]
    return len(bad)


def fuzzed(given_files, long: bool, examples: int):
    """A test of the files hypothesis makes up; the short form tries the same ones every time."""
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    how = settings(
        max_examples=examples, deadline=None, derandomize=not long, database=None, suppress_health_check=slow
    )
    return lambda test: how(given(given_files)(test))


@contextmanager
def fresh_folder():
    folder = Path(tempfile.mkdtemp(prefix="hostile"))
    try:
        with no_hang():
            yield folder
    finally:
        shutil.rmtree(folder)


def test_every_hostile_file_is_used_or_replaced_and_named(rounds, report):
    tried = unreadable = 0

    @fuzzed(hostile_files(), rounds(False, True), rounds(60, 5000))
    def attempt(hostile):
        nonlocal tried, unreadable
        with fresh_folder() as tree:
            unreadable += try_out(tree, hostile)
        tried += sum(found.content is not None for found in hostile)

    attempt()
    assert tried > 60 and 0 < unreadable < tried
    report(
        f"images: {tried} hostile files tried, {unreadable} unreadable and named, {tried - unreadable} read and used, "
        "0 lost"
    )


def test_pretraining_among_hostile_files_ends_or_names_them(rounds, report):
    ended = {"done": 0, "failed": 0}

    @fuzzed(hostile_files(), rounds(False, True), rounds(4, 200))
    def attempt(hostile):
        with fresh_folder() as folder:
            bad = lay(folder / "data", hostile)
            for number, (limit, workers) in enumerate(
                [(len(bad), 0), (len(bad), 2), (len(bad) - 1, 2)][: 2 + bool(bad)]
            ):
                run = pretraining(folder / f"runs {number}", folder / "data", limit)
                state = execute(run, Resources(workers=workers), never)
                logged = (run.path / "log.txt").read_bytes().decode()
                assert state == ("done" if limit == len(bad) else "failed"), logged
                assert all(name in logged for name in bad)
                if state == "failed" and not any(broken(name) for name in bad):
                    reason = run.read("state")["reason"]
                    assert f"more than data.bad_files: {limit} allows" in reason
                    assert all(name in reason for name in bad), reason
                ended[state] += 1

    attempt()
    assert min(ended.values()) > 0
    report(f"images: {ended['done']} pretrainings among them done, {ended['failed']} refused by name as asked, 0 lost")


def broken(name: str) -> bool:
    """Whether a line ends within."""
    return name.splitlines() != [name]


def test_the_reason_of_a_failure_holds_all_of_a_name_with_a_line_break(tmp_path):
    lay(tmp_path / "data", [Hostile("two\nlines.jpg", b"no image")])
    run = pretraining(tmp_path / "runs", tmp_path / "data", 0)
    assert execute(run, Resources(), never) == "failed"
    reason = run.read("state")["reason"]
    assert "lines.jpg" in reason and "more than data.bad_files: 0 allows" in reason


def pretraining(root: Path, tree: Path, limit: int):
    small = {"epochs": 1, "batch": BATCH, "chunk": 2, "warmup_epochs": 0.0, "subset": {}}
    written = experiment(pretrain=small).model_dump()
    written["data"] = {"name": "image_folder", "path": str(tree), "bad_files": limit}
    return planned_runs(root, Experiment.model_validate(written))["pretrain"]
