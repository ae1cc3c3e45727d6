"""What the command line makes of the grids and mistakes beside this: ids, bits and sentences, to be compared."""

import contextlib
import hashlib
import io
import json
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

from frozen.images import write_empty, write_images
from frozen.mistakes import EXPERIMENTS, GRIDS, SLURMS, one_grid

HERE = Path(__file__).parent
OWN = HERE / "grids"
COMMAND = [sys.executable, "-P", "-m", "cli"]
LEFT = ("metrics.jsonl", "result.json", "checkpoints/final.safetensors")


def prepare(folder: Path, weights: Path, images: Path) -> None:
    """Images, and imported weights, for the grids; the environment and the working directory that they are read in.
    What is in `images` already is used as it is."""
    os.environ["FROZEN_IMAGES"] = str(images / "images")
    os.environ["XDG_CONFIG_HOME"] = str(folder / "config")
    os.environ["IMAGENET"] = str(images / "imagenet")
    if not (images / "imagenet").exists():
        write_images(images / "images", classes=3, train=24, val=8)
        write_empty(images / "imagenet", classes=10, train=500, val=10)
    (folder / "weights.safetensors").write_bytes(weights.read_bytes())
    os.chdir(folder)


def ask(*words: str) -> tuple[int, str, str]:
    """The exit code of `mixmae WORDS`, run in this process, and what it wrote to standard output and error."""
    import cli

    out, err, code = io.StringIO(), io.StringIO(), 0
    before, sys.argv = sys.argv, ["mixmae", *words]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            cli.main()
    except SystemExit as ended:
        code = ended.code or 0
    finally:
        sys.argv = before
    return code, out.getvalue(), err.getvalue()


def ids(folder: Path) -> dict[str, list[str]]:
    """STAGE/ID of every job of every shipped grid, at both scales, and of the grid with every field. A grid that is
    small already cannot be planned at the laptop's scale: then what is said of it."""
    grids = [grid["name"] for grid in json.loads(ask("grid", "list", "--json")[1])["grids"]]
    asked = {name: [name] for name in grids} | {f"{name} at laptop": [name, "--scale", "laptop"] for name in grids}
    for name in ("demo", "laptop"):  # which are others since
        own = str(OWN / f"{name}_of_digits.yaml")
        asked |= {name: [own], f"{name} at laptop": [own, "--scale", "laptop"]}
    asked["every field"] = [str(OWN / "every_field.yaml")]
    found = {}
    for name, words in asked.items():
        code, out, err = ask("--root", str(folder / "none"), "grid", "plan", *words, "--json")
        jobs = json.loads(out)["jobs"] if code == 0 else []
        found[name] = [f"{job['stage']}/{job['id']}" for job in jobs] or [err.partition(": ")[2].splitlines()[0]]
    return found


def sentences(folder: Path) -> Iterator[tuple[str, str]]:
    """(mistake, what is said of it)."""
    path = folder / "file.yaml"
    asked = [("run", text, name, []) for name, text in EXPERIMENTS.items()]
    asked += [("grid plan", text, name, []) for name, text in GRIDS.items()]
    asked += [("grid plan", one_grid(text), f"slurm: {name}", ["--executor", "slurm"]) for name, text in SLURMS.items()]
    for command, text, name, more in asked:
        path.write_text(text)
        code, out, err = ask("--root", str(folder / "none"), *command.split(), "file.yaml", *more)
        yield f"{command}: {name}", f"{code}: {err}".replace(f"{folder}/", "").replace(str(folder), "HERE")


def run_all(root: Path, one: Callable, two: Callable) -> None:
    """Runs all that leaves bits. one, two: start the command with those words, two as two processes that meet."""
    words = ("--root", str(root))
    grid = one((*words, "grid", "run", str(OWN / "tiny.yaml")))
    pair = two((*words, "run", str(OWN / "two_processes.yaml")))
    for process in (*pair, grid):
        said = process.communicate()[1]
        assert process.returncode == 0, said
    more = ("--checkpoint-activations", "--workers", "1")
    code, _, said = ask(*words, "run", str(OWN / "checkpointed.yaml"), *more)
    assert code == 0, said


def begun(words: tuple[str, ...], **environment: str) -> subprocess.Popen:
    """The command as a process."""
    here = {**os.environ, **environment}
    return subprocess.Popen([*COMMAND, *words], env=here, stderr=subprocess.PIPE, text=True)


def two_begun(words: tuple[str, ...]) -> list[subprocess.Popen]:
    """The command as two processes that meet, as torchrun starts them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    return [begun(words, **shared, RANK=rank, LOCAL_RANK=rank) for rank in "01"]


def bits(root: Path) -> dict[str, dict[str, str]]:
    """By run that is done, the sha256 of each file it leaves that repeats. Of result.json that of what it was before
    predictions were kept: all but the name and the hash of their file."""
    found = {}
    for result in sorted(root.glob("*/*/result.json")):
        run = result.parent
        left = {name: (run / name).read_bytes() for name in LEFT if (run / name).exists()}
        left[result.name] = _without_predictions(result)
        found[f"{run.parent.name}/{run.name}"] = {name: hashlib.sha256(left[name]).hexdigest() for name in left}
    return found


def _without_predictions(result: Path) -> bytes:
    """Written out here, since what lies where in the library was another at older commits."""
    data = json.loads(result.read_bytes())
    if data["files"].pop("predictions.safetensors", None) is None:
        return result.read_bytes()
    del data["checksum"]
    canonical = json.dumps(data, sort_keys=True, separators=(",", ":"))
    data["checksum"] = hashlib.blake2b(canonical.encode(), digest_size=8).hexdigest()
    return (json.dumps(data, indent=1, ensure_ascii=False) + "\n").encode()


def losses(root: Path) -> dict[str, list[float]]:
    """By run, the loss of each epoch; of a run without epochs its figures."""
    found = {}
    for config in sorted(root.glob("*/*/config.json")):
        run = config.parent
        result = json.loads((run / "result.json").read_text())
        lines = (run / "metrics.jsonl").read_text().splitlines() if (run / "metrics.jsonl").exists() else []
        figures = [json.loads(line)["loss"] for line in lines] or [result["top1"], result["top5"]]
        found[f"{run.parent.name}/{run.name}"] = figures
    return found


def machine() -> dict[str, str]:
    """What bits hold for: the type of CPU and the versions."""
    import torch

    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    wanted = ("vendor_id", "cpu family", "model", "model name")
    named = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    cpu = " ".join(named[name] for name in wanted if name in named) or platform.processor()
    packages = ("torch", "torchvision", "timm", "numpy", "pillow", "scikit-learn")
    capability = torch.backends.cpu.get_cpu_capability()
    return {"cpu": f"{cpu}, {capability}", "python": sys.version.split()[0]} | {one: version(one) for one in packages}
