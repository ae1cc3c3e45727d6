"""Writes to MLflow: to MLFLOW_TRACKING_URI, else to ROOT/mlflow.db.

MLflow chooses the ids of its runs. A resumed run is found again by our id, which is the tag `mixmae.id`.
"""

import os
import time
from collections.abc import Iterator
from typing import Any

import mlflow
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException

from mixmae.tracking.tracker import Tracked

STATUS = {"done": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}
MOST_PARAMS = 100
"""The most parameters that MLflow takes in one call."""
LONGEST_PARAM = 6000
"""The most characters of a parameter's value."""


class MLflow:
    """A run in the experiment of its method and encoder, or in the one that MLFLOW_EXPERIMENT_NAME names."""

    def __init__(self, tracked: Tracked, steps: list[int]):
        local = None if mlflow.is_tracking_uri_set() else f"sqlite:///{tracked.run.root / 'mlflow.db'}"
        self._client = mlflow.MlflowClient(local)
        experiment = self._experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME") or tracked.experiment)
        self._run = self._continued(experiment, tracked) or self._begun(experiment, tracked)
        self._held = {metric.step for metric in self._client.get_metric_history(self._run, "epoch")}
        self.where = f"{self._client.tracking_uri}, run {self._run}"

    def _experiment(self, name: str) -> str:
        if experiment := self._client.get_experiment_by_name(name):
            return experiment.experiment_id
        try:
            return self._client.create_experiment(name)
        except MlflowException:  # another process has just made it
            if experiment := self._client.get_experiment_by_name(name):
                return experiment.experiment_id
            raise

    def _continued(self, experiment: str, tracked: Tracked) -> str | None:
        for run in self._client.search_runs([experiment], f"tags.`mixmae.id` = '{tracked.run.id}'", max_results=1):
            self._client.update_run(run.info.run_id, status="RUNNING")
            return run.info.run_id
        return None

    def _begun(self, experiment: str, tracked: Tracked) -> str:
        tags = {"mixmae.id": tracked.run.id, "mixmae.stage": tracked.run.stage}
        run = self._client.create_run(experiment, tags=tags, run_name=tracked.name).info.run_id
        params = [Param(name, str(value)[:LONGEST_PARAM]) for name, value in _flat(tracked.config)]
        for first in range(0, len(params), MOST_PARAMS):
            self._client.log_batch(run, params=params[first : first + MOST_PARAMS])
        return run

    def holds(self, step: int) -> bool:
        return step in self._held

    def add(self, step: int, figures: dict[str, float]) -> None:
        now = time.time_ns() // 1_000_000
        self._client.log_batch(self._run, [Metric(name, value, now, step) for name, value in figures.items()])

    def close(self, ended: str) -> None:
        self._client.set_terminated(self._run, STATUS[ended])


def _flat(config: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (dotted name, value) of every field."""
    for name, value in config.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value
