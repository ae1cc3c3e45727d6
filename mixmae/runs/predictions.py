"""What an evaluation predicted of each image, in a small file of its run folder (no torch).

`predictions.safetensors` holds two whole numbers an image, in the split's order: its label, and the class that was
predicted. Two bytes each, or one where there are few classes: 200 kB for the 50,000 images of ImageNet's val split. Its
metadata say how many consecutive images are made of one source.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixmae.files.records import Damaged, write_atomically
from mixmae.runs.folder import RunFolder

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, eq=False)
class Predictions:
    """labels, predicted: (N,) whole numbers of the images of a split, in its order. An image that could not be read was
    predicted as `NOT_READ`. copies: consecutive images that are made of one source."""

    labels: "np.ndarray[Any, Any]"
    predicted: "np.ndarray[Any, Any]"
    copies: int = 1

    @property
    def correct(self) -> "np.ndarray[Any, Any]":
        """(N / copies,) of how many of its images each source was predicted right; an image that could not be read was
        not."""
        found: np.ndarray[Any, Any] = (self.labels == self.predicted).reshape(-1, self.copies).sum(1)
        return found


NOT_READ = -1
"""The class of an image that could not be read; in the file the largest number of its type."""


def write_predictions(run: RunFolder, predictions: Predictions) -> Path:
    """Writes the file and returns its path. The same predictions are the same bytes."""
    import numpy as np
    from safetensors.numpy import save_file

    most = int(max(predictions.labels.max(initial=0), predictions.predicted.max(initial=0)))
    kind = np.min_scalar_type(most + 1)
    predicted = np.where(predictions.predicted == NOT_READ, np.iinfo(kind).max, predictions.predicted)
    columns = {"label": predictions.labels.astype(kind), "predicted": predicted.astype(kind)}
    metadata = {"copies": str(predictions.copies)}
    write_atomically(run.predictions, lambda temporary: save_file(columns, temporary, metadata))
    return run.predictions


def read_predictions(run: RunFolder) -> Predictions | None:
    """What a run that is done predicted; None where it kept no such file, or it was not copied. Raises Damaged."""
    import numpy as np
    from safetensors import SafetensorError, safe_open

    result = run.read("result") or {}
    if run.predictions.name not in result.get("files", {}) or not run.predictions.is_file():
        return None
    run.check_against(result, run.predictions)
    try:
        with safe_open(run.predictions, framework="numpy") as file:
            labels, predicted = (file.get_tensor(name) for name in ("label", "predicted"))
            copies = int(file.metadata()["copies"])
        read = predicted != np.iinfo(predicted.dtype).max
        return Predictions(labels.astype(np.int64), np.where(read, predicted.astype(np.int64), NOT_READ), copies)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise Damaged(f"{run.predictions}: cannot be read ({error})") from error
