"""From an experiment to its stage jobs: fully resolved configs, in run folders and behind ids (no torch)."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import PlainValidator, SerializeAsAny, ValidationInfo

from mixmae.data.sources import DataConfig, DataModel, sources
from mixmae.encoders.families import EncoderConfig, EncoderModel, families
from mixmae.experiment.evaluations import Evaluation
from mixmae.experiment.experiment import Experiment
from mixmae.experiment.stages import StageSpec, pretraining, stages
from mixmae.fields.identity import Key, Neutral, identity
from mixmae.fields.model import Model, Size
from mixmae.methods.methods import MethodConfig, MethodModel, methods


def _recipe(value: Any, info: ValidationInfo) -> Model:
    return stages[info.data["stage"]].recipe.model_validate(value)


class StageJob(Model):
    """What all stage jobs have. `encoder` is None where only pixels are looked at."""

    stage: str
    encoder: EncoderConfig | None
    image_size: Size
    data: DataConfig
    recipe: Annotated[SerializeAsAny[Model], PlainValidator(_recipe)]
    seed: int
    perturb: Annotated[int, Neutral(0)] = 0

    @classmethod
    def parts(cls, written: Mapping[str, Any]) -> Mapping[str, type[Model]]:
        spec = stages.get(written["stage"])
        return {"recipe": spec.recipe} if spec else {}

    @property
    def spec(self) -> StageSpec:
        return stages[self.stage]

    @property
    def start(self) -> Key | None:
        """The run whose encoder it starts from."""
        return None

    @property
    def scored_split(self) -> str:
        """The split whose images it scores."""
        return self.spec.scored_split(self.recipe)

    @property
    def trained_by(self) -> MethodModel | None:
        """The method that trains the encoder; None: nothing is pretrained here."""
        return None

    @property
    def read_from(self) -> MethodModel | None:
        """The file of weights that it starts from, in a method's place."""
        return None


class PretrainJob(StageJob):
    """Trains an encoder by a method."""

    method: MethodConfig

    @property
    def trained_by(self) -> MethodModel | None:
        return self.method


class EvaluationJob(StageJob):
    """Measures an encoder: that of the run `start`; None: of `weights`, or where they too are None random ones."""

    pretraining: str | None
    """The id of the run whose encoder is evaluated: a pretraining, but where `start_stage` says another stage."""
    start_stage: Annotated[str | None, Neutral(None)] = None
    weights: Annotated[MethodConfig | None, Neutral(None)] = None

    @property
    def start(self) -> Key | None:
        return start_of(self.__dict__)

    @property
    def read_from(self) -> MethodModel | None:
        return self.weights


def job_of(written: Mapping[str, Any]) -> StageJob:
    """A job as a `config.json` holds it. Raises ValueError where a plug-in that it needs is not here."""
    kind = EvaluationJob if stages[written["stage"]].measures else PretrainJob
    return kind.model_validate(written)


def start_of(job: Mapping[str, Any]) -> Key | None:
    """The run that a job starts from, by the plain data of its config."""
    if (id := job.get("pretraining")) is None:
        return None
    return job.get("start_stage") or pretraining().name, id


@dataclass(frozen=True)
class PlannedJob:
    """A stage job with its id, the fingerprint of its data and, of an evaluation, the name it has in the experiment."""

    id: str
    job: StageJob
    fingerprint: str
    name: str | None = None

    @property
    def stage(self) -> str:
        return self.job.stage

    @property
    def key(self) -> Key:
        return self.job.stage, self.id

    @property
    def needs(self) -> Key | None:
        return self.job.start


def stage_jobs(experiment: Experiment, fingerprint: Callable[[DataModel], str]) -> list[PlannedJob]:
    """The experiment's stage jobs, each after the one it starts from. fingerprint: of a data set."""
    planned: dict[str | None, PlannedJob] = {}
    if experiment.spec.pretrains:
        job = _pretrain_job(experiment)
        planned[None] = PlannedJob(job_id(job, fingerprint(job.data)), job, fingerprint(job.data))
    waiting = list(experiment.evaluations)
    while waiting:
        entry = next(one for one in waiting if one.start is None or one.start in planned)
        waiting.remove(entry)
        evaluation = _evaluation_job(entry, experiment, planned.get(entry.start))
        digits = fingerprint(evaluation.data)
        planned[entry.name] = PlannedJob(job_id(evaluation, digits), evaluation, digits, entry.name)
    return list(planned.values())


def job_id(job: StageJob, fingerprint: str) -> str:
    """The id of a run that computes this job on data of this fingerprint.

    A plug-in whose author has raised its version counts with it.
    """
    versions = {spec.name: spec.version for spec in _specs(job) if spec.version != 1}
    return identity(job, data=fingerprint, **({"versions": versions} if versions else {}))


def _specs(job: StageJob) -> Iterator[Any]:
    """Yields the specs that the job names."""
    yield job.spec
    yield sources[job.data.name]
    if job.encoder is not None:
        yield families[job.encoder.family]
    if job.trained_by is not None:
        yield methods[job.trained_by.name]


def _pretrain_job(experiment: Experiment) -> PretrainJob:
    spec, placed = pretraining(), pretraining().placed(experiment.pretrain, experiment.encoder, experiment.image_size)
    return PretrainJob(
        stage=spec.name,
        method=experiment.spec.resolved(experiment.method, experiment.encoder),
        encoder=placed.encoder,
        image_size=placed.image_size,
        data=experiment.data,
        recipe=placed.recipe,
        seed=experiment.seed,
        perturb=experiment.perturb,
    )


def _evaluation_job(entry: Evaluation, experiment: Experiment, start: PlannedJob | None) -> EvaluationJob:
    """start: the job that it starts from, if any."""
    encoder: EncoderModel = experiment.encoder
    size = experiment.image_size
    if start is not None and start.name is not None and start.job.encoder is not None:
        encoder, size = start.job.encoder, start.job.image_size
    placed = entry.spec.placed(entry.recipe, encoder, size)
    start = start if placed.encoder else None
    method: MethodModel = experiment.method
    return EvaluationJob(
        stage=entry.kind,
        encoder=placed.encoder,
        image_size=placed.image_size,
        data=experiment.data,
        recipe=placed.recipe,
        seed=experiment.seed,
        perturb=experiment.perturb,
        pretraining=start.id if start else None,
        start_stage=start.stage if start and start.job.spec.measures else None,
        weights=method if experiment.spec.reads_weights and placed.encoder else None,
    )
