"""Where the files lie that are not installed."""

import re
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
GOLDEN = CHECKOUT / "tests" / "golden"
"""Tensors from the official implementations."""


def write_readme_plugin(folder: Path) -> None:
    """Writes `nearest_mean.py`, the plug-in that the README shows."""
    text = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    found = re.search(r"```python\n# nearest_mean.py\n(.*?)```", text, re.DOTALL)
    assert found
    (folder / "nearest_mean.py").write_text(found[1])
