"""From an experiment to its stage jobs: fully resolved configs, in run folders and behind ids (no torch)."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from mixmae.config import (
    DataConfig,
    FinetuneRecipe,
    ImportedConfig,
    KnnRecipe,
    LinearRecipe,
    MethodConfig,
    PretrainRecipe,
    SimmimConfig,
)
from mixmae.encoders.config import EncoderConfig
from mixmae.experiment.experiment import Experiment, mask_unit
from mixmae.fields.identity import Neutral, identity
from mixmae.fields.model import Model, Size


class PretrainJob(Model):
    stage: Literal["pretrain"] = "pretrain"
    method: MethodConfig
    encoder: EncoderConfig
    image_size: Size
    data: DataConfig
    recipe: PretrainRecipe
    seed: int


class Evaluation(Model):
    """What the evaluations share. `encoder` is None where only pixels are looked at."""

    encoder: EncoderConfig | None
    image_size: Size
    data: DataConfig
    pretraining: str | None
    """The id of the pretraining whose encoder is evaluated; None starts from `weights`, or where they too are None
    from random weights."""
    weights: Annotated[ImportedConfig | None, Neutral(None)] = None
    seed: int


class FinetuneJob(Evaluation):
    stage: Literal["finetune"] = "finetune"
    recipe: FinetuneRecipe


class LinearJob(Evaluation):
    stage: Literal["linear"] = "linear"
    recipe: LinearRecipe


class KnnJob(Evaluation):
    stage: Literal["knn"] = "knn"
    recipe: KnnRecipe


StageJob = Annotated[PretrainJob | FinetuneJob | LinearJob | KnnJob, Field(discriminator="stage")]
STAGE_JOB: TypeAdapter = TypeAdapter(StageJob)
"""Reads a `config.json` back: `STAGE_JOB.validate_json(text)`."""


@dataclass(frozen=True)
class PlannedJob:
    """A stage job with its id and the id it waits for."""

    id: str
    job: PretrainJob | FinetuneJob | LinearJob | KnnJob
    needs: str | None = None

    @property
    def stage(self) -> str:
        return self.job.stage


def stage_jobs(experiment: Experiment, fingerprint: str) -> list[PlannedJob]:
    """The experiment's stage jobs, the pretraining first. `fingerprint` is that of its data."""
    jobs = []
    needs = None
    if experiment.method.pretrains:
        pretrain = _pretrain_job(experiment)
        needs = identity(pretrain, data=fingerprint)
        jobs.append(PlannedJob(needs, pretrain))
    evaluations = experiment.evaluations
    for kind, recipe in (
        (FinetuneJob, evaluations.finetune),
        (LinearJob, evaluations.linear),
        (KnnJob, evaluations.knn),
    ):
        if recipe is None:
            continue
        job = _evaluation_job(kind, recipe, experiment, needs)
        jobs.append(PlannedJob(identity(job, data=fingerprint), job, job.pretraining))
    return jobs


def _pretrain_job(experiment: Experiment) -> PretrainJob:
    method, recipe = experiment.method, experiment.pretrain
    if isinstance(method, SimmimConfig):
        method = method.model_copy(update={"mask_unit": mask_unit(method, experiment.encoder)})
    return PretrainJob(
        method=method,
        encoder=_resolved(experiment.encoder, experiment.image_size),
        image_size=experiment.image_size,
        data=experiment.data,
        recipe=recipe.model_copy(update={"chunk": recipe.chunk or recipe.batch}),
        seed=experiment.seed,
    )


def _evaluation_job(kind: type[Evaluation], recipe, experiment: Experiment, pretraining: str | None) -> Evaluation:
    size = vars(recipe).get("image_size") or experiment.image_size
    method, encoder = experiment.method, experiment.encoder
    if vars(recipe).get("windows"):
        encoder = encoder.model_copy(update={"windows": recipe.windows})
    if kind is FinetuneJob and vars(encoder).get("style") == "beit":
        encoder = encoder.model_copy(update={"shared_bias": False})
    looks_at_pixels = vars(recipe).get("features") == "pixels"
    return kind(
        encoder=None if looks_at_pixels else _resolved(encoder, size),
        image_size=size,
        data=experiment.data,
        pretraining=None if looks_at_pixels else pretraining,
        weights=method if isinstance(method, ImportedConfig) and not looks_at_pixels else None,
        recipe=_without_resolved(recipe),
        seed=experiment.seed,
    )


def _without_resolved(recipe):
    """The recipe with what the job now states itself (size, windows) set back to its default."""
    moved = {name: None for name in ("image_size", "windows") if vars(recipe).get(name) is not None}
    return recipe.model_copy(update=moved) if moved else recipe


def _resolved(encoder, image_size: tuple[int, int]):
    """The encoder with windows and spatial-reduction ratios as numbers for this image size."""
    update = {}
    if vars(encoder).get("windows") == "grid":
        update["windows"] = grid_windows(min(image_size) // encoder.patch_size, encoder.stages)
    if vars(encoder).get("sr_ratios") == "unit":
        update["sr_ratios"] = tuple(2 ** (encoder.stages - 1 - stage) for stage in range(encoder.stages))
    return encoder.model_copy(update=update) if update else encoder


def grid_windows(side: int, stages: int) -> tuple[int, ...]:
    """Windows over the whole grid in the last two stages, a half and a quarter before: [14, 14, 14, 7] for side 56."""
    grids = [side // 2**stage for stage in range(stages)]
    return tuple(-(-grid // max(1, 2 ** (stages - 2 - stage))) for stage, grid in enumerate(grids))
