"""A run as one flat row: what every dotted path says of it (no torch, no pandas).

`method.*` and `pretrain.*` are of the pretraining that the run goes back to, `encoder.*`, `image_size`, `data.*`,
`seed` and `perturb` the run's own, `evaluation.*` its own recipe. `start` says from what it starts, and `method` what
its encoder was trained by: a method's name, or what stands in its place; `start.STAGE.*` is the recipe of a run between
those. What a run does not have is not there.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import PurePath
from typing import Any

from mixmae.experiment.jobs import EvaluationJob, PretrainJob, StageJob, start_of
from mixmae.experiment.stages import pretraining, stages
from mixmae.fields.identity import Key, canonical, completed, computed
from mixmae.methods.methods import MethodSpec, from_scratch, methods

Flat = dict[str, Any]
"""Values by dotted path; lists are tuples."""

RANDOM, PIXELS, UNKNOWN = "random init", "raw pixels", "unknown"
"""What stands in a method's place: a frozen encoder of random weights, no encoder, and a start that is missing."""


def chain_of(job: Mapping[str, Any], read: Callable[[Key], Mapping[str, Any] | None]) -> list[Mapping[str, Any]]:
    """The job, then those it goes back to, nearest first. read: the job of another run, None where it is missing."""
    chain, start = [job], start_of(job)
    while start is not None and (before := read(start)) is not None:
        chain.append(before)
        start = start_of(before)
    return chain


def row_of(chain: Sequence[Mapping[str, Any]]) -> Flat:
    """The row of the first of a chain of jobs, as `config.json` holds them; fields added since are at the value at
    which they change nothing."""
    chain = [completed(_model(job), job) for job in chain]
    own = chain[0]
    row: Flat = {name: own[name] for name in ("stage", "seed", "perturb")}
    row |= {"start": start_kind(own), "method": method_of(chain)}
    height, width = own["image_size"]
    row["image_size"] = height if height == width else (height, width)
    parts = {name: own.get(name) for name in ("data", "weights")} | {"evaluation": own["recipe"]}
    parts["encoder"] = own["encoder"] or {"name": "-"}
    parts |= {f"start.{job['stage']}": job["recipe"] for job in chain[1:] if "method" not in job}
    if trained := _trained(chain):
        parts |= {"method": trained["method"], "pretrain": trained["recipe"]}
    for name, part in parts.items():
        row |= flat(part, name) if part else {}
    if weights := row.get("weights.path"):
        row["weights"] = PurePath(weights).name
    return row


def own_recipe(job: Mapping[str, Any]) -> Flat:
    """`evaluation.*` of a job, without fields at the value at which they change nothing: as before they were added."""
    return flat(computed(_model(job), job)["recipe"], "evaluation")


def _model(job: Mapping[str, Any]) -> type[StageJob]:
    return PretrainJob if "method" in job else EvaluationJob


def flat(value: Any, path: str) -> Flat:
    """Every value below a path that is not a mapping."""
    if isinstance(value, dict):
        return {place: each for name, item in value.items() for place, each in flat(item, f"{path}.{name}").items()}
    return {path: _hashable(value)}


def _hashable(value: Any) -> Any:
    if isinstance(value, dict):
        return canonical(value)
    return tuple(map(_hashable, value)) if isinstance(value, list | tuple) else value


def _trained(chain: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The pretraining that a chain ends in."""
    return chain[-1] if "method" in chain[-1] else None


def start_kind(job: Mapping[str, Any]) -> str | None:
    """From what a job starts: the stage of a run, imported weights, pixels or random weights, which a job that trains
    them calls scratch. None of a pretraining."""
    if "method" in job:
        return None
    if (start := start_of(job)) is not None:
        return pretraining().label if start[0] == pretraining().name else start[0]
    if job.get("weights"):
        return str(job["weights"]["name"])
    if not job["encoder"]:
        return "pixels"
    return "scratch" if _trains(job) else "random"


def method_of(chain: Sequence[Mapping[str, Any]]) -> str:
    """The method that trained the encoder, or what stands in its place."""
    last = chain[-1]
    if "method" in last:
        return str(last["method"]["name"])
    if start_of(last) is not None:
        return UNKNOWN
    if last.get("weights"):
        return str(last["weights"]["name"])
    if any(_trains(job) for job in chain):
        return from_scratch().name
    return RANDOM if last["encoder"] else PIXELS


def _trains(job: Mapping[str, Any]) -> bool:
    spec = stages.get(job["stage"])
    return spec is not None and spec.leaves_encoder


# --------------------------------------------------------------------------------------------------- what is computed


def computed_of(chain: Sequence[Mapping[str, Any]], fingerprints: Sequence[str]) -> str:
    """All that counts of a chain of jobs and their data, as canonical JSON that ends in the part of what it starts
    from. Left out are the seed and the ids of starts, which are hashes with a seed in them: runs that share it are
    repetitions."""
    text = ""
    for job, fingerprint in zip(reversed(chain), reversed(fingerprints), strict=True):
        counts = {name: value for name, value in job.items() if name not in ("seed", "pretraining")}
        own = canonical({"data_fingerprint": fingerprint, **computed(_model(job), counts)})
        text = f'{own[:-1]},"pretraining":{text}}}' if text else own
    return text


def stage_label(name: str) -> str:
    """How a stage is shown; that of a plug-in that is not here by its name."""
    spec = stages.get(name)
    return spec.label if spec else name


def method_labels() -> dict[str, str]:
    """How methods and what stands in their place are shown, in that order."""
    return _labels(tuple(methods))


@cache
def _labels(specs: tuple[MethodSpec, ...]) -> dict[str, str]:
    pretrains = {spec.name: spec.label for spec in specs if spec.pretrains}
    others = {spec.name: spec.label for spec in specs if spec.reads_weights} | {UNKNOWN: UNKNOWN}
    return pretrains | others | {from_scratch().name: from_scratch().label, RANDOM: RANDOM, PIXELS: PIXELS}


@cache
def references() -> tuple[str, ...]:
    """What stands in a method's place though nothing was pretrained."""
    return from_scratch().name, RANDOM, PIXELS
