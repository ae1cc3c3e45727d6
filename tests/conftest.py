from pathlib import Path

import torch

torch.set_num_threads(1)

GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser):
    help = "folder of tensors from the official implementations that tests/parity runs; default: tests/golden"
    parser.addoption("--golden", metavar="DIR", type=Path, default=GOLDEN, help=help)
    parser.addoption("--compiled", action="store_true", help="run tests/parity with compiled blocks, for some minutes")
