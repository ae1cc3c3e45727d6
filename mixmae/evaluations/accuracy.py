"""Accuracy and cross-entropy of classifiers."""

import torch
from timm.utils import accuracy
from torch.nn import functional as F


def scores(logits: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """{"val_loss", "top1", "top5"} of logits (N, classes) and labels (N,); top-1 and top-5 in percent."""
    top1, top5 = accuracy(logits, labels, topk=(1, 5))
    return {"val_loss": F.cross_entropy(logits, labels).item(), **percents(top1, top5)}


def percents(top1: torch.Tensor, top5: torch.Tensor) -> dict[str, float]:
    """Rounded to what a million images can tell apart, without the tail that float32 adds."""
    return {"top1": round(top1.item(), 4), "top5": round(top5.item(), 4)}
