"""Run folders as the library writes them, for the tests of what reads them."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import save_file

from mixmae.encoders.building import build_encoder
from mixmae.experiment.experiment import Experiment
from mixmae.experiment.jobs import PlannedJob, stage_jobs
from mixmae.files.records import line_of
from mixmae.methods.building import build_method
from mixmae.presentation.declaration import Declaration
from mixmae.runs.folder import RunFolder

FINGERPRINT = "f" * 16
PRETRAIN = {"epochs": 20, "batch": 64, "base_lr": 1e-3, "warmup_epochs": 1}
FINETUNE = {"epochs": 4, "batch": 64, "base_lr": 1e-3}
LONG_AGO = 1_700_000_000
"""In s since 1970."""
EVALUATIONS = {"finetune": FINETUNE, "linear": {}, "knn": {}}


def experiment(method: dict | str = "mixmae", encoder: str = "swin_nano", seed: int = 0, **more) -> Experiment:
    """A small experiment; `epochs` and `labels` (a class, of fine-tuning) are shorthands."""
    epochs, labels = more.pop("epochs", 20), more.pop("labels", None)
    finetune = {**FINETUNE, "subset": {"labels_per_class": labels}}
    fields = {
        "method": method,
        "encoder": encoder,
        "image_size": 32,
        "evaluations": {**EVALUATIONS, "finetune": finetune},
        "seed": seed,
    }
    if method != "supervised":
        fields["pretrain"] = {**PRETRAIN, "epochs": epochs}
    return Experiment.model_validate({**fields, **more})


@dataclass
class Made:
    """A root and the runs made in it, as the members of one sweep."""

    root: Path
    members: dict[str, set] = field(default_factory=dict)

    def add(self, what: Experiment, sweep: str = "main", **figures) -> list[PlannedJob]:
        """Makes the folders of an experiment, all done; `figures` are top-1 in percent by stage, and `loss`."""
        jobs = stage_jobs(what, lambda data: FINGERPRINT)
        for planned in jobs:
            if planned.stage == "pretrain":
                write_pretraining(self.root, planned, figures.get("loss", 0.5))
            elif planned.stage in figures:
                write_evaluation(self.root, planned, figures[planned.stage])
            else:
                continue
            self.members.setdefault(sweep, set()).add((planned.stage, planned.id))
        return jobs


def declared(made: Made, **more) -> Declaration:
    """A grid that declares the runs made; `more` are fields of the declaration."""
    return Declaration("made", members=made.members, **more)


def write_config(root: Path, planned: PlannedJob) -> RunFolder:
    run = RunFolder(root, planned.stage, planned.id)
    job = planned.job.model_dump(mode="json")
    run.write("config", {"id": planned.id, "data_fingerprint": FINGERPRINT, "job": job})
    return run


def write_state(run: RunFolder, state: str, reason: str | None = None) -> None:
    run.write("state", {"state": state, "reason": reason, "epoch": 1, "epochs": 4, "loss": 0.7, "tries": 1})


def write_pretraining(root: Path, planned: PlannedJob, loss: float) -> RunFolder:
    run = write_config(root, planned)
    epochs = planned.job.recipe.epochs
    lines = [
        f'{{"epoch": {e}, "step": {e * 22}, "loss": {loss + 0.6 / e:.5f}, "lr": 0.001}}' for e in range(1, epochs + 1)
    ]
    (run.path / "metrics.jsonl").write_text("".join(line + "\n" for line in lines))
    run.write("result", {"loss": loss, "epochs": epochs, "steps": epochs * 22, "images": epochs * 1408})
    write_state(run, "done")
    return run


def write_weights(run: RunFolder, planned: PlannedJob, seed: int = 0) -> None:
    """The weights of a finished pretraining, untrained ones."""
    torch.manual_seed(seed)
    run.checkpoints.mkdir(exist_ok=True)
    model = build_method(planned.job.method, build_encoder(planned.job.encoder, planned.job.image_size))
    save_file(model.state_dict(), run.weights)


def write_evaluation(root: Path, planned: PlannedJob, top1: float) -> RunFolder:
    run = write_config(root, planned)
    run.write("result", {"top1": top1, "top5": min(100.0, top1 + 5), "loss": 0.3, "epochs": 4})
    write_state(run, "done")
    return run


def write_timing(run: RunFolder, seconds: list[float], processes: int = 1, device: str = "cpu", **more) -> None:
    """timing.jsonl, an epoch for each of `seconds`, and environment.json with `more`."""
    lines = (line_of({"epoch": epoch, "seconds": each}) for epoch, each in enumerate(seconds, start=1))
    (run.path / "timing.jsonl").write_text("".join(lines))
    run.write("environment", {"processes": processes, "device": device, "earlier": [], **more})


def runs_of(root: Path, method: str, seed: int = 0) -> list[RunFolder]:
    """The folders of `experiment(method, seed=seed)`: pretraining, fine-tuning, linear and kNN."""
    return [
        RunFolder(root, planned.stage, planned.id)
        for planned in stage_jobs(experiment(method, seed=seed), lambda data: FINGERPRINT)
    ]


def age(root: Path) -> None:
    """As if everything under `root` had been written long ago."""
    for path in root.rglob("*"):
        os.utime(path, (LONG_AGO, LONG_AGO), follow_symlinks=False)


def two_methods_and_references(root: Path) -> Made:
    """Two seeds of MixMAE, one of SimMIM, and what they are read against: 15 runs."""
    made = Made(root)
    made.add(experiment("mixmae", seed=0), finetune=91.0, linear=80.0, knn=83.0, loss=0.4)
    made.add(experiment("mixmae", seed=1), finetune=92.0, linear=82.0, knn=83.0, loss=0.6)
    made.add(experiment("simmim", seed=0), finetune=90.5, linear=66.6)
    made.add(experiment("supervised", seed=0), finetune=90.25, linear=60.0, knn=65.0)
    made.add(experiment("supervised", seed=0, evaluations={"knn": {"features": "pixels"}}), knn=88.0)
    return made
