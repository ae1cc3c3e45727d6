"""Stage jobs small enough to run in a second, for the tests that train."""

from pathlib import Path

from mixmae.data.sources import sources
from mixmae.experiment.experiment import Experiment
from mixmae.experiment.jobs import stage_jobs
from mixmae.files.records import read_lines
from mixmae.runs.folder import RunFolder
from mixmae.tracking.trackers import Trackers
from mixmae.training.processes import Processes
from mixmae.training.resources import Resources
from mixmae.training.session import Session

DECODER = {"decoder_depth": 1, "decoder_width": 16, "decoder_heads": 2}
METHODS = {
    "mixmae": {"name": "mixmae", **DECODER},
    "simmim": {"name": "simmim"},
    "mae": {"name": "mae", **DECODER},
    "supervised": {"name": "supervised"},
}
ENCODERS = {
    "swin": {"family": "swin", "patch_size": 4, "widths": (16, 32), "depths": (1, 1), "heads": (1, 2)},
    "twins_svt": {
        "family": "twins_svt",
        "patch_size": 4,
        "widths": (16, 32),
        "depths": (2, 2),
        "heads": (1, 2),
        "windows": (4, 4),
    },
    "pvt": {"family": "pvt", "patch_size": 4, "widths": (16, 32), "depths": (1, 1), "heads": (1, 2)},
}
PRETRAIN = {
    "epochs": 3,
    "batch": 32,
    "chunk": 16,
    "base_lr": 2e-3,
    "base_batch": 32,
    "warmup_epochs": 1.0,
    "drop_path": 0.1,
    "crop_scale": (0.6, 1.0),
    "subset": {"fraction": 0.1},
}
FINETUNE = {
    "epochs": 3,
    "batch": 20,
    "base_lr": 2e-3,
    "base_batch": 20,
    "warmup_epochs": 1.0,
    "drop_path": 0.1,
    "layer_decay": 0.8,
    "subset": {"labels_per_class": 10},
}


def experiment(
    method: str = "mixmae", encoder: str = "swin", pretrain=None, evaluations=None, seed: int = 0, data="digits"
):
    """`pretrain` is laid over PRETRAIN; `evaluations` is taken as it is."""
    return Experiment.model_validate(
        {
            "method": METHODS[method],
            "encoder": ENCODERS[encoder],
            "image_size": 32,
            "data": data,
            "pretrain": None if method == "supervised" else {**PRETRAIN, **(pretrain or {})},
            "evaluations": evaluations or {},
            "seed": seed,
        }
    )


def planned_runs(root: Path, exp: Experiment) -> dict[str, RunFolder]:
    """The experiment's run folders by stage, with their config.json written."""
    found = sources[exp.data.name].fingerprint(exp.data, root)
    runs = {}
    for planned in stage_jobs(exp, lambda data: found):
        run = RunFolder(root, planned.stage, planned.id)
        job = planned.job.model_dump(mode="json")
        run.write("config", {"id": planned.id, "data_fingerprint": found, "job": job})
        runs[planned.stage] = run
    return runs


def lines(path: Path) -> list[dict]:
    return read_lines(path)


class StopAfter:
    """Says stop from the `asked`-th question on."""

    def __init__(self, asked: int):
        self.left = asked

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


def never() -> bool:
    return False


def session_in(run: RunFolder, processes: Processes | None = None) -> Session:
    """Of one process unless said otherwise, never stopped."""
    alone = processes or Processes()
    return Session(run, "top1", Resources(), alone, never, lambda **_: None, lambda: None, Trackers(run, ()))
