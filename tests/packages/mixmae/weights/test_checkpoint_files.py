"""Reading checkpoints as they are found, and hostile ones: nothing in a file is ever executed."""

import argparse
import os
import pathlib
import pickle
import sys
import types
from collections import OrderedDict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from mixmae.weights.files import read_checkpoint, unwrapped
from support.pickles import Runs

STATE = {"layer.weight": torch.arange(6.0).reshape(2, 3), "layer.bias": torch.ones(2)}


def assert_is_the_state(found: dict) -> None:
    assert found.keys() == STATE.keys() and all(torch.equal(found[name], STATE[name]) for name in STATE)


def yacs_config(monkeypatch) -> dict:
    """A config as yacs pickles it, from a module that the reader does not have."""
    module = types.ModuleType("yacs.config")

    class CfgNode(dict):
        pass

    CfgNode.__module__, CfgNode.__qualname__ = "yacs.config", "CfgNode"
    module.CfgNode = CfgNode
    monkeypatch.setitem(sys.modules, "yacs", types.ModuleType("yacs"))
    monkeypatch.setitem(sys.modules, "yacs.config", module)
    node = CfgNode(MODEL=CfgNode(TYPE="swin", DEPTHS=[2, 2]), LR=1e-3)
    node.__dict__.update({"__immutable__": True, "__deprecated_keys__": set(), "__renamed_keys__": {}})
    return node


@pytest.mark.parametrize("legacy", [False, True])
def test_reads_what_official_code_saves(tmp_path, monkeypatch, legacy):
    path = tmp_path / "checkpoint.pth"
    checkpoint = {
        "model": OrderedDict({f"module.{name}": tensor for name, tensor in STATE.items()}),
        "optimizer": {
            "state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.zeros(2)}},
            "param_groups": [{"lr": 1.0}],
        },
        "args": argparse.Namespace(lr=1e-3, output_dir=pathlib.Path("out"), betas=(0.9, 0.95), nothing=None),
        "config": yacs_config(monkeypatch),
        "epoch": 599,
        "max_accuracy": np.float64(85.1),
        "best": np.float32(1.0),
        "scaler": {"scale": 65536.0, "_growth_tracker": 0},
    }
    torch.save(checkpoint, path, _use_new_zipfile_serialization=not legacy)
    monkeypatch.undo()
    assert "yacs" not in sys.modules
    found = read_checkpoint(path)
    assert found["epoch"] == 599 and found["config"]["MODEL"]["TYPE"] == "swin" and found["max_accuracy"] == 85.1
    assert found["args"].betas == (0.9, 0.95)
    assert_is_the_state(unwrapped(found))


@pytest.mark.parametrize("wrapper", ["model", "state_dict", "model_state_dict", "module", None])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_wrappers_and_prefixes(wrapper, prefix):
    state = {prefix + name: tensor for name, tensor in STATE.items()}
    assert_is_the_state(unwrapped({wrapper: state, "epoch": 1} if wrapper else state))


def test_a_prefix_of_some_names_only_is_part_of_them():
    state = {"module.weight": torch.ones(1), "other": torch.ones(1)}
    assert unwrapped(state).keys() == state.keys()


def test_reads_safetensors_whatever_the_name(tmp_path):
    save_file(STATE, tmp_path / "weights.bin")
    assert_is_the_state(unwrapped(read_checkpoint(tmp_path / "weights.bin")))


@pytest.mark.parametrize(
    ("checkpoint", "message"),
    [
        ({}, "the state dict is empty"),
        ({"model": {}}, "the state dict is empty"),
        ({"epoch": 3, "args": None}, "no state dict among epoch, args; wanted one under model, state_dict"),
        ({"weight": torch.ones(1), "steps": 7}, "steps: a int among the weights"),
    ],
)
def test_no_state_dict(checkpoint, message):
    with pytest.raises(ValueError, match=message):
        unwrapped(checkpoint)


# -------------------------------------------------------------------------------------------------------------- hostile


def written(path, thing, how: str) -> None:
    if how == "pickle":
        path.write_bytes(pickle.dumps(thing))
    else:
        torch.save(thing, path, _use_new_zipfile_serialization=how == "zip")


@pytest.mark.parametrize("how", ["zip", "legacy", "pickle"])
@pytest.mark.parametrize("where", ["top", "beside", "inside"])
def test_a_hostile_pickle_is_refused_and_runs_nothing(tmp_path, how, where):
    trace = tmp_path / "trace"
    evil = Runs(os.system, f"touch {trace}")
    thing = {"top": evil, "beside": {"model": STATE, "args": evil}, "inside": {"model": {**STATE, "x": evil}}}[where]
    written(tmp_path / "evil.pth", thing, how)
    with pytest.raises(ValueError, match="evil.pth: ") as error:
        read_checkpoint(tmp_path / "evil.pth")
    assert not trace.exists()
    if how != "pickle":
        assert "needs posix.system to be read" in str(error.value) and "nothing in it was executed" in str(error.value)
    # The test can fail: plain pickle does run it.
    with open(tmp_path / "plain", "wb") as file:
        pickle.dump(evil, file)
    with open(tmp_path / "plain", "rb") as file:
        pickle.load(file)
    assert trace.exists()


CALLS = [
    (eval, "open('{}', 'w')"),
    (exec, "open('{}', 'w')"),
    (open, "{}", "w"),
    (os.mkdir, "{}"),
    (pathlib.Path.touch, pathlib.Path("{}")),
    (getattr, os, "mkdir"),
    (__import__, "antigravity"),
]


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call[0].__name__)
def test_no_function_is_called(tmp_path, call):
    trace = tmp_path / "trace"
    function, *arguments = call
    filled = [
        str(a).format(trace) if isinstance(a, str) else type(a)(trace) if a is not os else "os" for a in arguments
    ]
    torch.save({"model": STATE, "args": Runs(function, *filled)}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match="refused, nothing in it was executed|cannot be read safely"):
        read_checkpoint(tmp_path / "evil.pth")
    assert not trace.exists() and "antigravity" not in sys.modules


# -------------------------------------------------------------------------------------------------------------- damaged


@pytest.mark.parametrize("content", [b"", b"{", b"PK\x03\x04", b"hello, I am text\n" * 9, b"\x80\x02.", b"\x00" * 64])
def test_what_is_no_checkpoint(tmp_path, content):
    path = tmp_path / "file.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="file.pth: ") as error:
        read_checkpoint(path)
    assert "\n" not in str(error.value)


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_checkpoint(tmp_path / "none")
    with pytest.raises(ValueError, match="a folder; write the path of a file in it"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("legacy", [False, True, None])
@settings(max_examples=25, deadline=None)
@given(share=st.floats(0, 0.999))
def test_truncated_files(tmp_path_factory, legacy, share):
    path = tmp_path_factory.mktemp("cut") / "file"
    if legacy is None:
        save_file(STATE, path)
    else:
        torch.save({"model": STATE}, path, _use_new_zipfile_serialization=not legacy)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ValueError, match="file: "):
        read_checkpoint(path)


@settings(max_examples=40, deadline=None)
@given(place=st.floats(0, 0.999), bit=st.integers(0, 7))
def test_a_flipped_bit_is_noticed_or_harmless(tmp_path_factory, place, bit):
    path = tmp_path_factory.mktemp("flip") / "file"
    torch.save({"model": STATE}, path)
    content = bytearray(path.read_bytes())
    content[int(len(content) * place)] ^= 1 << bit
    path.write_bytes(content)
    try:
        found = unwrapped(read_checkpoint(path))
    except ValueError:
        return
    assert_is_the_state(found)
