"""The command line: its frozen shape, its exit codes and messages, its JSON, and what it does not import."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

import ablations
import cli
import mixmae
from support.program import COMMAND

GRID = "base: digits_nano\nsweeps: [{name: all, product: {seed: [0, 1]}}]\n"

COMMANDS = {
    "": ["--debug", "--root", "--version"],
    "demo": ["--slots"],
    "run": [
        *("--checkpoint-activations", "--compile-blocks", "--save-minutes", "--save-steps", "--start-over"),
        *("--threads", "--track", "--workers", "EXPERIMENT"),
    ],
    "data check": ["--json", "DIR"],
    "data fetch": ["--from", "DATASET", "DIR"],
    "doctor": ["--data", "--json", "--site", "--submit"],
    "grid list": ["--json"],
    "grid plan": ["--executor", "--json", "--scale", "FILE"],
    "grid reference": ["--schema"],
    "grid run": ["--executor", "--scale", "--slots", "FILE"],
    "grid status": ["--every", "--json", "--scale", "--watch", "FILE"],
    "grid watch": ["--every", "--scale", "FILE"],
    "grid cancel": ["--encoder", "--method", "--scale", "--seed", "--stage", "FILE"],
    "grid retry": ["--encoder", "--failed", "--method", "--scale", "--seed", "--stage", "FILE"],
    "grid logs": ["--follow", "ID"],
    "grid why": ["--json", "ID"],
    "runs prune": ["--apply", "--grid", "--no-grid"],
    "results collect": ["--out", "--root"],
    "results table": ["--format", "--out", "--root", "--scale", "FILE"],
    "results check": ["--json", "--root", "--scale", "FILE"],
    "results best": ["--by", "--json", "--list", "--root", "--scale", "--sweep", "--top", "--within", "FILE"],
    "results diff": ["--json", "A", "B"],
    "results plot": ["--format", "--out", "--root", "--scale", "FILE"],
    "results gallery": ["--images", "--out", "--rows", "--seed", "SOURCE…"],
    "results report": ["--out", "--root", "--scale", "FILE"],
    "encoders": ["--json"],
    "recipes": ["--json"],
    "weights import": ["--as", "--config", "--encoder-only", "--out", "FILE"],
    "weights export": ["--encoder-only", "--out", "--to", "RUN"],
    "weights inspect": ["--json", "FILE"],
    "weights evaluate": ["--batch", "--data", "--eval-crop", "--workers", "FILE"],
    "weights published": ["--json"],
    "bench grid": ["--output", "--rounds", "--steps", "FILE"],
    "bench step": [
        "--batch", "--compare", "--image-size", "--ratio", "--record", "--repeats", "--threads", "ENCODER", "METHOD",
    ],
}  # fmt: skip
"""What scripts rely on: added to, never taken from."""


def shape(command, name: str = "") -> dict[str, list[str]]:
    """The options and arguments of every command below `command`."""
    words = [
        parameter.opts[0] if parameter.opts[0].startswith("-") else parameter.metavar or parameter.name.upper()
        for parameter in command.params
    ]
    inner = getattr(command, "commands", {})
    found = {name: sorted(word for word in words if word not in ("--install-completion", "--show-completion"))}
    for part, below in inner.items():
        found |= shape(below, f"{name} {part}".strip())
    return {name: words for name, words in found.items() if words or not inner}


def test_commands_and_options_are_frozen():
    found = shape(typer.main.get_command(cli.app))
    groups = ("grid", "runs", "results", "bench", "weights", "data")
    assert {name: words for name, words in found.items() if name not in groups} == COMMANDS


@pytest.mark.parametrize(
    "words",
    [["--help"], ["grid", "plan", "grid.yaml"], ["grid", "status", "grid.yaml", "--json"], ["doctor"]],
)
def test_no_torch_and_no_pandas_is_imported(tmp_path, words):
    (tmp_path / "grid.yaml").write_text(GRID)
    code = (
        f"import sys; sys.argv[1:] = {words}\nimport cli\ntry: cli.main()\nexcept SystemExit: pass\nprint(*sys.modules)"
    )
    modules = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    loaded = set(modules.stdout.splitlines()[-1].split())
    assert "mixmae.fields.documents" in loaded
    assert not loaded & {
        "torch",
        "timm",
        "torchvision",
        "pandas",
        "matplotlib",
        "seaborn",
        "sklearn",
        "submitit",
        "click",
    }


def test_plan_and_status_as_json(tmp_path, called):
    (tmp_path / "grid.yaml").write_text(GRID)
    plan = json.loads(called("grid", "plan", "grid.yaml", "--json", folder=tmp_path, check=0)[0])
    assert (plan["schema"], plan["grid"], plan["experiments"], plan["outside"]) == (1, "grid", 2, [])
    assert {(job["seed"], tuple(job["sweeps"])) for job in plan["jobs"]} == {(0, ("all",)), (1, ("all",))}
    status = json.loads(called("grid", "status", "grid.yaml", "--json", folder=tmp_path, check=0)[0])
    assert set(status) == {"schema", "grid", "jobs"}
    names = {
        "id",
        "stage",
        "method",
        "encoder",
        "state",
        "cause",
        "queued",
        "reason",
        "epoch",
        "epochs",
        "loss",
        "metric",
        "node",
        "tries",
    }
    assert all(set(job) == names for job in status["jobs"])
    assert [job["stage"] for job in status["jobs"]] == ["pretrain", "finetune", "linear", "knn"] * 2
    assert not (tmp_path / "runs").exists(), "planning writes nothing"


def test_plan_groups_seeds_and_numbers_what_is_needed(tmp_path, called):
    (tmp_path / "grid.yaml").write_text(GRID)
    out, _ = called("grid", "plan", "grid.yaml", folder=tmp_path, check=0)
    assert (
        "│ 1 │ pretrain │ mixmae │ swin_nano │ 32x32 px, 20 epochs, batch 32, ratio 0.5, decoder 2 x 64 (4 heads) "
        in out
    )
    assert out.count("│ 0, 1  │ #1    │ 2 planned │") == 3
    assert "2 experiments, 8 jobs (2 pretrain, 2 finetune, 2 linear, 2 knn): 8 planned\n" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["grid", "plan", "bad.yaml"], "bad.yaml:2:1: sweps: unknown field (did you mean sweeps?)\n"),
        (["run", "bad.yaml"], "bad.yaml:2:1: sweps: unknown field"),
        (["run", "none.yaml"], "none.yaml: cannot be read: No such file or directory; write the path of a YAML file\n"),
        (["grid", "logs", "ab"], "has an id that begins with 'ab'; mixmae grid status FILE lists them\n"),
        (["grid", "run", "bad.yaml", "--slots", "0"], "Invalid value for '--slots'"),
        (["results", "table", "grid.yaml"], "grid.yaml:1:1: names no tables; write tables: [{name: …}]\n"),
        (["results", "collect"], "no such folder; name the root that holds the runs\n"),
        (
            ["bench", "step", "mixmae", "swin_nano", "--image-size", "33"],
            "33 px is not a multiple of the encoder's unit",
        ),
        (["nonsense"], "No such command 'nonsense'"),
        (
            ["grid", "plan", "grid.yaml", "--root", "x"],
            "\n--root goes before the command: mixmae --root DIR grid plan …\n",
        ),
        (["run", "--root=x", "grid.yaml"], "\n--root goes before the command: mixmae --root DIR run …\n"),
        (["grid", "plan", "grid.yaml", "--debug"], "\n--debug goes before the command: mixmae --debug grid plan …\n"),
    ],
)
def test_bad_input_is_said_and_exits_2(tmp_path, words, message, called):
    (tmp_path / "bad.yaml").write_text("base: digits_nano\nsweps: []\n")
    (tmp_path / "grid.yaml").write_text(GRID)
    out, err = called(*words, folder=tmp_path, check=2)
    assert message in err and out == "" and "Traceback" not in err


def test_other_unknown_options_are_given_no_hint(tmp_path, called):
    _, err = called("grid", "plan", "grid.yaml", "--rot", folder=tmp_path, check=2)
    assert "No such option: --rot" in err and "goes before" not in err


def test_debug_shows_where_an_error_comes_from(tmp_path):
    command = [*COMMAND, "--debug", "grid", "plan", "none.yaml"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 2 and "Traceback" in ended.stderr and "none.yaml: no such file" in ended.stderr


def test_a_prefix_of_several_ids_is_refused(tmp_path, called):
    for id in ("ab01", "ab02"):
        folder = tmp_path / "runs" / "knn" / id
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
    _, err = called("grid", "logs", "ab", folder=tmp_path, check=2)
    assert err.startswith("2 runs have ids that begin with 'ab' (knn/ab01, knn/ab02") and "more of the id" in err


def test_the_root_is_the_option_else_the_variable_else_runs(tmp_path, monkeypatch, called):
    monkeypatch.setenv("MIXMAE_ROOT", str(tmp_path / "variable"))
    assert f"no run under {tmp_path / 'variable'} " in called("grid", "logs", "ab", folder=tmp_path, check=2)[1]
    assert "/option " in called("--root", "option", "grid", "logs", "ab", folder=tmp_path, check=2)[1]
    monkeypatch.delenv("MIXMAE_ROOT")
    assert f"no run under {tmp_path / 'runs'} " in called("grid", "logs", "ab", folder=tmp_path, check=2)[1]


def test_lists_and_version(tmp_path, called):
    assert called("--version", folder=tmp_path, check=0)[0] == f"mixmae {mixmae.__version__}\n"
    encoders = json.loads(called("encoders", "--json", folder=tmp_path, check=0)[0])["encoders"]
    assert {"swin_base_w14", "pvt_large", "vit_nano"} <= {row["name"] for row in encoders}
    recipes = json.loads(called("recipes", "--json", folder=tmp_path, check=0)[0])["recipes"]
    assert "digits_nano" in {row["name"] for row in recipes} and all(row["title"] for row in recipes)


def test_the_users_own_files_do_not_shadow_ours(tmp_path):
    (tmp_path / "results.py").write_text("raise ImportError")
    (tmp_path / "grid.yaml").write_text(GRID)
    environment = {**os.environ, "PYTHONPATH": ""}
    script = Path(sys.executable).parent / "mixmae"
    subprocess.run(
        [script, "grid", "plan", "grid.yaml"], cwd=tmp_path, env=environment, check=True, capture_output=True
    )


def test_the_demo_plans(tmp_path, called):
    out, _ = called("grid", "plan", str(Path(ablations.__file__).parent / "demo.yaml"), folder=tmp_path, check=0)
    assert " experiments, " in out


def test_run_says_what_a_grid_or_a_recipe_is_run_by(tmp_path, called):
    (tmp_path / "grid.yaml").write_text(GRID)
    _, said = called("run", "grid.yaml", folder=tmp_path, check=2)
    assert said == "grid.yaml is a grid, of several experiments; run it with: mixmae grid run grid.yaml\n"
    _, said = called("run", "digits_nano", folder=tmp_path, check=2)
    assert said == "digits_nano is a recipe; write a file with the line base: digits_nano, and name that\n"
