"""The optimum of multinomial logistic regression with an L2 penalty."""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

TOLERANCE = 1e-7
"""Of the largest entry of the objective's gradient at what is taken for the optimum."""
ITERATIONS = 5000
HISTORY = 50
"""Pairs of steps and changes of the gradient by which L-BFGS knows the curvature."""


class NotConverged(ValueError):
    """The optimum was not reached; the message names the iterations, and what to write."""


def objective(head: nn.Linear, features: torch.Tensor, labels: torch.Tensor, weight_decay: float) -> torch.Tensor:
    """Mean cross entropy of (N, width) features and (N,) labels, plus weight_decay / 2 times the sum of the squared
    weights; the bias is not penalised. scikit-learn's LogisticRegression has the same optimum at
    C = 1 / (weight_decay N)."""
    return F.cross_entropy(head(features), labels) + weight_decay / 2 * head.weight.square().sum()


def fit(
    head: nn.Linear,
    features: torch.Tensor,
    labels: torch.Tensor,
    weight_decay: float,
    check_stop: Callable[[], None],
) -> int:
    """Moves `head` to the optimum of the `objective` and returns the iterations of L-BFGS that it took.

    torch's L-BFGS with a line search after Wolfe's strong conditions, on all features at once, in the type of `head`
    and of the features, which is to be float64; nothing is drawn at random. check_stop: called whenever the objective
    is computed. Raises NotConverged.
    """
    images = len(labels)
    # The sum over images in place of the mean: torch takes no curvature from steps that change the gradient too little.
    optimizer = torch.optim.LBFGS(
        head.parameters(),
        max_iter=ITERATIONS,
        max_eval=4 * ITERATIONS,
        tolerance_grad=TOLERANCE * images,
        tolerance_change=0.0,
        history_size=HISTORY,
        line_search_fn="strong_wolfe",
    )

    def summed() -> float:
        check_stop()
        optimizer.zero_grad()
        value = objective(head, features, labels, weight_decay) * images
        value.backward()
        return value.item()

    optimizer.step(summed)
    summed()
    largest = max(parameter.grad.abs().max().item() for parameter in head.parameters() if parameter.grad is not None)
    iterations: int = optimizer.state[head.weight]["n_iter"]
    if not largest / images <= TOLERANCE:
        what = f"no optimum after {iterations} iterations of L-BFGS: the gradient is {largest / images:.1e}"
        raise NotConverged(f"{what}, not below {TOLERANCE:.0e}; write a larger weight_decay than {weight_decay:g}")
    return iterations
