"""No pretraining here: evaluations start from a weights file (no torch)."""

from typing import Annotated, Literal

from pydantic import Field

from mixmae.fields.identity import Recorded
from mixmae.methods.methods import MethodModel, MethodSpec


class ImportedConfig(MethodModel):
    """No pretraining here: evaluations start from a weights file that `mixmae weights import` or `export` wrote."""

    name: Literal["imported"] = "imported"
    path: Annotated[str, Recorded]
    """Path of the file."""
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    """Hash of the file; computed when the experiment is planned."""


class ImportedSpec(MethodSpec):
    name, label, order, colour = "imported", "imported", 5, 4
    config = ImportedConfig
    reads_weights = True


SPEC = ImportedSpec()
