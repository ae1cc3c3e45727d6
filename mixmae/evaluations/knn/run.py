"""Stage job: weighted k nearest neighbours (Wu et al. 2018, section 3.4), on frozen features or on raw pixels."""

from typing import Any

import torch
from torch.nn import functional as F

from mixmae.data.batches import subset_of
from mixmae.evaluations.accuracy import accuracies, predicted
from mixmae.evaluations.kept_features import features_of
from mixmae.evaluations.predicting import keep_predictions
from mixmae.evaluations.start import central_crops
from mixmae.experiment.jobs import EvaluationJob
from mixmae.training.session import Outcome, Session

CHUNK = 256


def run(session: Session, job: EvaluationJob) -> Outcome:
    """Figures: top1, top5 (percent) of the val split; loss is None: votes are no probabilities. Raises Stopped, and
    ValueError where there are fewer than k training images."""
    recipe: Any = job.recipe
    train, val = central_crops(job)
    indices = subset_of(job.data, train.split, recipe.subset, job.seed)
    if recipe.k > len(indices):
        raise ValueError(f"k: {recipe.k} neighbours among {len(indices)} training images; write {len(indices)} or less")
    (known, known_labels), (asked, asked_labels) = features_of(session, job, train, indices, val)
    votes = vote(known, known_labels, asked, len(train.split.classes), recipe.k, recipe.temperature)
    found = accuracies(votes, asked_labels)
    session.report(epoch=0, epochs=0, loss=None, metric=found[session.main])
    kept = keep_predictions(session, job, val, predicted(votes))
    return Outcome({**found, "loss": None, "epochs": 0}, kept)


def vote(
    known: torch.Tensor, labels: torch.Tensor, asked: torch.Tensor, classes: int, k: int, temperature: float
) -> torch.Tensor:
    """(M, classes): the k known features of largest cosine each vote exp(cosine / temperature) for their label.

    known: (N, width), labels: (N,), asked: (M, width).
    """
    bank = F.normalize(known, dim=1).T
    votes = []
    for queries in asked.split(CHUNK):
        cosine, neighbours = (F.normalize(queries, dim=1) @ bank).topk(k, dim=1)
        weights = (cosine / temperature).exp()
        votes.append(
            torch.zeros(len(queries), classes, device=asked.device).scatter_add_(1, labels[neighbours], weights)
        )
    return torch.cat(votes)
