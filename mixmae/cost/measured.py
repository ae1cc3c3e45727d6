"""Records of `mixmae bench step`: those kept under ROOT/bench, and a few that come with the package (no torch).

The package's measured.json was measured on one thread of a shared virtual machine with two cores: a CPU's order of
magnitude. It has one record of a GPU, in float16, which is marked as derived and not measured: MAE's authors publish
epochs, hours and GPUs of their fine-tuning of ViT-B/16. `mixmae bench step METHOD ENCODER --record` adds better ones.
"""

import json
import logging
import re
from datetime import date
from importlib import resources
from pathlib import Path
from typing import Any

from mixmae.files.records import Damaged, read_json, write_json

log = logging.getLogger(__name__)


def keep(root: Path, result: dict[str, Any]) -> Path:
    """Writes a record that `mixmae.cost.step.step` returned, replacing an older one of the same; returns its path."""
    words = (result["method"], result["encoder"], f"{result['image_size']}px", f"ratio{result['ratio']}")
    how = (result["device"], result["precision"], f"batch{result['batch']}", f"threads{result['threads']}")
    name = re.sub(r"[^A-Za-z0-9.-]+", "_", "-".join((*words, *how)))
    path = root / "bench" / f"{name}.json"
    write_json(path, {**result, "measured": date.today().isoformat()})
    return path


def records(root: Path) -> list[dict[str, Any]]:
    """Returns the records under `root`, then those of the package. Leaves out damaged ones with a warning."""
    own = []
    for path in sorted((root / "bench").glob("*.json")):
        try:
            own.append({**read_json(path), "of": path.name})
        except Damaged as error:
            log.warning("%s; measure it again with mixmae bench step --record", error)
    shipped = json.loads(resources.files("mixmae.cost").joinpath("measured.json").read_text("utf-8"))
    return own + [{**record, "of": "measured.json"} for record in shipped]


def processor() -> str:
    """Returns the model name of this machine's CPU."""
    try:
        line = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        line = None
    return line[1].strip() if line else "an unnamed CPU"
