"""Our methods with the official implementations' weights compute what those compute.

`pytest tests/parity --golden DIR` runs every file of DIR by its metadata alone. With `-s` the worst errors are printed.
`pytest tests/parity --compiled` does so with compiled blocks, for all nine files in two to three minutes.
"""

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from golden_file import GoldenFile
from torch.nn.attention import SDPBackend, sdpa_kernel

from mixmae.training.compilation import compile_blocks

SCALARS = ("loss", "logits")
LIMITS = dict.fromkeys(SCALARS, 1e-5)
LIMIT = 1e-4
"""Of tokens, predictions, reconstructions, gradients and their norms."""

PATHS = {
    "fused": nullcontext,
    "unfused": lambda: sdpa_kernel(SDPBackend.MATH),
    "compiled": nullcontext,
}
"""Grouped and visible-only attention is the only path here; its calls take torch's fused kernel, or where a device has
none the plain one."""


def pytest_generate_tests(metafunc):
    folder: Path = metafunc.config.getoption("--golden")
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        pytest.exit(f"--golden {folder}: no .safetensors there", returncode=2)
    metafunc.parametrize("attention", ["compiled"] if metafunc.config.getoption("--compiled") else ["fused", "unfused"])
    metafunc.parametrize("path", files, ids=[path.stem for path in files])


def relative(ours: torch.Tensor, official: torch.Tensor) -> float:
    assert ours.shape == official.shape
    return float((ours.detach() - official).norm() / official.norm())


def test_outputs_and_gradients(path, attention):
    with PATHS[attention]():
        golden = GoldenFile(path)
        if attention == "compiled":
            compile_blocks(golden.model)
        answers = golden.answers()
        answers["loss"].backward()
    worst = _compare_outputs(golden, answers) | _compare_gradients(golden)
    print(f"\n{path.stem}, {attention}: " + ", ".join(f"{name} {error:.1e}" for name, error in worst.items()))


def _compare_outputs(golden: GoldenFile, answers: dict) -> dict[str, float]:
    wanted = golden.part("output")
    assert wanted.keys() & set(SCALARS), "the file holds neither loss nor logits"
    assert wanted.keys() <= answers.keys(), f"nothing here answers {sorted(wanted.keys() - answers.keys())}"
    errors = {name: relative(answers[name], official) for name, official in wanted.items()}
    for name, error in errors.items():
        assert error < LIMITS.get(name, LIMIT), f"{name}: {error:.2e}"
    return errors


def _compare_gradients(golden: GoldenFile) -> dict[str, float]:
    norms, gradients = golden.metadata["grad_norms"], golden.part("grad")
    worst = {"gradient norms": 0.0, "gradients": 0.0}
    # A gradient that vanishes, as that of a bias table of one-token windows, is left with float32's noise.
    zero = 1e-8 * max(norms.values())
    seen = set()
    for name, parameter in golden.model.named_parameters():
        official = golden.official[name]
        if official not in norms:
            # What the release keeps fixed may be trained here, as MAE's positions are in fine-tuning.
            assert not parameter.requires_grad, f"{name}: no gradient norm of {official} in the file"
            continue
        seen.add(official)
        norm = float(parameter.grad.norm())
        assert norm == pytest.approx(norms[official], rel=LIMIT, abs=zero), name
        worst["gradient norms"] = max(worst["gradient norms"], abs(norm - norms[official]) / (norms[official] + zero))
        if official in gradients:
            error = relative(parameter.grad, gradients[official])
            assert error < LIMIT, f"gradient of {name}: {error:.2e}"
            worst["gradients"] = max(worst["gradients"], error)
    assert seen == norms.keys()
    return worst
