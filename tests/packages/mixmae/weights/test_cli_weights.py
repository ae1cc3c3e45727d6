"""The `mixmae weights` commands as a user types them: what they print, write and refuse, and their exit codes."""

import json
import os
import pickle

import pytest
import torch
from safetensors import safe_open

from mixmae.training.resources import Resources
from mixmae.work.execution import execute
from support.checkout import GOLDEN
from support.pickles import Runs
from support.tiny_jobs import experiment, never, planned_runs


@pytest.fixture
def theirs(tmp_path):
    """A checkpoint of MixMIM's fine-tuning class."""
    with safe_open(GOLDEN / "mixmae_swin_finetune_128px.safetensors", "pt") as file:
        names = [name for name in file.keys() if name.startswith("weights.")]  # noqa: SIM118
        state = {name.removeprefix("weights."): file.get_tensor(name) for name in names}
    torch.save({"model": state, "epoch": 99}, tmp_path / "theirs.pth")
    return tmp_path / "theirs.pth"


def test_import_inspect_export(tmp_path, theirs, called):
    words = ["weights", "import", "theirs.pth", "--as", "mixmae_classifier", "-o", "ours.safetensors"]
    out, _ = called(*words, folder=tmp_path, check=0)
    assert out.splitlines() == [
        "classifier of 10 classes: swin, 128 x 128 px, 0.38 M parameters",
        "83 tensors mapped, 0 recomputed, 0 left out",
        "ours.safetensors",
    ]
    foreign = json.loads(called("weights", "inspect", "theirs.pth", "--json", folder=tmp_path, check=0)[0])
    assert "mixmae_classifier" in json.dumps(foreign)
    ours = called("weights", "inspect", "ours.safetensors", folder=tmp_path, check=0)[0]
    assert "classifier of 10 classes" in ours and "theirs.pth" in ours
    out, _ = called("weights", "export", "ours.safetensors", "--to", "safetensors", folder=tmp_path, check=0)
    written = [tmp_path / line for line in out.splitlines()]
    assert len(written) == 2 and all(path.is_file() for path in written)


def test_a_run_is_exported_for_timm(tmp_path, called):
    run = planned_runs(tmp_path / "runs", experiment("simmim", "twins_svt", pretrain={"epochs": 1, "warmup_epochs": 0}))
    assert execute(run["pretrain"], Resources(), never) == "done"
    words = ["weights", "export", run["pretrain"].id[:6], "--to", "timm", "--encoder-only", "-o", "encoder.safetensors"]
    called(*words, folder=tmp_path, check=0)
    card = (tmp_path / "encoder.safetensors.md").read_text()
    assert run["pretrain"].id in card and "timm.create_model(" in card


def test_a_config_is_a_yaml_file(tmp_path, called):
    with safe_open(GOLDEN / "pvt_v1_64px.safetensors", "pt") as file:
        config = json.loads(file.metadata()["meta"])["config"]
        names = [name for name in file.keys() if name.startswith("weights.")]  # noqa: SIM118
        torch.save({name.removeprefix("weights."): file.get_tensor(name) for name in names}, tmp_path / "pvt.pth")
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    words = ["weights", "import", "pvt.pth", "--as", "pvt_classifier", "-o", "out.safetensors"]
    assert "do not decide num_heads" in called(*words, folder=tmp_path, check=2)[1]
    called(*words, "--config", "config.yaml", folder=tmp_path, check=0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["import", "none.pth", "--as", "pvt_classifier"], "none.pth: no such file"),
        (["import", "text.pth", "--as", "pvt_classifier"], "text.pth: not a checkpoint"),
        (["import", "cut.pth", "--as", "mixmae_classifier"], "cut.pth: not a checkpoint, or a damaged one"),
        (["import", "evil.pth", "--as", "mixmae_classifier"], "evil.pth: needs posix.system to be read"),
        (["import", "raw.pth", "--as", "mixmae_classifier"], "raw.pth: "),
        (["import", "theirs.pth", "--as", "pvt_clasifier"], "no such kind of weights; did you mean pvt_classifier?"),
        (["import", "theirs.pth", "--as", "mixmae_pretrain"], "it has no head.bias, head.weight"),
        (
            ["import", "theirs.pth", "--as", "mixmae_classifier", "--config", "bad.yaml"],
            "bad.yaml:1:1: depth: not an argument of a mixmae_classifier; did you mean depths?",
        ),
    ],
)
def test_bad_input_is_one_line_and_leaves_the_output(tmp_path, theirs, words, message, called):
    (tmp_path / "text.pth").write_text("hello")
    (tmp_path / "cut.pth").write_bytes(theirs.read_bytes()[:-500])
    evil = Runs(os.system, f"touch {tmp_path / 'trace'}")
    torch.save({"model": evil}, tmp_path / "evil.pth")
    (tmp_path / "raw.pth").write_bytes(pickle.dumps(evil))
    (tmp_path / "bad.yaml").write_text("depth: 3\n")
    (tmp_path / "out.safetensors").write_text("precious")
    out, err = called("weights", *words, "-o", "out.safetensors", folder=tmp_path, check=2)
    assert message in err and err.count("\n") == 1 and out == ""
    assert (tmp_path / "out.safetensors").read_text() == "precious" and not (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["inspect", "none"], "none: no such file"),
        (["export", "none", "--to", "timm"], "no run under "),
        (["export", "theirs.pth", "--to", "timm"], "import it first"),
        (["evaluate", "theirs.pth", "--data", "images"], "import it first"),
    ],
)
def test_what_cannot_be_is_said(tmp_path, theirs, words, message, called):
    _, err = called("weights", *words, folder=tmp_path, check=2)
    assert message in err and err.count("\n") == 1


def test_published_are_listed(tmp_path, called):
    found = json.loads(called("weights", "published", "--json", folder=tmp_path, check=0)[0])
    assert found["schema"] == 1 and len(found["checkpoints"]) > 30
