"""Without a browser the tests of this folder skip and say how to get it; where it is needed none of them may skip."""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def run(folder: Path, needed: str) -> str:
    """The folder's conftest on a machine that has no program at all."""
    (folder / "conftest.py").write_text((HERE / "conftest.py").read_text())
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_some.py").write_text("def test_with_a_browser(browser): pass\n\ndef test_that_passes(): pass\n")
    environment = {**os.environ, "PATH": "", "PYTHONPATH": str(HERE.parent), "MIXMAE_NEED_BROWSER": needed}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True).stdout


def test_a_machine_without_a_browser_skips_and_says_so(tmp_path):
    output = run(tmp_path, "")
    assert "1 passed, 1 skipped" in output
    assert "1 tests of . skipped: no browser here; apt-get install chromium chromium-driver" in output


def test_where_a_browser_is_needed_a_skip_is_a_failure(tmp_path):
    output = run(tmp_path, "1")
    assert "MIXMAE_NEED_BROWSER=1 forbids skipping: Skipped: no browser here" in output
    assert "1 failed, 1 passed" in output or "1 passed, 1 error" in output
