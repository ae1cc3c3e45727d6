"""environment.json: what a run computes with, as far as it may change the last bits, and where.

Two machines are of one CPU type where vendor, family, model and stepping are the same, and the instructions that torch
takes there: then, with the same versions, threads and kernels, a run leaves the same bits. A model's name alone does
not tell, since clouds write "AMD EPYC" of several generations.
"""

import logging
import os
import platform
import re
import subprocess
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mixmae
from mixmae.experiment.plugins import origin_text, others
from mixmae.runs.folder import RunFolder
from mixmae.training.places import node
from mixmae.training.resources import Resources

if TYPE_CHECKING:
    import torch

    from mixmae.training.processes import Processes

log = logging.getLogger(__name__)

PACKAGES = ("torch", "timm", "numpy", "torchvision", "pillow", "pyarrow")
VARIABLES = re.compile(
    "ATEN_CPU_CAPABILITY|ONEDNN_.*|DNNL_.*|MKL_.*|KMP_.*|OMP_.*|OPENBLAS_.*|CUBLAS_WORKSPACE_CONFIG|NVIDIA_TF32_OVERRIDE"
)
"""Environment variables by which torch's libraries choose their kernels, or divide their work."""
NO_MATTER = {"host", "workers", "track", "earlier", "schema", "variables"}
"""What may be another without other bits; of the variables each is compared."""
OVERRULED = {"OMP_NUM_THREADS", "MKL_NUM_THREADS"}
"""Variables in whose place the run's own threads count."""
CPUINFO = Path("/proc/cpuinfo")
DRIVER = Path("/proc/driver/nvidia/version")


def record_environment(
    run: RunFolder, resources: Resources, processes: "Processes", plugins: list[dict[str, Any]]
) -> None:
    """Writes environment.json. An older one that differs is kept under "earlier"; what may change results is warned of,
    as are plug-ins that are not those of the plan: config.json says from now on which compute."""
    now = _environment(resources, processes) | {
        f"{plugin['kind']} {plugin['name']}": origin_text(plugin) for plugin in plugins
    }
    config = run.read("config") or {}
    changed = list(others(plugins, config.get("plugins", [])))
    for name, planned, origin in changed:
        log.warning("%s was planned as %s, is now %s", name, planned, origin)
    if changed:
        run.write("config", {**config, "plugins": plugins})
    before = run.recovered("environment")
    earlier = before.pop("earlier", [])
    before.pop("schema", None)
    if before and before != now:
        earlier = [*earlier, before]
        for name, was, is_now in _changes(before, now):
            log.warning("%s was %s, is now %s: the last bits may differ", name, was, is_now)
    run.write("environment", {**now, "earlier": earlier})


def _environment(resources: Resources, processes: "Processes") -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        "mixmae": mixmae.__version__,
        "commit": _commit(),
        "cpu": _cpu_name(),
        "cpu_type": cpu_type(),
        "variables": {name: value for name, value in sorted(os.environ.items()) if VARIABLES.fullmatch(name)},
        "host": node(),
        "threads": resources.threads,
        "workers": resources.workers,
        "checkpoint_activations": resources.checkpoint_activations,
        "compile_blocks": resources.compile_blocks,
        "track": list(resources.track),
        "processes": processes.count,
        "device": _device_name(processes.device),
        **_gpu_versions(processes.device),
    }


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yields (name, before, now) of what both say and say differently, where that may change the last bits. A version
    from before a field was recorded says nothing of it."""
    for name in sorted(now.keys() & before.keys() - NO_MATTER):
        if now[name] != before[name]:
            yield name, before[name], now[name]
    if (was := before.get("variables")) is None:
        return
    for name in sorted((was.keys() | now["variables"].keys()) - OVERRULED):
        if (pair := (was.get(name, "not set"), now["variables"].get(name, "not set")))[0] != pair[1]:
            yield name, *pair


def _commit() -> str | None:
    """Returns the commit of the checkout this runs from, with "-dirty" where files differ; None for an installed
    package."""
    checkout = Path(mixmae.__file__).parents[1]
    if not (checkout / ".git").exists():
        return None
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return answer.stdout.strip() or None


def cpu_type() -> str:
    """Such as "AuthenticAMD family 25 model 17 stepping 1, AVX512": vendor, family, model and stepping, as far as the
    system tells (else what Python's `platform` says of the processor), and the instructions that torch takes."""
    import torch

    found = _cpuinfo()
    words = [found["vendor_id"]] if "vendor_id" in found else []
    fields = (("cpu family", "family"), ("model", "model"), ("stepping", "stepping"))
    words += [f"{word} {found[field]}" for field, word in fields if field in found]
    named = " ".join(words) or platform.processor() or platform.machine()
    return f"{named}, {torch.backends.cpu.get_cpu_capability()}"


def _cpu_name() -> str:
    return _cpuinfo().get("model name") or platform.processor() or platform.machine()


def _cpuinfo() -> dict[str, str]:
    """What the system says of its first processor; nothing where there is no /proc/cpuinfo."""
    try:
        text = CPUINFO.read_text(encoding="utf-8")
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.partition("\n\n")[0].splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _device_name(device: "torch.device") -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def _gpu_versions(device: "torch.device") -> dict[str, Any]:
    """The CUDA that torch was built for; where the run has a GPU also cuDNN and the driver, None elsewhere."""
    import torch

    on_gpu = device.type == "cuda"
    return {
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if on_gpu else None,
        "driver": _driver() if on_gpu else None,
    }


def _driver() -> str | None:
    """The version of NVIDIA's kernel module; None where it does not say."""
    try:
        found = re.search(r"Kernel Module.*?\s(\d+(?:\.\d+)+)\s", DRIVER.read_text(encoding="utf-8"))
    except OSError:
        return None
    return found[1] if found else None
