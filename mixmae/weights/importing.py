"""Turns an official checkpoint file into a weights file of ours."""

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
        result = imported(kind, checkpoint, None if document is None else plain(document), encoder_only)
    except WrongConfig as error:
        if document is None:
            raise ValueError(f"{path}: {error}") from None
        raise mark_of(document, error.field).error(error.what, error.field) from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    try:
        save(out, result.model, result.description, Origin(kind=kind, file=path.name, sha256=sha256(path)))
    except OSError as error:
        raise OSError(f"{out}: cannot be written: {error.strerror}") from None
    return result


def summary(result: Imported) -> list[str]:
    """Lists what became of the tensors."""
    size, encoder = result.description.image_size, result.description.encoder
    parameters = sum(parameter.numel() for parameter in result.model.parameters())
    lines = [
        f"{result.description.part}: {encoder.family}, {size[0]} x {size[1]} px, {parameters / 1e6:.2f} M parameters",
        f"{len(result.names)} tensors mapped, {len(result.recomputed)} recomputed, {len(result.left_out)} left out",
    ]
    for what, names in (("recomputed", result.recomputed), ("left out", result.left_out)):
        lines += [f"  {what}: {name}" for name in names]
    return lines
