"""What a pretraining costs, as the x of a curve: multiply-adds, or measured hours of its processes."""

import re
from collections.abc import Iterable

import pandas as pd

from mixmae.presentation.declaration import Declaration

COSTS = ("pretrain_macs", "pretrain_hours")

_UNITS = {"G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}


def with_macs(rows: pd.DataFrame, declaration: Declaration) -> pd.DataFrame:
    """The rows with `pretrain_macs`: the multiply-adds of their pretraining, NaN where there is none or none known."""
    an_image = [float(declaration.macs.get(("pretrain", id), "nan")) for id in rows["pretraining"]]
    return rows.assign(pretrain_macs=rows["pretrain_images"].astype("float64") * an_image)


def macs_unit(smallest: float) -> tuple[str, float]:
    """The letter and the size of the unit in which the smallest is one or more; G where it is less, or not known."""
    fitting = [(letter, size) for letter, size in _UNITS.items() if size <= smallest]
    return fitting[-1] if fitting else ("G", _UNITS["G"])


def device_labels(devices: Iterable[str]) -> dict[str, str]:
    """Short names: "NVIDIA H100 80GB HBM3" is H100, "cpu" is CPU, "one and other" are both. Where they would be alike
    they stay long."""
    devices = list(devices)
    short = {device: " and ".join(map(_short, device.split(" and "))) for device in devices}
    return {device: label if list(short.values()).count(label) == 1 else device for device, label in short.items()}


def _short(device: str) -> str:
    if device == "cpu":
        return "CPU"
    model = re.search(r"\bRTX \w+|\b[A-Z]{1,2}\d+[A-Z]*\b", device)
    return model[0] if model else device
