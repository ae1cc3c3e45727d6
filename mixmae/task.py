"""Where jobs that older versions submitted, and that wait in a queue, find what to run."""

from mixmae.work.task import run as run
