"""Keeping what an evaluation predicted of each image of the split that it is scored on."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mixmae.data.batches import Samples
from mixmae.data.splits import split_copies
from mixmae.experiment.jobs import EvaluationJob
from mixmae.runs.predictions import NOT_READ, Predictions, write_predictions
from mixmae.training.session import Session

log = logging.getLogger(__name__)


def keep_predictions(session: Session, job: EvaluationJob, samples: Samples, found: torch.Tensor) -> tuple[Path, ...]:
    """Writes the classes `found` (n,) of the n readable images of the split that is scored, those of `samples`, in its
    order, where this process leads; returns the files written: none where the job's recipe says so.

    Nothing is written, which the log says, where an image could be read at one time and not at another: then it is not
    known which image a row is of.
    """
    recipe: Any = job.recipe
    if not recipe.predictions or not session.processes.leads:
        return ()
    images = len(samples.split)
    read = np.array([index not in samples.unreadable for index in range(images)], dtype=bool)
    if read.sum() != len(found):
        log.warning("predictions are not kept: %d images were read of %d readable ones", len(found), read.sum())
        return ()
    classes = np.full(images, NOT_READ, dtype=np.int64)
    classes[read] = found.cpu().numpy()
    session.check_lease()
    labels, copies = np.asarray(samples.split.labels, dtype=np.int64), split_copies(job.data, job.scored_split)
    return (write_predictions(session.run, Predictions(labels, classes, copies)),)
