"""Tests of a folder that need what not every machine has: there they skip and say so, but where a variable of the
environment is 1 none of them may skip, it fails."""

import os
from pathlib import Path


def failed_where_needed(report, variable: str):
    """The report of a test or of a module; a skip is made a failure where `variable` says so."""
    if os.environ.get(variable) == "1" and report.skipped and not hasattr(report, "wasxfail"):
        *_, reason = report.longrepr if isinstance(report.longrepr, tuple) else (report.longrepr,)
        report.outcome = "failed"
        report.longrepr = f"{variable}=1 forbids skipping: {reason}"
    return report


def say_skipped(terminalreporter, here: Path, reason: str) -> None:
    """Said aloud, since a suite without the tests in `here` looks as green as one with them."""
    root = terminalreporter.config.rootpath
    reports = terminalreporter.stats.get("skipped", [])
    skipped = [report for report in reports if (root / report.nodeid.partition("::")[0]).is_relative_to(here)]
    if skipped:
        terminalreporter.section(here.name)
        terminalreporter.write_line(f"{len(skipped)} tests of {os.path.relpath(here, root)} skipped: {reason}")
