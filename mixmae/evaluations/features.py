"""Features of whole splits under the central crop, from a frozen encoder or from the pixels themselves."""

from collections.abc import Callable
from typing import Any

import torch

from mixmae.data.batches import Samples, evaluation_keys, load_batches
from mixmae.training.session import Session

BATCH = 64


def pixels(images: torch.Tensor) -> torch.Tensor:
    """(B, 3, H, W) normalised -> (B, 3 * H * W)."""
    return images.flatten(1)


def frozen(encoder: Any, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
    """The pooled features of `encoder`: (B, 3, H, W) -> (B, width)."""
    return encoder.to(device).eval().requires_grad_(False).features


@torch.no_grad()
def extract(
    session: Session, features: Callable[[torch.Tensor], torch.Tensor], samples: Samples, indices: list[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, width) float32 features and (N,) labels of the samples at `indices`, in order, on every process; each takes
    whole batches. Raises Stopped."""
    processes, rows, labels = session.processes, [], []
    batches = processes.share(list(evaluation_keys(indices, BATCH)))
    for images, targets in load_batches(samples, batches, session.workers):
        if session.stop():
            break
        rows.append(features(images.to(session.device)).float())
        labels.append(targets.to(session.device))
    session.check_stop("extracting features")
    for unreadable in processes.all_gather_objects(samples.unreadable):
        samples.note(unreadable)
    return processes.all_gather(rows), processes.all_gather(labels)
