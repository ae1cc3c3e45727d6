"""What a launcher writes into run folders."""

from ablations.plan.queueing import create_run
from mixmae.experiment.jobs import stage_jobs
from support.made_runs import FINGERPRINT, experiment, write_config


def test_of_a_run_that_is_done_nothing_is_recorded_anew_of_what_computed_it(tmp_path):
    """As where a plug-in has become part of the program since."""
    planned = stage_jobs(experiment(), lambda data: FINGERPRINT)[0]
    run = write_config(tmp_path, planned)
    run.write("config", {**run.read("config"), "plugins": [{"name": "mixmae", "sha256": "0"}]})
    create_run(tmp_path, planned)
    assert "plugins" not in run.read("config")
    run.write("config", {**run.read("config"), "plugins": [{"name": "mixmae", "sha256": "0"}]})
    run.write("result", {"loss": 0.5})
    create_run(tmp_path, planned)
    assert run.read("config")["plugins"] == [{"name": "mixmae", "sha256": "0"}]
