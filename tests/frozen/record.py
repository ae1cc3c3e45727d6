"""Writes the records beside this: python tests/frozen/record.py, with the code of the commit to be held on to on
PYTHONPATH. They were made once, of the commit that each names, and are changed only with what is meant to change."""

import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import mixmae
from frozen.recording import HERE, begun, bits, ids, losses, machine, prepare, run_all, sentences, two_begun

RECORDS = ("ids", "mistakes", "bits")


def main(wanted: list[str]) -> None:
    commit = subprocess.run(
        ["git", "-C", Path(mixmae.__file__).parents[1], "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        with tarfile.open(HERE / "root.tar.gz") as archive:
            archive.extractall(folder, filter="data")
        prepare(folder, folder / "export" / "encoder.safetensors", folder)
        if "ids" in wanted:
            write("ids", commit, grids=ids(folder))
        if "mistakes" in wanted:
            write("mistakes", commit, said=dict(sentences(folder)))
        if "bits" in wanted:
            run_all(folder / "runs", begun, two_begun)
            found = {"files": bits(folder / "runs"), "losses": losses(folder / "runs")}
            write("bits", commit, machine=machine(), **found)
    os.chdir(HERE)


def write(name: str, commit: str, **found) -> None:
    text = json.dumps({"commit": commit, **found}, indent=1, ensure_ascii=False)
    (HERE / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:] or list(RECORDS))
