"""`browser` is Debian's chromium without a window, driven through chromedriver.

Without it the tests of this folder skip. Where MIXMAE_NEED_BROWSER=1 none of them may skip: it fails.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

from support.needed import failed_where_needed, say_skipped

PROGRAMS = {"chromium": "chromium", "chromedriver": "chromium-driver"}
"""And the Debian packages they come with."""
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip


def missing_for_tests() -> str | None:
    packages = [package for program, package in PROGRAMS.items() if not shutil.which(program)]
    return f"no browser here; apt-get install {' '.join(packages)}" if packages else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    return failed_where_needed((yield), "MIXMAE_NEED_BROWSER")


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report():
    return failed_where_needed((yield), "MIXMAE_NEED_BROWSER")


def pytest_terminal_summary(terminalreporter):
    if reason := missing_for_tests():
        say_skipped(terminalreporter, Path(__file__).parent, reason)


@pytest.fixture(scope="session")
def browser(tmp_path_factory) -> Iterator[Chrome]:
    if reason := missing_for_tests():
        pytest.skip(reason)
    options = ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options, Service(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()
