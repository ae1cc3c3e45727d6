"""Trained weights with all that is known of them: of a run that is done, or of one of our own weights files."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import nn

from mixmae.encoders.keys import some
from mixmae.experiment.jobs import StageJob, job_of
from mixmae.files.records import sha256
from mixmae.runs.folder import RunFolder
from mixmae.runs.state import run_state
from mixmae.weights import stored
from mixmae.weights.card import Facts
from mixmae.weights.description import Description, Origin, about

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Opened:
    """model: what `description` describes, in evaluation mode, on the CPU. facts: for its card."""

    model: nn.Module
    description: Description
    facts: Facts

    def alone(self) -> "Opened":
        """Returns its encoder without method and head."""
        description = self.description.alone()
        if description == self.description:
            return self
        model: Any = self.model
        return Opened(model.encoder, description, self.facts)


def open_run(run: RunFolder) -> Opened:
    """Opens the final weights of a pretraining or a fine-tuning that is done.

    Raises ValueError naming the run where it is neither, or where its weights are missing, damaged or not its own.
    """
    name = f"{run.stage}/{run.id}"
    config = run.read("config")
    if config is None:
        raise ValueError(f"{name}: no run in {run.path}: config.json is missing")
    job = job_of(config["job"])
    if not job.spec.leaves_encoder:
        start = job.start
        instead = f"export {start[0]} {start[1]}, which it starts from" if start else "export a fine-tuning instead"
        raise ValueError(f"{name}: a {job.stage} evaluation trains no model to export; {instead}")
    state = run_state(run).state
    if state != "done":
        raise ValueError(f"{name}: is {state}; only a run that is done has final weights")
    if not run.weights.is_file():
        raise ValueError(f"{name}: {run.weights} is missing; copy the whole run folder, or run it again")
    run.check(run.weights)
    assert job.encoder is not None, "it leaves one"
    description = Description(
        encoder=job.encoder,
        image_size=job.image_size,
        method=job.trained_by,
        classes=_classes(run.weights) if job.spec.measures else None,
    )
    return Opened(_load_model(run.weights, description), description, _facts(run, config, job))


def open_file(path: Path) -> Opened:
    """Opens a weights file of ours. Raises ValueError where it is not one, FileNotFoundError where there is none."""
    _, origin = about(path)
    model, description = stored.load(path)
    return Opened(model, description, Facts(origin=_as_dict(origin)))


def _classes(weights: Path) -> int:
    try:
        with safe_open(weights, "pt") as file:
            return file.get_slice("head.weight").get_shape()[0]
    except SafetensorError as error:
        raise ValueError(f"{weights}: not the weights of a classifier, or damaged: {error}") from None


def _load_model(weights: Path, description: Description) -> nn.Module:
    try:
        state = load_file(weights)
    except SafetensorError as error:
        raise ValueError(f"{weights}: damaged: {error}") from None
    model = stored.build(description)
    own = model.state_dict()
    fixed = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    if made_here := sorted(fixed - state.keys()):
        log.info("%s: written before fixed tables were saved; made anew: %s", weights, some(made_here))
        state |= {name: own[name] for name in made_here}
    wrong = own.keys() ^ state.keys()
    wrong |= {name for name in own.keys() & state.keys() if own[name].shape != state[name].shape}
    if wrong:
        raise ValueError(f"{weights}: not the weights of its run's model: {some(sorted(wrong))}")
    model.load_state_dict(state)
    return model.eval()


def _facts(run: RunFolder, config: dict, job: StageJob) -> Facts:
    result = run.read("result")
    assert result is not None, "the run is done"
    pretraining, origin = None, None
    if job.start:
        started = RunFolder(run.root, *job.start).read("config")
        pretraining = started and started["job"]
    weights: Any = job.read_from
    if weights:
        origin = _origin_of(Path(weights.path), weights.sha256)
    return Facts(
        run=run.id,
        job=config["job"],
        pretraining=pretraining,
        fingerprint=config["data_fingerprint"],
        result={field: value for field, value in result.items() if field != "files"},
        environment=run.read("environment"),
        origin=origin,
    )


def _origin_of(path: Path, digest: str) -> dict[str, str] | None:
    """Returns the origin of the weights that a fine-tuning started from, where their file is still the same."""
    if not path.is_file() or sha256(path) != digest:
        return None
    _, origin = about(path)
    return _as_dict(origin)


def _as_dict(origin: Origin | None) -> dict[str, str] | None:
    return None if origin is None else origin.model_dump()
