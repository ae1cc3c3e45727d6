"""Accuracy and cross-entropy of classifiers, and the class that they predict of each image."""

import torch
from timm.utils import accuracy
from torch.nn import functional as F

TOP = (1, 5)


def scores(logits: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """{"val_loss", "top1", "top5"} of logits (N, classes) and labels (N,); top-1 and top-5 in percent."""
    return {"val_loss": F.cross_entropy(logits, labels).item(), **accuracies(logits, labels)}


def accuracies(logits: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """{"top1", "top5"} in percent, rounded to what a million images can tell apart, without the tail that float32
    adds."""
    top1, top5 = accuracy(logits, labels, topk=TOP)
    return {"top1": round(top1.item(), 4), "top5": round(top5.item(), 4)}


def predicted(logits: torch.Tensor) -> torch.Tensor:
    """(N, classes) -> (N,): the class that `accuracies` counts as the first, also where several are equal."""
    return logits.topk(min(max(TOP), logits.shape[1]), dim=1).indices[:, 0]
