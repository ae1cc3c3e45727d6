import argparse
import shutil

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

import mixmae
from mixmae.files.records import sha256
from mixmae.weights import stored
from mixmae.weights.description import Origin
from mixmae.weights.export import export
from mixmae.weights.inspection import inspect, lines
from support.checkout import GOLDEN
from support.opened_models import ENCODERS, PARTS, opened

WEIGHTS = "weights."


def golden(name):
    """The official state dict in a golden file."""
    tensors = load_file(GOLDEN / f"{name}.safetensors")
    return {key.removeprefix(WEIGHTS): tensor for key, tensor in tensors.items() if key.startswith(WEIGHTS)}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_our_files_say_what_they_are(tmp_path, encoder, part):
    one, path = opened(encoder, part), tmp_path / "w.safetensors"
    origin = Origin(kind="mae_vit_classifier", file="m.pth", sha256="0" * 64)
    stored.save(path, one.model, one.description, origin)
    found = inspect(path)
    assert found["format"] == "mixmae" and found["is"] == one.description.part
    assert found["description"] == one.description.model_dump(mode="json") and found["origin"] == origin.model_dump()
    state = one.model.state_dict()
    assert found["tensors"] == len(state) and found["parameters"] == sum(tensor.numel() for tensor in state.values())
    assert found["dtypes"] == {"float32": len(state)} and found["sha256"] == sha256(path)
    text = "\n".join(lines(found))
    assert one.description.part in text and "m.pth as mae_vit_classifier" in text and sha256(path) in text


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("mixmae_swin_128px", ["mixmae_pretrain"]),
        ("mixmae_swin_finetune_128px", ["mixmae_classifier"]),
        ("simmim_swin_128px", ["simmim_swin_pretrain"]),
        ("simmim_vit_64px", ["simmim_vit_pretrain"]),
        ("mae_vit_96px", ["mae_vit_pretrain"]),
        ("mae_swin_greenmim_128px", ["mae_swin_pretrain"]),
        ("pvt_v1_64px", ["pvt_classifier"]),
        ("twins_svt_224px", ["twins_svt_classifier", "timm_twins_svt_classifier"]),
    ],
)
def test_official_weights_are_recognised(tmp_path, name, kinds):
    state = golden(name)
    torch.save({"model": state, "optimizer": {}, "epoch": 3, "args": argparse.Namespace(lr=1)}, tmp_path / "w.pth")
    found = inspect(tmp_path / "w.pth")
    best = found["kinds"][: len(kinds)]
    assert [guess["kind"] for guess in best] == kinds
    assert all(guess["part"] == "whole" and guess["missing"] == 0 for guess in best)
    assert found["format"] == "torch" and found["wrapper"] == ["model"]
    assert found["beside"] == ["optimizer", "epoch", "args"]
    assert found["tensors"] == len(state)
    assert f"  --as {kinds[0]}: all tensors fit; " in "\n".join(lines(found))


def test_whether_shapes_decide_the_config(tmp_path):
    torch.save(golden("mixmae_swin_finetune_128px"), tmp_path / "decided.pth")
    (guess, *_) = inspect(tmp_path / "decided.pth")["kinds"]
    assert guess["kind"] == "mixmae_classifier" and guess["undecided"] == [] and guess["config"]["img_size"] == 128
    torch.save(golden("mixmae_swin_128px"), tmp_path / "not.pth")
    (guess, *_) = inspect(tmp_path / "not.pth")["kinds"]
    assert guess["config"] is None and "decoder_num_heads" in guess["undecided"]


def test_a_published_model_completes_the_config(tmp_path):
    with torch.device("meta"):
        model = timm.create_model("twins_svt_small")
    state = {
        name: torch.zeros(1, dtype=torch.float16).expand(t.shape).contiguous() for name, t in model.state_dict().items()
    }
    save_file(state, tmp_path / "w.safetensors")
    found = inspect(tmp_path / "w.safetensors")
    guesses = {guess["kind"]: guess for guess in found["kinds"]}
    assert guesses["timm_twins_svt_classifier"]["completed_by"] == "Twins-SVT-S in timm"
    assert guesses["timm_twins_svt_classifier"]["config"]["wss"] == [7, 7, 7, 7]
    assert found["format"] == "safetensors" and found["wrapper"] == [] and set(found["dtypes"]) == {"float16"}


def test_an_encoder_without_its_decoder(tmp_path):
    state = {
        name: tensor
        for name, tensor in golden("mae_vit_96px").items()
        if "decoder" not in name and name != "mask_token"
    }
    torch.save({"model": state}, tmp_path / "w.pth")
    (guess, *_) = inspect(tmp_path / "w.pth")["kinds"]
    assert (guess["kind"], guess["part"], guess["missing"]) == ("mae_vit_pretrain", "encoder", 0)
    assert "--encoder-only" in "\n".join(lines(inspect(tmp_path / "w.pth")))


def test_an_export_for_timm_is_recognised(tmp_path):
    export(opened("swin_stock", "classifier"), "timm", tmp_path / "w.safetensors", False)
    found = inspect(tmp_path / "w.safetensors")
    (guess, *_) = found["kinds"]
    assert guess["kind"] == "timm_swin_classifier" and guess["undecided"] == ["img_size"]
    export(opened("swin_stock", "classifier"), "mmdet-keys", tmp_path / "w.pth", False)
    for one in (found, inspect(tmp_path / "w.pth")):
        assert one["exported_by"] == mixmae.__version__ and any("exported by mixmae" in line for line in lines(one))


def test_weights_of_something_else_have_no_kind(tmp_path):
    save_file({"conv1.weight": torch.zeros(8, 3, 7, 7)}, tmp_path / "w.safetensors")
    found = inspect(tmp_path / "w.safetensors")
    assert found["kinds"] == [] and any("no kind of weights" in line for line in lines(found))


def test_bad_files_get_one_clear_line(tmp_path):
    class Hostile:
        def __reduce__(self):
            return (exec, (f"open({str(tmp_path / 'executed')!r}, 'w')",))

    torch.save({"model": Hostile()}, tmp_path / "hostile.pth")
    (tmp_path / "empty.pth").touch()
    (tmp_path / "text.pth").write_text("not a checkpoint")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"epoch": 1}, tmp_path / "no_weights.pth")
    export(opened("vit", "encoder"), "safetensors", tmp_path / "whole.safetensors", False)
    shutil.copy(tmp_path / "whole.safetensors", tmp_path / "cut.safetensors")
    with (tmp_path / "cut.safetensors").open("r+b") as file:
        file.truncate(file.seek(0, 2) - 10)
    for name in ("hostile.pth", "empty.pth", "text.pth", "list.pth", "no_weights.pth", "cut.safetensors"):
        with pytest.raises(ValueError) as error:
            inspect(tmp_path / name)
        assert "\n" not in str(error.value) and str(tmp_path / name) in str(error.value), str(error.value)
    with pytest.raises(FileNotFoundError, match="no such file"):
        inspect(tmp_path / "none.pth")
    assert not (tmp_path / "executed").exists()
