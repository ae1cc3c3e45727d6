"""What a weights file holds, so that its model can be built again (no torch here)."""

from typing import Annotated

from pydantic import Field

from mixmae.config import MethodConfig
from mixmae.encoders.config import EncoderConfig
from mixmae.fields import Model, Positive, Size


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
        """What it is, in words."""
        if self.method is not None:
            return f"{self.method.name} pretraining"
        return f"classifier of {self.classes} classes" if self.classes else "encoder"

    def alone(self) -> "Description":
        """The encoder without method and head."""
        return self.model_copy(update={"method": None, "classes": None})


class Origin(Model):
    """Where imported weights came from."""

    kind: str
    file: str
    """Name of the file, without its folder."""
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
