"""What a run's config says of the plug-ins that its job needs, and how it is shown where they are missing (no torch).

A plug-in is imported by what plans and by what runs. Programs that read runs know of it what `config.json` says.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from mixmae.data.sources import DataModel, DataSpec, sources
from mixmae.encoders.families import EncoderModel, EncoderSpec, families
from mixmae.experiment.jobs import StageJob
from mixmae.experiment.metric import Metric
from mixmae.experiment.stages import StageSpec, stages
from mixmae.fields.model import Model
from mixmae.fields.specs import Specs
from mixmae.methods.methods import MethodModel, MethodSpec, methods

KINDS: dict[str, Specs[Any]] = {specs.what: specs for specs in (stages, families, sources, methods)}
"""The specs that can be plugged in, by the word for them in records."""


def plugins_of(job: StageJob) -> list[dict[str, Any]]:
    """What is recorded of each plug-in that the job names: what it is, where it comes from, and how it is shown."""
    records = []
    for specs, name in _named(job):
        if not specs.is_plugged_in(name):
            continue
        spec = specs[name]
        shown = {"kind": specs.what, "name": name, "label": spec.label, "version": spec.version}
        if specs is stages:
            shown |= {"metrics": [asdict(metric) for metric in spec.metrics], "leaves_encoder": spec.leaves_encoder}
        records.append({**shown, **asdict(specs.origin(name))})
    return records


def origin_text(record: Mapping[str, Any]) -> str:
    """Where a plug-in came from, of what is recorded of it."""
    return f"{record['distribution'] or 'no distribution'}, version {record['version']}, sha256 {record['sha256']}"


def others(now: Iterable[Mapping[str, Any]], then: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str, str]]:
    """Yields (name, origin then, origin now) of the plug-ins that two records tell of differently."""
    before = {(record["kind"], record["name"]): origin_text(record) for record in then}
    for record in now:
        key, origin = (record["kind"], record["name"]), origin_text(record)
        if origin != before.get(key, origin):
            yield record["name"], before[key], origin


def _named(job: StageJob) -> Iterator[tuple[Specs[Any], str]]:
    yield stages, job.stage
    yield sources, job.data.name
    if job.encoder is not None:
        yield families, job.encoder.family
    if job.trained_by is not None:
        yield methods, job.trained_by.name


def recall(records: Iterable[Mapping[str, Any]]) -> None:
    """Lets this process show runs of plug-ins by what was recorded of them. Raises KeyError, TypeError or ValueError
    where a record is none."""
    for record in records:
        KINDS[record["kind"]].stand_in(_STAND_INS[record["kind"]](record))


class _Recorded:
    """A plug-in as a run's config says it."""

    def __init__(self, record: Mapping[str, Any]):
        self.name, self.label = str(record["name"]), str(record["label"])


class _RecordedStage(_Recorded, StageSpec):
    recipe, run = Model, ""

    def __init__(self, record: Mapping[str, Any]):
        super().__init__(record)
        self.metrics = tuple(Metric(**metric) for metric in record["metrics"])
        self.leaves_encoder = bool(record["leaves_encoder"])
        if not self.metrics:
            raise ValueError(f"{self.name} has no metrics")


class _RecordedMethod(_Recorded, MethodSpec):
    config, model = MethodModel, ""


class _RecordedFamily(_Recorded, EncoderSpec):
    config, model, variants, small = EncoderModel, "", {}, ""


class _RecordedData(_Recorded, DataSpec):
    config, source = DataModel, ""


_STAND_INS = {
    stages.what: _RecordedStage,
    families.what: _RecordedFamily,
    sources.what: _RecordedData,
    methods.what: _RecordedMethod,
}
