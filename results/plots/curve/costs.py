"""What a pretraining costs, as the x of a curve: multiply-adds, or hours of its steps."""

import re
from collections.abc import Iterable

from mixmae.presentation.declaration import Declaration, StepHours
from mixmae.presentation.shown import Shown


def macs_of(run: Shown, declaration: Declaration) -> float | None:
    """The multiply-adds of its pretraining; None where there is none, or none known."""
    an_image, images = declaration.macs.get(run.costs.get("trained", ("", ""))), run.costs.get("pretrain_images")
    return float(images) * an_image if an_image is not None and images is not None else None


def step_hours_of(run: Shown, declaration: Declaration) -> float | None:
    """The hours of the steps of its pretraining by a record; None where there is none, or no record has them."""
    found = _step_hours(run, declaration)
    return None if found is None else found.hours


def step_hours_sources(runs: Iterable[Shown], declaration: Declaration) -> list[str]:
    """Where the hours of the runs' steps are from, each once."""
    found = [_step_hours(run, declaration) for run in runs]
    return list(dict.fromkeys(hours.source for hours in found if hours))


def _step_hours(run: Shown, declaration: Declaration) -> StepHours | None:
    return declaration.hours.get(run.costs.get("trained", ("", "")))


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
