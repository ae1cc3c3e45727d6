"""What evaluations start from: an encoder, pretrained or random, and the samples of both splits."""

import logging
from pathlib import Path
from typing import Any

from mixmae.data.batches import Samples, open_split
from mixmae.data.draws import seed_everything
from mixmae.data.transforms import evaluation_transform
from mixmae.encoders.building import build_encoder
from mixmae.encoders.encoder import Encoder
from mixmae.experiment.jobs import EvaluationJob
from mixmae.experiment.stages import stages
from mixmae.files.records import sha256
from mixmae.methods.perturbation import perturb
from mixmae.runs.folder import RunFolder
from mixmae.weights.description import about
from mixmae.weights.loading import load_encoder

log = logging.getLogger(__name__)


class NotReady(ValueError):
    """What a job starts from is not there."""

    cause = "dependency"


def encoder_of(job: EvaluationJob, run: RunFolder, drop_path: float, tables: str = "geometric") -> Encoder:
    """The job's encoder, its random weights drawn by (seed, "init") and moved as its `perturb` says, then those of what
    it starts from, if anything.

    tables: how relative position tables are resized, as of `mixmae.weights.resizing.fitted`. Raises NotReady where
    what it starts from is not done: nothing is ever evaluated from random weights instead.
    """
    assert job.encoder is not None, "no encoder for a job that looks at pixels alone"
    seed_everything(job.seed, "init")
    encoder = build_encoder(job.encoder, job.image_size, drop_path=drop_path)
    perturb(encoder, job.perturb)
    if job.weights is not None:
        _load_imported(encoder, job.weights, tables)
    elif job.start is not None:
        _load_run(encoder, RunFolder(run.root, *job.start), tables)
    return encoder


def _load_run(encoder: Encoder, start: RunFolder, tables: str) -> None:
    label = stages[start.stage].label
    state = (start.read("state") or {"state": "not started"})["state"]
    if state != "done" or not start.weights.exists():
        raise NotReady(f"its {label} {start.id} is not done (it is {state}); run that first")
    start.check(start.weights)
    config = start.read("config")
    if config is None:
        raise NotReady(f"{start.path / 'config.json'}: missing; copy the whole run folder, or plan it again")
    height, width = config["job"]["image_size"]
    load_encoder(encoder, start.weights, (height, width), tables)
    log.info("encoder of %s %s", label, start.id)


def _load_imported(encoder: Encoder, weights: Any, tables: str) -> None:
    """weights: the config of a method whose spec says that it `reads_weights`."""
    path = Path(weights.path)
    if sha256(path) != weights.sha256:
        raise ValueError(f"{path}: not the file that was planned (sha256 {weights.sha256}); plan again")
    load_encoder(encoder, path, about(path)[0].image_size, tables)
    log.info("encoder of %s", path.name)


def central_crops(job: EvaluationJob) -> tuple[Samples, Samples]:
    """The train split, and the one that is scored, under the central crop."""
    recipe: Any = job.recipe
    transform = evaluation_transform(job.image_size, recipe.eval_crop)
    splits = ("train", job.scored_split)
    train, val = (Samples(open_split(job.data, split), transform, job.seed) for split in splits)
    return train, val
