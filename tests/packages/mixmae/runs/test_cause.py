"""Causes: the job's own, accounting's, and those that older versions wrote as sentences."""

import errno

import pytest
import torch

from ablations.slurm.policy import CAUSES, WORDS
from ablations.slurm.resources import Retries
from mixmae.data.reading import Unreadable
from mixmae.runs.cause import Cause, cause_of, recorded_cause
from mixmae.runs.lease import Lost
from mixmae.training.progress import Diverged
from mixmae.training.session import Stopped


def test_every_cause_has_a_key_of_retries_and_every_key_its_words():
    assert {cause.retries for cause in Cause} == set(Retries.model_fields) == set(WORDS)
    assert {cause.retries for cause in CAUSES.values()} == {"preempted", "node_failure", "timeout", "out_of_memory"}


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (Stopped("saved at step 3 of 9"), Cause.SIGNAL),
        (KeyboardInterrupt(), Cause.SIGNAL),
        (Diverged("step 3 gave no numbers"), Cause.DIVERGED),
        (Unreadable("a.jpg: cannot be read"), Cause.BAD_DATA),
        (Lost("taken over"), Cause.LEASE_LOST),
        (MemoryError(), Cause.OUT_OF_MEMORY),
        (torch.OutOfMemoryError("CUDA out of memory"), Cause.OUT_OF_MEMORY),
        (OSError(errno.ENOSPC, "No space left on device"), Cause.DISK),
        (FileNotFoundError(errno.ENOENT, "No such file or directory"), Cause.ERROR),
        (ValueError("labels_per_class: 9 …"), Cause.ERROR),
    ],
)
def test_what_an_error_means(error, cause):
    assert cause_of(error) is cause


@pytest.mark.parametrize(
    ("state", "reason", "cause"),
    [
        ("done", None, None),
        ("stopped", "saved at step 3 of 9", Cause.SIGNAL),
        ("stopped", "lost process 1: it has given no sign of life for 30 s", Cause.LOST_PROCESS),
        ("failed", "its process died twice (killed, out of memory or crashed); see log.txt", Cause.KILLED),
        ("failed", "out of memory 1 times; mixmae grid retry queues it again", Cause.OUT_OF_MEMORY),
        ("failed", "its time limit came and reached nothing new; mixmae grid retry queues it again", Cause.TIME_LIMIT),
        ("failed", "KeyError: 'x'", Cause.ERROR),
    ],
)
def test_sentences_of_older_versions(state, reason, cause):
    assert recorded_cause({"state": state, "reason": reason}) is cause


def test_a_cause_of_a_newer_version_is_an_error_of_some_kind():
    assert recorded_cause({"state": "failed", "cause": "sunspots"}) is Cause.ERROR
