from pathlib import Path

GOLDEN = Path(__file__).parent / "golden"
"""Tensors from the official implementations."""
