"""Where runs were computed, by their environment.json (no torch, no pandas)."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mixmae.fields.identity import Key
from mixmae.fields.texts import many
from mixmae.files.records import Damaged
from mixmae.presentation.shown import Shown
from mixmae.runs.folder import RunFolder


def machine(environment: Mapping[str, Any]) -> str | None:
    """The GPU's name, or the CPU's with its type where that was recorded; all of them where the run went on elsewhere,
    None where nothing says."""
    named = (_device(ran) for ran in (*environment.get("earlier", ()), environment))
    return " and ".join(dict.fromkeys(str(name) for name in named if name)) or None


def _device(ran: Mapping[str, Any]) -> Any:
    if ran.get("device") != "cpu":
        return ran.get("device")
    name, kind = ran.get("cpu"), ran.get("cpu_type")
    return f"{name} ({kind})" if name and kind else name or kind


def computed_on(runs: Iterable[Shown]) -> list[str]:
    """A sentence that names the machines of runs that are done, and of their pretrainings. None where no run recorded
    its type of CPU: a model's name alone does not tell machines of other last bits apart."""
    keys: dict[Key, str] = {}
    for run in runs:
        if run.done:
            keys |= dict.fromkeys((run.key, *filter(None, [run.costs.get("trained")])), run.root)
    found = [ran for key, root in keys.items() if (ran := _environment(RunFolder(Path(root), *key)))]
    if not any("cpu_type" in ran for ran in found):
        return []
    counted = Counter(machine(ran) for ran in found)
    if len(counted) == 1:
        return [f"Computed on {next(iter(counted))}."]
    listed = "; ".join(f"{many(count, 'run')} on {name}" for name, count in counted.most_common())
    return [f"Computed on machines of several kinds, of other last bits each: {listed}."]


def _environment(run: RunFolder) -> dict[str, Any]:
    try:
        return run.read("environment") or {}
    except (Damaged, OSError):
        return {}
