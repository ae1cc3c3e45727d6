"""Our methods, loaded with the official implementations' weights, compute what those compute."""

import pytest
import torch
from golden import FILES, Golden, run


def relative(ours: torch.Tensor, official: torch.Tensor) -> float:
    return float((ours.detach() - official).norm() / official.norm())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_outputs_and_gradients(path):
    golden = Golden(path)
    outputs = run(golden)
    compared = [key.removeprefix("output.") for key in golden.tensors if key.startswith("output.")]
    assert compared
    for name in compared:
        limit = 1e-5 if name in ("loss", "logits") else 1e-4
        assert relative(outputs[name], golden.tensors[f"output.{name}"]) < limit, name
    outputs["loss"].backward()
    norms, seen = golden.meta["grad_norms"], set()
    for name, parameter in golden.model.named_parameters():
        if not parameter.requires_grad:
            continue
        official = golden.official_names[name]
        seen.add(official)
        assert float(parameter.grad.norm()) == pytest.approx(norms[official], rel=1e-4, abs=1e-9), name
        if f"grad.{official}" in golden.tensors:
            assert relative(parameter.grad, golden.tensors[f"grad.{official}"]) < 1e-4, name
    assert seen == norms.keys()
