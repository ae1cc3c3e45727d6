"""What stage jobs start from: an encoder, pretrained or random, and the samples of both splits."""

import logging
from pathlib import Path

from torch import nn

from mixmae.data.batches import Samples, open_split
from mixmae.data.draws import seed_everything
from mixmae.data.transforms import evaluation_transform
from mixmae.encoders.building import build_encoder
from mixmae.experiment.jobs import STAGE_JOB, KnnJob, LinearJob, PretrainJob
from mixmae.files.records import sha256
from mixmae.runs.cause import Cause
from mixmae.runs.folder import RunFolder
from mixmae.weights.description import about
from mixmae.weights.loading import load_encoder

log = logging.getLogger(__name__)


class NotReady(ValueError):
    """What a job starts from is not there."""

    cause = Cause.DEPENDENCY


def encoder_of(job, run: RunFolder, drop_path: float) -> nn.Module:
    """The job's encoder, its random weights drawn by (seed, "init"), then those of its pretraining where it has one.

    Raises NotReady where that pretraining is not done: nothing is ever evaluated from random weights instead.
    """
    seed_everything(job.seed, "init")
    encoder = build_encoder(job.encoder, job.image_size, drop_path=drop_path)
    if isinstance(job, PretrainJob):
        return encoder
    if job.weights is not None:
        _load_imported(encoder, job)
        return encoder
    if job.pretraining is None:
        return encoder
    pretraining = RunFolder(run.root, "pretrain", job.pretraining)
    state = (pretraining.read("state") or {"state": "not started"})["state"]
    if state != "done" or not pretraining.weights.exists():
        raise NotReady(f"its pretraining {job.pretraining} is not done (it is {state}); run that first")
    pretraining.check(pretraining.weights)
    config = pretraining.read("config")
    if config is None:
        raise NotReady(f"{pretraining.path / 'config.json'}: missing; copy the whole run folder, or plan it again")
    made_for = STAGE_JOB.validate_python(config["job"], strict=False).image_size
    load_encoder(encoder, pretraining.weights, made_for, _table_resize(job))
    log.info("encoder of pretraining %s", job.pretraining)
    return encoder


def _load_imported(encoder: nn.Module, job) -> None:
    path = Path(job.weights.path)
    if sha256(path) != job.weights.sha256:
        raise ValueError(f"{path}: not the file that was planned (sha256 {job.weights.sha256}); plan again")
    load_encoder(encoder, path, about(path)[0].image_size, _table_resize(job))
    log.info("encoder of %s", path.name)


def _table_resize(job) -> str:
    """Only fine-tuning may change the size of windows."""
    return vars(job.recipe).get("table_resize", "geometric")


def central_crops(job: LinearJob | KnnJob) -> tuple[Samples, Samples]:
    """The train and the val split under the central crop."""
    transform = evaluation_transform(job.image_size, job.recipe.eval_crop)
    train, val = (Samples(open_split(job.data, split), transform, job.seed) for split in ("train", "val"))
    return train, val
