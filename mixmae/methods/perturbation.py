"""Models whose first weights are off by one unit in the last place, to measure what rounding does to a figure."""

import torch
from torch import nn

from mixmae.data.draws import generator


@torch.no_grad()
def perturb(model: nn.Module, number: int) -> None:
    """Moves every weight that is trained to the next number of its type, up or down; 0 leaves all as they are.

    Each element goes up (towards +inf) or down with probability 1/2, drawn by (number, "perturb NAME") with the name of
    its parameter in `model`: the same for every seed of a run, and other signs for each number. One step is one unit in
    the last place of float32, a relative 6e-8 to 1.2e-7; that of a zero is ±1.4e-45. Nothing is drawn from global
    generators, so that all later draws of a run are those of the unperturbed one. Buffers and parameters without
    gradient, such as fixed positions, stay.
    """
    if number == 0:
        return
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            up = torch.from_numpy(generator(number, f"perturb {name}").integers(2, size=parameter.shape) == 1)
            towards = torch.where(up.to(parameter.device), torch.inf, -torch.inf).to(parameter.dtype)
            parameter.copy_(torch.nextafter(parameter, towards))
