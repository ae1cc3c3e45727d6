"""A file system that is full."""

from pathlib import Path


def fill(ballast: Path, room: int) -> None:
    """Writes until the file system is full, then gives `room` bytes back."""
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                pass
        file.truncate(max(0, file.tell() - room))
