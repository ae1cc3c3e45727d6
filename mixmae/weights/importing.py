"""From an official checkpoint file to a weights file of ours."""

from pathlib import Path

from mixmae.fields.documents import load, mark_of, plain
from mixmae.files.records import sha256
from mixmae.weights.description import Origin
from mixmae.weights.files import read_checkpoint
from mixmae.weights.official import Imported, WrongConfig, imported
from mixmae.weights.stored import save


def import_file(path: Path, kind: str, out: Path, config: Path | None, encoder_only: bool) -> Imported:
    """Writes `out` from the checkpoint at `path`; see `mixmae.weights.official.imported`. config: a YAML file.

    Raises ValueError (of the config ConfigError, with its line) or FileNotFoundError, naming the file, and then leaves
    `out` as it was.
    """
    if out.is_dir() or out.resolve() == path.resolve():
        raise ValueError(f"{out}: {'a folder' if out.is_dir() else 'the file that is read'}; write another file's path")
    document = load(config) if config else None
    checkpoint = read_checkpoint(path)
    try:
        found = imported(kind, checkpoint, None if document is None else plain(document), encoder_only)
    except WrongConfig as error:
        if document is None:
            raise ValueError(f"{path}: {error}") from None
        raise mark_of(document, error.field).error(error.what, error.field) from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    try:
        save(out, found.model, found.description, Origin(kind=kind, file=path.name, sha256=sha256(path)))
    except OSError as error:
        raise OSError(f"{out}: cannot be written: {error.strerror}") from None
    return found


def summary(found: Imported) -> list[str]:
    """What became of the tensors, in lines."""
    size, encoder = found.description.image_size, found.description.encoder
    parameters = sum(parameter.numel() for parameter in found.model.parameters())
    lines = [
        f"{found.description.part}: {encoder.family}, {size[0]} x {size[1]} px, {parameters / 1e6:.2f} M parameters",
        f"{len(found.names)} tensors mapped, {len(found.recomputed)} recomputed, {len(found.left_out)} left out",
    ]
    for what, names in (("recomputed", found.recomputed), ("left out", found.left_out)):
        lines += [f"  {what}: {name}" for name in names]
    return lines
