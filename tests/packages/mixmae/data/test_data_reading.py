import errno
import io
import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mixmae.data import reading
from mixmae.data.reading import Unreadable, describe, read_rgb


def photo(width=24, height=16) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def stored(image: Image.Image, kind: str, **more) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **more)
    return file.getvalue()


def read(path, data: bytes) -> np.ndarray:
    path.write_bytes(data)
    image = read_rgb(path)
    assert image.mode == "RGB"
    return np.asarray(image)


# -------------------------------------------------------------------------------------------------- what stays the same


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_plain_images_are_what_pillow_converts_them_to(tmp_path, kind, mode):
    data = stored(photo().convert(mode), kind)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(read(tmp_path / "a", data), expected)


@pytest.mark.parametrize("kind", ["GIF", "JPEG2000", "TGA", "PCX", "ICO", "DDS", "SGI", "QOI", "AVIF", "ICNS"])
def test_other_formats_are_read(tmp_path, kind):
    if kind == "AVIF" and kind not in reading._formats():
        pytest.skip("this Pillow has no AVIF")
    image = photo(32, 32)
    found = read(tmp_path / "a", stored(image, kind))
    assert found.shape[2] == 3 and found.std() > 10


# --------------------------------------------------------------------------------------------------------------- modes


def test_transparency_is_laid_over_white(tmp_path):
    pixels = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 51]]], dtype=np.uint8)
    expected = [[[10, 20, 30], [255, 255, 255], [204, 204, 204]]]
    np.testing.assert_array_equal(read(tmp_path / "a", stored(Image.fromarray(pixels), "PNG")), expected)
    grey = Image.fromarray(pixels).convert("LA")
    assert read(tmp_path / "a", stored(grey, "PNG"))[0, 1].tolist() == [255, 255, 255]


def test_opaque_pixels_are_kept_exactly(tmp_path):
    rgba = photo().convert("RGBA")
    np.testing.assert_array_equal(read(tmp_path / "a", stored(rgba, "PNG")), np.asarray(photo()))


def test_a_transparent_colour_is_white(tmp_path):
    image = Image.new("RGB", (2, 1), (1, 2, 3))
    image.putpixel((1, 0), (9, 9, 9))
    assert read(tmp_path / "a", stored(image, "PNG", transparency=(1, 2, 3))).tolist() == [[[255] * 3, [9] * 3]]
    palette = photo().quantize(4)
    plain = np.asarray(palette.convert("RGB"))
    np.testing.assert_array_equal(read(tmp_path / "a", stored(palette, "PNG")), plain)
    found = read(tmp_path / "a", stored(palette, "PNG", transparency=2))
    shown = np.asarray(palette) != 2
    np.testing.assert_array_equal(found[shown], plain[shown])
    assert (found[~shown] == 255).all() and (~shown).any()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_is_scaled_not_clipped(tmp_path, kind):
    levels = np.array([[0, 128, 129, 255, 256, 257, 32767, 65535]], dtype=np.uint16)
    found = read(tmp_path / "a", stored(Image.fromarray(levels), kind))
    assert found[0, :, 0].tolist() == [0, 0, 1, 1, 1, 1, 127, 255]
    assert (found == found[..., :1]).all()


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_depths_without_a_range_are_refused(tmp_path, dtype):
    (tmp_path / "a.tif").write_bytes(stored(Image.fromarray(np.full((2, 2), 1e6, dtype=dtype)), "TIFF"))
    with pytest.raises(Unreadable, match=r"a\.tif: cannot .* has no fixed range; store it with 8 or 16 bits"):
        read_rgb(tmp_path / "a.tif")


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_is_converted(tmp_path, kind):
    image = Image.new("RGB", (16, 16), (200, 30, 60)).convert("CMYK")
    found = read(tmp_path / "a", stored(image, kind))
    assert np.abs(found.astype(int) - (200, 30, 60)).max() <= 3


def test_lab_and_one_bit_images(tmp_path):
    lab = Image.merge("LAB", [Image.new("L", (2, 2), level) for level in (255, 128, 128)])
    assert read(tmp_path / "a", stored(lab, "TIFF")).min() > 250
    assert read(tmp_path / "a", stored(Image.new("1", (2, 2), 1), "PNG")).tolist() == [[[255] * 3] * 2] * 2


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame(tmp_path, kind):
    first, second = Image.new("RGB", (8, 8), (255, 0, 0)), Image.new("RGB", (8, 8), (0, 0, 255))
    more = {"lossless": True} if kind == "WEBP" else {}
    found = read(tmp_path / "a", stored(first, kind, save_all=True, append_images=[second], **more))
    assert (found == (255, 0, 0)).all()


# --------------------------------------------------------------------------------------------------------- orientation


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(tmp_path, kind, orientation):
    turned = {
        1: lambda x: x,
        2: lambda x: x[:, ::-1],
        3: lambda x: x[::-1, ::-1],
        4: lambda x: x[::-1],
        5: lambda x: x.transpose(1, 0, 2),
        6: lambda x: np.rot90(x, -1),
        7: lambda x: np.rot90(x, 2).transpose(1, 0, 2),
        8: lambda x: np.rot90(x, 1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    more = {"lossless": True} if kind == "WEBP" else {}
    plain = read(tmp_path / "a", stored(photo(), kind, **more))
    found = read(tmp_path / "a", stored(photo(), kind, exif=exif, **more))
    np.testing.assert_array_equal(found, turned[orientation](plain))
    assert describe(tmp_path / "a") == (kind, "RGB", found.shape[1::-1])


def test_damaged_exif_leaves_the_pixels(tmp_path):
    data = stored(photo(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12")
    np.testing.assert_array_equal(read(tmp_path / "a", data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


# ---------------------------------------------------------------------------------------------------------- unreadable


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"", "no known image format"),
        (b"<html>", "no known image format"),
        (stored(photo(), "JPEG")[:300], "truncated"),
    ],
)
def test_bad_files_are_named_with_a_reason(tmp_path, data, reason):
    (tmp_path / "bad.jpg").write_bytes(data)
    with pytest.raises(Unreadable, match=rf"bad\.jpg: cannot be read as an image \((?i:.*{reason})"):
        read_rgb(tmp_path / "bad.jpg")


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(Unreadable, match=r"a\.png: cannot be read as an image \(No such file"):
        read_rgb(tmp_path / "a.png")
    with pytest.raises(Unreadable, match="cannot be read as an image .Is a directory"):
        read_rgb(tmp_path)


def test_decompression_bombs_are_refused(tmp_path, monkeypatch):
    """Between the limit and twice the limit Pillow only warns."""
    (tmp_path / "bomb.png").write_bytes(stored(Image.new("1", (150, 100)), "PNG"))
    for limit in (10_000, 5_000):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(Unreadable, match=r"bomb\.png: .*exceeds limit of"):
            read_rgb(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 15_000)
    assert read_rgb(tmp_path / "bomb.png").size == (150, 100)


def test_no_image_starts_a_program(tmp_path):
    (tmp_path / "a.jpg").write_bytes(stored(photo(), "EPS"))
    with pytest.raises(Unreadable, match="no known image format"):
        read_rgb(tmp_path / "a.jpg")


def test_errors_of_the_file_system_do_not_count_as_bad_files(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(stored(photo(), "PNG"))

    def fails(*_, **__):
        raise OSError(errno.EIO, "Input/output error")

    waits = []
    monkeypatch.setattr("time.sleep", waits.append)
    monkeypatch.setattr(Image.Image, "load", fails)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fails)
    with pytest.raises(OSError, match=r"the file system fails; try again\): '.*a\.png'"):
        read_rgb(tmp_path / "a.png")
    assert waits == [1, 2, 4, 8]


ORIGINALS = [
    *(stored(photo(), kind) for kind in ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM", "TGA", "ICO", "JPEG2000", "SGI")),
    stored(photo().quantize(16), "GIF"),
    stored(photo().convert("RGBA"), "PNG"),
    stored(photo().convert("CMYK"), "JPEG"),
    stored(Image.fromarray(np.arange(256, dtype=np.uint16).reshape(16, 16) * 257), "PNG"),
    stored(photo(), "TIFF", compression="tiff_lzw"),
    stored(photo(), "JPEG", progressive=True),
]


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_damaged_images_are_read_or_refused_by_name(tmp_path_factory, data):
    """Bytes changed and ends cut off: an RGB image or Unreadable, never another error, never a warning."""
    original = bytearray(data.draw(st.sampled_from(ORIGINALS)))
    for _ in range(data.draw(st.integers(0, 8))):
        place = data.draw(st.integers(0, min(len(original), 400) - 1) | st.integers(0, len(original) - 1))
        original[place] = data.draw(st.integers(0, 255))
    kept = data.draw(st.just(len(original)) | st.integers(0, len(original)))
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(original[:kept])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            assert read_rgb(path).mode == "RGB"
        except Unreadable as error:
            assert str(error).startswith(f"{path}: cannot be read as an image (")
            assert "\n" not in str(error)


def test_reading_imports_no_torch():
    code = "import sys, mixmae.data.reading; assert not {'torch', 'sklearn', 'timm'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
