"""All stages on a set of torchvision's: those of a folder of its images, for any number of loading processes, on two
processes and after a stop."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mixmae.data.torchvision_sets import indexed
from mixmae.experiment.experiment import Experiment
from mixmae.training.resources import Resources
from mixmae.work.execution import execute
from support import several
from support.tiny_jobs import DECODER, ENCODERS, FINETUNE, PRETRAIN, StopAfter, lines, never, planned_runs
from support.torchvision_sets import pixels, write_mnist

pytestmark = pytest.mark.slow

EACH = {"train": 6, "val": 2}


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """`set` and `folder`: the same images, class by class; in the folder as PNG with two pixels of black around."""
    folder = tmp_path_factory.mktemp("images")
    made = {}
    for seed, (split, each) in enumerate(EACH.items()):
        labels = np.repeat(np.arange(10), each)
        # A class shows in the brightness, so that the figures are no constants.
        drawn = (pixels(seed, len(labels), 28, 28) // 3 + 17 * labels[:, None, None]).astype(np.uint8)
        made[split] = drawn, labels.tolist()
        for number, (image, label) in enumerate(zip(drawn, labels, strict=True)):
            path = folder / "folder" / split / f"{label:02}" / f"{number:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.pad(image, 2)).save(path)
    write_mnist(folder / "set", made)
    return folder


def planned(root: Path, images: Path, is_folder: bool = False, **more):
    """The runs on either of the two. The index is kept though the files are new, as processes of theirs need it."""
    folder = {"name": "image_folder", "path": str(images / "folder")}
    of_torchvision = {"name": "torchvision", "dataset": "FashionMNIST", "path": str(images / "set"), "pad": 2, **more}
    experiment = Experiment.model_validate(
        {
            "method": {"name": "mixmae", **DECODER},
            "encoder": ENCODERS["swin"],
            "image_size": 32,
            "data": folder if is_folder else of_torchvision,
            "pretrain": {**PRETRAIN, "epochs": 3, "subset": {}, "batch": 20, "chunk": 10},
            "evaluations": {
                "finetune": {**FINETUNE, "batch": 20, "chunk": 10, "epochs": 2, "subset": {}},
                "linear": {"epochs": 2, "batch": 10},
                "knn": {"k": 5},
            },
        }
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(indexed, "SETTLED_NS", -1)
        return planned_runs(root, experiment)


def computed(runs) -> dict[str, bytes]:
    names = ("result.json", "metrics.jsonl")
    return {
        f"{stage}/{name}": (run.path / name).read_bytes()
        for stage, run in runs.items()
        for name in names
        if (run.path / name).exists()
    }


def executed(runs, **resources):
    for run in runs.values():
        assert execute(run, Resources(**resources), never) == "done", run.read("state")
    return runs


@pytest.fixture(scope="module")
def on_the_folder(images, tmp_path_factory) -> dict[str, bytes]:
    return computed(executed(planned(tmp_path_factory.mktemp("folder"), images, is_folder=True)))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_set_trains_as_a_folder_of_its_images(tmp_path, images, on_the_folder, workers):
    runs = executed(planned(tmp_path, images), workers=workers)
    assert computed(runs) == on_the_folder and len(on_the_folder) >= 6


def test_a_stopped_run_goes_on_with_the_same_images(tmp_path, images, on_the_folder):
    runs = planned(tmp_path, images)
    assert execute(runs["pretrain"], Resources(), StopAfter(4)) == "stopped"
    indexed._known.clear()
    assert computed(executed(runs)) == on_the_folder


def test_two_processes_load_the_images_that_one_loads(tmp_path, images):
    runs = planned(tmp_path / "two", images)
    pretraining = runs["pretrain"]
    several.finish(several.start(2, several.jobs, Resources().model_dump_json(), pretraining.path))
    alone = planned(tmp_path / "one", images)["pretrain"]
    several.run_all([alone], Resources())
    losses = [[line["loss"] for line in lines(run.path / "metrics.jsonl")] for run in (alone, pretraining)]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
    assert pretraining.read("environment")["processes"] == 2


def test_placed_images_and_a_tuning_split_train(tmp_path, images):
    runs = executed(planned(tmp_path, images, pad=0, placed=True, tuning=0.2))
    other = executed(planned(tmp_path / "other", images, pad=0, tuning=0.2))
    assert computed(other)["pretrain/metrics.jsonl"] != computed(runs)["pretrain/metrics.jsonl"]
