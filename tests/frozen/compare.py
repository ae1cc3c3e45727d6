"""Compares this checkout with another commit, bit for bit, on this machine: python tests/frozen/compare.py COMMIT.

Both run the frozen grids here, so that neither the CPU nor the versions of packages play a part. Exits with 1 where a
file differs. Takes some minutes.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
RECORD = """
import json, sys, tarfile
from pathlib import Path
from frozen.recording import HERE, begun, bits, ids, prepare, run_all, two_begun
folder = Path(sys.argv[1])
with tarfile.open(HERE / "root.tar.gz") as archive:
    archive.extractall(folder, filter="data")
prepare(folder, folder / "export" / "encoder.safetensors", folder)
known = ids(folder)  # before runs change the working directory
run_all(folder / "runs", begun, two_begun)
(folder / "found.json").write_text(json.dumps({"bits": bits(folder / "runs"), "ids": known}))
"""


def main(commit: str) -> int:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name).resolve()
        checkout = TESTS.parent
        subprocess.run(["git", "-C", checkout, "worktree", "add", "--detach", place / "other", commit], check=True)
        try:
            other, this = found(place / "other", place / "a"), found(checkout, place / "b")
        finally:
            subprocess.run(["git", "-C", checkout, "worktree", "remove", "--force", place / "other"], check=True)
    different = 0
    for kind in ("bits", "ids"):
        for key in other[kind]:
            if this[kind].get(key) != other[kind][key]:
                different += 1
                print(f"{kind}: {key} differs: {other[kind][key]} at {commit}, {this[kind].get(key)} here")
    print(f"{len(other['bits'])} runs and {sum(map(len, other['ids'].values()))} ids compared, {different} differ")
    return int(bool(different))


def found(code: Path, folder: Path) -> dict:
    folder.mkdir()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(code), str(TESTS))), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-P", "-c", RECORD, folder], env=environment, cwd=folder, check=True)
    return json.loads((folder / "found.json").read_text())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
