"""Features of splits as evaluations of a frozen encoder take them: extracted once for all that see the same, and kept.

`ROOT/features/<digest>.safetensors` holds the features and labels of one split, and their sha256. The digest is over
all that decides their bits: the encoder's config and weights, the data's config and fingerprint, the images, their size
and crop, what computes (environment.json) and this package's code. So a file is never out of date; any may be deleted
at any time, which costs an extraction.
"""

import hashlib
import logging
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

import mixmae
from mixmae.data.batches import Samples
from mixmae.data.fingerprint import digest
from mixmae.data.sources import sources
from mixmae.encoders.encoder import Encoder
from mixmae.encoders.families import families
from mixmae.evaluations.features import extract, frozen, pixels
from mixmae.evaluations.start import encoder_of
from mixmae.experiment.jobs import EvaluationJob
from mixmae.fields.identity import identity
from mixmae.files.records import write_atomically
from mixmae.files.retrying import retried
from mixmae.training.session import Session

log = logging.getLogger(__name__)

Features = tuple[torch.Tensor, torch.Tensor]
"""(N, width) float32 features and (N,) labels"""
LARGEST = 10**9
"""Bytes of features that are kept: those of ImageNet's val split are 0.2 GB at a width of 1024, of a tenth of its train
split 0.5 GB; all of it would be 5.2 GB for every encoder."""
OF_NO_BITS = {"host", "workers", "track", "earlier", "schema", "commit"}
"""What environment.json says that changes no bits, or less surely than the code itself."""
SEAL = "sha256"


def features_of(
    session: Session, job: EvaluationJob, train: Samples, indices: list[int], val: Samples
) -> tuple[Features, Features]:
    """What the job's recipe calls `features`, of the train images at `indices` and of all images of the split that is
    scored, on every process: the same bits whether they are extracted or were kept.

    Kept are an encoder's, up to LARGEST, but not where an image could not be read, nor where the code of a plug-in
    takes part, which may change unseen. Raises what `encoder_of` raises, and Stopped.
    """
    recipe: Any = job.recipe
    splits = (("train", train, indices), (job.scored_split, val, list(range(len(val.split)))))
    if recipe.features == "pixels":
        seen, unseen = (extract(session, pixels, samples, wanted) for _, samples, wanted in splits)
        return seen, unseen
    encoder = encoder_of(job, session.run, drop_path=0.0)
    sees = _identity(session, job, encoder) if session.processes.leads else None
    features = frozen(encoder, session.device)

    def of(split: str, samples: Samples, wanted: list[int]) -> Features:
        path = _file(session.run.root, sees, split, wanted) if sees else None
        kept = session.processes.broadcast(_read(path) if path else None)
        if kept is not None:
            log.info("features of %s were kept: none extracted", split)
            # Copied, since matrix products may round otherwise where torch has not aligned the memory itself.
            return kept[0].to(session.device, copy=True), kept[1].to(session.device, copy=True)
        found = extract(session, features, samples, wanted)
        if path and not samples.unreadable and found[0].nbytes <= LARGEST:
            session.check_lease()
            _write(path, found)
        return found

    seen, unseen = (of(*split) for split in splits)
    return seen, unseen


def _identity(session: Session, job: EvaluationJob, encoder: Encoder) -> str | None:
    """Names all that decides the features besides the images; None where that is not known."""
    assert job.encoder is not None, "pixels have no encoder"
    config, environment = session.run.read("config"), session.run.read("environment")
    if config is None or environment is None:
        return None
    if families.is_plugged_in(job.encoder.family) or sources.is_plugged_in(job.data.name):
        return None
    recipe: Any = job.recipe
    return identity(
        job.data,
        fingerprint=config["data_fingerprint"],
        encoder=job.encoder.model_dump(mode="json"),
        image_size=job.image_size,
        eval_crop=recipe.eval_crop,
        weights=_sha256(encoder.state_dict()).hex(),
        environment={name: value for name, value in environment.items() if name not in OF_NO_BITS},
        code=_code(),
    )


@cache
def _code() -> str:
    """A hash of this package's modules."""
    return digest(path.read_bytes() for path in sorted(Path(mixmae.__file__).parent.rglob("*.py")))


def _file(root: Path, sees: str, split: str, indices: list[int]) -> Path:
    return root / "features" / f"{digest([f'{sees} {split} {indices}'.encode()])}.safetensors"


def _sha256(tensors: dict[str, torch.Tensor]) -> bytes:
    """Over names, types, shapes and values."""
    return hashlib.sha256(save({name: tensor.contiguous() for name, tensor in tensors.items()})).digest()


def _write(path: Path, found: Features) -> None:
    """Keeps them; where the disk does not take them, the log says so, and nothing is lost."""
    tensors = dict(zip(("features", "labels"), (tensor.cpu() for tensor in found), strict=True))
    content = save({**tensors, SEAL: torch.tensor(list(_sha256(tensors)), dtype=torch.uint8)})
    try:
        write_atomically(path, lambda temporary: temporary.write_bytes(content))
    except OSError as error:
        log.warning("features are not kept: %s", error)


def _read(path: Path) -> Features | None:
    """What was kept, on the CPU; None where nothing was, or, with a warning, where it is not what was written."""
    try:
        tensors = load(retried(path.read_bytes))
        if tensors.pop(SEAL).tolist() != list(_sha256(tensors)):
            raise ValueError("its sha256 is another")
        return tensors["features"], tensors["labels"]
    except FileNotFoundError:
        return None
    except (OSError, SafetensorError, LookupError, ValueError, RuntimeError) as error:
        log.warning("%s cannot be read (%s); its features are extracted anew", path, error)
        return None
