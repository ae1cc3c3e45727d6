"""What a gallery is drawn of: trained methods from any checkpoint, and images from a data set or any folder.

torch is imported inside the functions.
"""

import logging
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mixmae.data.sources import DataModel
from mixmae.data.sources import sources as data_sources
from mixmae.experiment.jobs import StageJob, job_of
from mixmae.experiment.stages import stages
from mixmae.fields.texts import many
from mixmae.methods.methods import methods
from mixmae.runs.folder import RunFolder, newest_step
from mixmae.runs.state import run_state
from mixmae.weights.description import Description

if TYPE_CHECKING:
    from PIL import Image
    from torch import nn

log = logging.getLogger(__name__)

WANTED = "write the id of a pretraining, or the path of its folder, of a weights file or of a step checkpoint"


@dataclass(frozen=True)
class Source:
    """A trained method, in evaluation mode on the CPU. name: an id or a file's name. label: what it is, in words. data:
    what it was trained on; None where its file does not say."""

    name: str
    label: str
    model: "nn.Module"
    description: Description
    data: DataModel | None = None

    @property
    def mixed(self) -> int:
        """How many images it mixes into one; 1 where it mixes none."""
        method = self.description.method
        return methods[method.name].images_together(method) if method else 1

    @property
    def normalised(self) -> bool:
        """Whether it predicts each unit less its mean, divided by its standard deviation."""
        method = self.description.method
        return method is not None and methods[method.name].normalises(method)


@dataclass(frozen=True)
class Images:
    """The first `rows` pictures are shown, a row each; those after them are there to be mixed with. of: what they are,
    in words."""

    pictures: tuple["Image.Image", ...]
    rows: int
    of: str


# ----------------------------------------------------------------------------------------------------------- sources


def open_source(place: Path | RunFolder) -> Source:
    """The pretraining in a run folder that is done, a weights file of ours, or the step checkpoint of a run.

    Raises FileNotFoundError or ValueError, naming the place, for what is none of them, is damaged, or cannot
    reconstruct: evaluations, classifiers, encoders without their decoder.
    """
    if isinstance(place, RunFolder):
        return _of_run(place)
    if place.is_dir():
        return _of_run(_run_in(place.resolve()))
    path = place.absolute()
    run = next((_run_in(above) for above in path.parents[1:3] if (above / "config.json").is_file()), None)
    if run and path == run.weights:
        return _of_run(run)
    if re.fullmatch(r"step-\d+\.pt", path.name):
        if run is None:
            raise ValueError(f"{place}: does not say of what model; leave it in its run's folder, below config.json")
        return _of_step(place, run)
    return _of_file(place)


def _run_in(folder: Path) -> RunFolder:
    return RunFolder(folder.parent.parent, folder.parent.name, folder.name)


def _of_run(run: RunFolder) -> Source:
    from mixmae.weights.opened import open_run

    job = _pretrain_job(run)
    state = run_state(run).state
    if state != "done":
        step = newest_step(run)
        newest = f", or write {run.checkpoints / f'step-{step:08d}.pt'}" if step >= 0 else ""
        raise ValueError(f"{run.stage}/{run.id}: is {state}; finish it first{newest}")
    opened = open_run(run)
    recipe: Any = job.recipe
    trained = many(recipe.epochs, "epoch")
    return Source(run.id, _label(opened.description, trained), opened.model, opened.description, job.data)


def _of_step(path: Path, run: RunFolder) -> Source:
    """Opens a step checkpoint; its label says how many epochs were finished when it was saved."""
    from mixmae.training.progress import FORMAT
    from mixmae.weights.stored import build

    job = _pretrain_job(run)
    saved = _read_step(path)
    if saved.get("format") != FORMAT:
        raise ValueError(f"{path}: a checkpoint of format {saved.get('format', 1)}, this version reads {FORMAT}")
    assert job.encoder is not None  # a pretraining has one
    recipe: Any = job.recipe
    description = Description(encoder=job.encoder, image_size=job.image_size, method=job.trained_by)
    model = build(description)
    try:
        model.load_state_dict(saved["model"])
    except RuntimeError:
        raise ValueError(f"{path}: not the weights of the model in {run.path / 'config.json'}") from None
    trained = f"{saved['epoch']} of {many(recipe.epochs, 'epoch')} (step {saved['step']})"
    return Source(f"{run.id}-{path.stem}", _label(description, trained), model.eval(), description, job.data)


def _read_step(path: Path) -> dict[str, Any]:
    """Reads a file that torch wrote. Raises ValueError where torch cannot."""
    from mixmae.weights.files import read_checkpoint

    try:
        return read_checkpoint(path)
    except ValueError as error:
        instead = "a step checkpoint like this is damaged or cut short, write another of its run"
        raise ValueError(f"{error}; {instead}") from None


def _of_file(path: Path) -> Source:
    from mixmae.weights.stored import load

    if path.suffix == ".pt" and path.is_file():
        saved = _read_step(path)
        if {"format", "model", "step"} <= saved.keys():
            named = f"step-{saved['step']:08d}.pt"
            what = f"a step checkpoint by another name; call it {named}, in its run's folder, below config.json"
            raise ValueError(f"{path}: {what}")
    model, description = load(path)
    if description.method is None:
        raise ValueError(f"{path}: holds no pretraining ({description.part}) and reconstructs nothing; {WANTED}")
    return Source(path.stem, _label(description, path.name), model, description)


def _pretrain_job(run: RunFolder) -> StageJob:
    config = run.read("config")
    if config is None:
        raise ValueError(f"no run in {run.path}: config.json is missing; {WANTED}")
    job = job_of(config["job"])
    if job.trained_by is None:
        instead = f"write that of its {stages[job.start[0]].label} {job.start[1]}" if job.start else WANTED
        raise ValueError(f"{run.stage}/{run.id}: is no pretraining and reconstructs nothing; {instead}")
    return job


def _label(description: Description, trained: str) -> str:
    method: Any = description.method
    spec = methods[method.name]
    hidden = f"{method.model_dump()[spec.hidden_by]:.0%} hidden".replace("%", " %")
    return " · ".join([spec.label, description.encoder.label, trained, hidden])


# ------------------------------------------------------------------------------------------------------------ images


def open_images(sources: Sequence[Source], folder: Path | None, rows: int, seed: int) -> Images:
    """Reads at most `rows` images to show, and what they are mixed with: those in `folder` and below it, by name, or
    the validation images of the first source that says what it was trained on, of as many classes as there are.

    Where there are more, `seed` chooses. What cannot be read is logged and passed over. Raises FileNotFoundError or
    ValueError where there is no image, none can be read, or there are fewer than a source mixes.
    """
    most = max(sources, key=lambda source: source.mixed)
    wanted = rows + most.mixed - 1
    if folder is not None:
        pictures, of = _folder_images(folder, wanted, seed), f"images in {folder.resolve().name}"
    else:
        data = next((source.data for source in sources if source.data), None)
        if data is None:
            raise ValueError(f"{sources[0].name}: does not say what it was trained on; name a folder with --images")
        pictures = _validation_images(data, wanted, seed)
        of = f"validation images of {data_sources[data.name].title(data)}"
    if len(pictures) < most.mixed:
        raise ValueError(f"{most.name} mixes {most.mixed} images into one; found {len(pictures)} ({of})")
    return Images(tuple(pictures), min(rows, len(pictures)), of)


def _folder_images(folder: Path, wanted: int, seed: int) -> list["Image.Image"]:
    from mixmae.data.image_folder.index import images_below
    from mixmae.data.reading import read_rgb

    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; --images takes a folder of images")
    paths = sorted(images_below(folder, ".", {}, []))
    if not paths:
        raise ValueError(f"{folder}: no images (such as .jpg, .png, .webp, .tif) in it or below")
    chosen = _readable(_shuffled(len(paths), seed), lambda index: read_rgb(folder / paths[index]), wanted, folder)
    return [chosen[index] for index in sorted(chosen)]


def _validation_images(data: DataModel, wanted: int, seed: int) -> list["Image.Image"]:
    from mixmae.data.batches import open_split

    split = open_split(data, "val")
    order = _shuffled(len(split), seed)
    labels = pd.Series(np.array(split.labels)[order])
    by_turns = order[np.argsort(labels.groupby(labels).cumcount(), kind="stable")]
    return list(_readable(by_turns, split.image, wanted, f"the validation images of {data.name}").values())


def _shuffled(count: int, seed: int) -> np.ndarray:
    from mixmae.data.draws import generator

    return generator(seed, "gallery images").permutation(count)


def _readable(
    order: Iterable[int], read: Callable[[int], "Image.Image"], wanted: int, where: Path | str
) -> dict[int, "Image.Image"]:
    """The first `wanted` images of `order` that can be read, by index. Raises ValueError where none can."""
    from mixmae.data.reading import Unreadable

    images: dict[int, Image.Image] = {}
    for index in order:
        try:
            images[int(index)] = read(int(index))
        except Unreadable as error:
            log.warning("%s; passed over", error)
        if len(images) == wanted:
            break
    if not images:
        raise ValueError(f"{where}: none of the images can be read")
    return images
