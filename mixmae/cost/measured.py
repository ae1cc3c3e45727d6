"""Records of `mixmae bench step`: kept under ROOT/bench, and a few that come with this package (no torch).

Those of the package, measured.json, are of one thread of a shared virtual machine with two cores: a CPU's order of
magnitude. Of GPUs there is one, in float16, worked out from what others published and marked so: MAE's authors say of
their fine-tuning of ViT-B/16 its epochs, hours and GPUs. `mixmae bench step METHOD ENCODER --record` makes better ones.
"""

import json
import logging
import re
from datetime import date
from importlib import resources
from pathlib import Path

from mixmae.files.records import Damaged, read_json, write_json

log = logging.getLogger(__name__)


def keep(root: Path, result: dict) -> Path:
    """Writes what `mixmae.cost.step.step` returned, in place of an older record of the same; where it lies."""
    words = (result["method"], result["encoder"], f"{result['image_size']}px", f"ratio{result['ratio']}")
    how = (result["device"], result["precision"], f"batch{result['batch']}", f"threads{result['threads']}")
    name = re.sub(r"[^A-Za-z0-9.-]+", "_", "-".join((*words, *how)))
    path = root / "bench" / f"{name}.json"
    write_json(path, {**result, "measured": date.today().isoformat()})
    return path


def records(root: Path) -> list[dict]:
    """Those under `root`, then those of the package. A damaged one is left out with a warning."""
    found = []
    for path in sorted((root / "bench").glob("*.json")):
        try:
            found.append({**read_json(path), "of": path.name})
        except Damaged as error:
            log.warning("%s; measure it again with mixmae bench step --record", error)
    shipped = json.loads(resources.files("mixmae.cost").joinpath("measured.json").read_text("utf-8"))
    return found + [{**record, "of": "measured.json"} for record in shipped]


def processor() -> str:
    """What this machine's CPU calls itself."""
    try:
        named = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        named = None
    return named[1].strip() if named else "an unnamed CPU"
