"""One image file to RGB, whatever format it is in (no torch)."""

import warnings
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from mixmae.files.retrying import OF_THE_MACHINE, retried

FIRST_TRIED = ("JPEG", "PNG", "WEBP")
NEEDS_OTHER_PROGRAMS = ("EPS",)
"""Pillow hands these to Ghostscript: no image may start a program."""
ORIENTATION = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each value of the EXIF tag Orientation (EXIF 2.32, section 4.6.4)."""
WHITE_16 = 65535


class Unreadable(ValueError):
    """The file is not an image that can be read, today or tomorrow; the message begins with its path."""

    cause = "bad_data"


def read_rgb(path: Path) -> Image.Image:
    """Reads the image at `path` as RGB, upright.

    Palettes are looked up, transparency is laid over white, 16-bit grey is scaled to 8 bits, CMYK and Lab converted,
    the EXIF orientation applied; of an animation the first frame. Raises Unreadable for what is missing, empty, cut
    off, no image, of a depth without a fixed range (32-bit), or larger than Pillow's limit for decompression bombs;
    OSError where the file system fails, also when tried again: the image is not to be passed over then.
    """
    return retried(lambda: _read_rgb(path))


def _read_rgb(path: Path) -> Image.Image:
    with _naming(path), path.open("rb") as file, _decoded(file) as image:
        return _upright(_rgb(image), image)


def describe(path: Path) -> tuple[str, str, tuple[int, int]]:
    """Reads all pixels, and returns (format such as "JPEG", Pillow's mode such as "CMYK", (width, height) upright)."""
    with _naming(path), path.open("rb") as file, _decoded(file) as image:
        assert image.format is not None, "known, as the image was opened"
        return image.format, image.mode, _upright(_rgb(image), image).size


class _naming:
    """A context in which every error becomes an Unreadable that names `path`, save errors of the machine.

    Damaged files make Pillow's decoders raise nearly anything (SyntaxError, struct.error, IndexError, …). Warnings,
    such as those of odd metadata, are silenced; that of a decompression bomb is an error.
    """

    def __init__(self, path: Path):
        self._path = path
        self._warnings = warnings.catch_warnings()

    def __enter__(self):
        self._warnings.__enter__()
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)

    def __exit__(self, kind, error, _):
        self._warnings.__exit__(kind, error, _)
        if error is None or not isinstance(error, Exception) or isinstance(error, MemoryError):
            return
        if isinstance(error, OSError) and error.errno in OF_THE_MACHINE:
            raise OSError(error.errno, f"{error.strerror} (the file system fails; try again)", str(self._path))
        raise Unreadable(f"{self._path}: cannot be read as an image ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    """Returns the error in one line, without the path, which Pillow repeats or replaces by a file object's address."""
    if isinstance(error, UnidentifiedImageError):
        return "no known image format"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _decoded(file) -> Image.Image:
    image = Image.open(file, formats=_formats())
    image.load()
    return image


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return (*FIRST_TRIED, *(name for name in Image.ID if name not in (*FIRST_TRIED, *NEEDS_OTHER_PROGRAMS)))


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return _of_16_bits(image)
    if image.mode == "F":
        raise ValueError("floating point grey has no fixed range; store it with 8 or 16 bits")
    if image.mode == "LAB":
        profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, *profiles, outputMode="RGB")
        assert converted is not None, "a new image, as none is changed in place"
        return converted
    if image.has_transparency_data:
        seen = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen).convert("RGB")
    return image.convert("RGB")


def _of_16_bits(image: Image.Image) -> Image.Image:
    """Scales 16-bit grey to 8 bits, where Pillow cuts off all above 255. Mode "I" holds 16-bit values in PGM files."""
    levels = np.asarray(image).astype(np.int64)
    if levels.min() < 0 or levels.max() > WHITE_16:
        raise ValueError("32-bit grey has no fixed range; store it with 8 or 16 bits")
    if isinstance(transparent := image.info.get("transparency"), int):
        levels = np.where(levels == transparent, WHITE_16, levels)
    return Image.fromarray(((levels * 255 + WHITE_16 // 2) // WHITE_16).astype(np.uint8)).convert("RGB")


def _upright(rgb: Image.Image, source: Image.Image) -> Image.Image:
    try:
        orientation = source.getexif().get(ORIENTATION)
    except Exception:  # damaged metadata says nothing, and the pixels are whole
        return rgb
    return rgb.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else rgb
