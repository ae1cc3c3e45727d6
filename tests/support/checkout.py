"""Where the files lie that are not installed."""

from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
GOLDEN = CHECKOUT / "tests" / "golden"
"""Tensors from the official implementations."""
