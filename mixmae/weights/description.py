"""What a weights file holds, so that its model can be built again (no torch here).

Files of ours are safetensors with a JSON document in their metadata: {schema, description, origin}.
"""

import json
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from mixmae.encoders.families import EncoderConfig
from mixmae.fields.model import Model, Positive, Size
from mixmae.files.records import NewerSchema
from mixmae.methods.methods import MethodConfig

SCHEMA = 1
METADATA = "mixmae"
"""The key of a file's metadata under which the document lies."""


class Description(Model):
    """A pretraining method with its encoder, a classifier (`classes`), or an encoder alone (neither).

    `encoder` is resolved: windows and reduction ratios are numbers, for images of `image_size`.
    """

    encoder: EncoderConfig
    image_size: Size
    method: MethodConfig | None = None
    classes: Positive | None = None

    @property
    def part(self) -> str:
        """Name of what the file holds, such as "mae pretraining"."""
        if self.method is not None:
            return f"{self.method.name} pretraining"
        return f"classifier of {self.classes} classes" if self.classes else "encoder"

    def alone(self) -> "Description":
        """Returns the description of the encoder without method and head."""
        return self.model_copy(update={"method": None, "classes": None})


class Origin(Model):
    """The file that imported weights came from."""

    kind: str
    file: str
    """Name of the file, without its folder."""
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


def document(description: Description, origin: Origin | None) -> str:
    """Returns the JSON document of a file."""
    source = origin and origin.model_dump(mode="json")
    return json.dumps({"schema": SCHEMA, "description": description.model_dump(mode="json"), "origin": source})


def about(path: Path) -> tuple[Description, Origin | None]:
    """Reads the description in a file of ours. Raises ValueError where there is none, NewerSchema for newer files."""
    metadata = header(path).get("__metadata__", {}).get(METADATA)
    if metadata is None:
        raise ValueError(f"{path}: says nothing of its model; {_instead(path)}")
    written = json.loads(metadata)
    if written["schema"] > SCHEMA:
        raise NewerSchema(f"{path}: schema {written['schema']}, this version reads up to {SCHEMA}; upgrade mixmae")
    try:
        description = Description.model_validate_json(json.dumps(written["description"]))
        return description, written["origin"] and Origin.model_validate(written["origin"])
    except ValidationError as error:
        raise ValueError(f"{path}: its description cannot be read: {error}") from None


def _instead(path: Path) -> str:
    if run := run_of(path):
        return f"it is the run {run}'s, write it with what it is: mixmae weights export {run} --to safetensors"
    return f"import it first: mixmae weights import {path} --as KIND"


def run_of(path: Path) -> str | None:
    """Returns the id of the run in whose folder a weights file lies; None where it lies in none."""
    checkpoints = path.absolute().parent
    run = checkpoints.parent
    return run.name if checkpoints.name == "checkpoints" and (run / "config.json").is_file() else None


def header(path: Path) -> dict:
    """Reads a safetensors file's JSON header. Raises ValueError where there is none, FileNotFoundError for no file."""
    if path.is_dir():
        raise ValueError(f"{path}: a folder; write the path of a file in it")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; write the path of a weights file")
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if file.read(1) != b"{" or length > path.stat().st_size:
            raise ValueError(f"{path}: not a safetensors file; import it first: mixmae weights import {path} --as KIND")
        try:
            return json.loads(b"{" + file.read(length - 1))
        except ValueError:
            raise ValueError(f"{path}: a safetensors file whose header is damaged") from None
