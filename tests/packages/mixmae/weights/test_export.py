import json
import logging
import os
from pathlib import Path

import pytest
import timm
import torch
from pydantic import TypeAdapter
from safetensors.torch import load_file, save_file

from mixmae.methods.methods import MethodConfig
from mixmae.runs.folder import RunFolder
from mixmae.training.checkpoints import write_weights
from mixmae.weights import export as exporting
from mixmae.weights import stored
from mixmae.weights.card import Facts
from mixmae.weights.description import Description, Origin
from mixmae.weights.export import export, timm_model_of
from mixmae.weights.opened import open_file, open_run
from support import small
from support.opened_models import ENCODERS, PARTS, STOCK, images, opened, same
from support.tiny_jobs import experiment, planned_runs

IN_TIMM = ("swin_stock", "twins_svt", "vit")


@torch.no_grad()
def output(model, x):
    """Logits of a classifier, features of an encoder."""
    return model.logits(x) if hasattr(model, "logits") else getattr(model, "encoder", model).features(x)


# ---------------------------------------------------------------------------------------------------------- our files


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_our_file_round_trip(tmp_path, encoder, part):
    one = opened(encoder, part)
    export(one, "safetensors", tmp_path / "w.safetensors", False)
    again = open_file(tmp_path / "w.safetensors")
    assert again.description == one.description
    for name, tensor in one.model.state_dict().items():
        assert torch.equal(tensor, again.model.state_dict()[name]), name
    assert torch.equal(output(again.model, images()), output(one.model, images()))
    assert (tmp_path / "w.safetensors.md").read_text().startswith("# ")


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_encoder_alone(tmp_path, encoder, part):
    one = opened(encoder, part)
    export(one, "safetensors", tmp_path / "w.safetensors", True)
    again = open_file(tmp_path / "w.safetensors")
    assert again.description == one.description.alone()
    assert all(name.startswith("encoder.") for name in load_file(tmp_path / "w.safetensors"))
    alone = one.model if part == "encoder" else one.model.encoder
    assert torch.equal(again.model.features(images()), alone.features(images()))


def test_an_imported_file_keeps_its_origin(tmp_path):
    origin = Origin(kind="mae_vit_classifier", file="m.pth", sha256="0" * 64)
    one = opened("vit", "classifier")
    stored.save(tmp_path / "in.safetensors", one.model, one.description, origin)
    export(open_file(tmp_path / "in.safetensors"), "safetensors", tmp_path / "out.safetensors", False)
    assert open_file(tmp_path / "out.safetensors").facts.origin == origin.model_dump()
    assert "CC-BY-NC 4.0" in (tmp_path / "out.safetensors.md").read_text()


# --------------------------------------------------------------------------------------------------------------- timm


def call_of_the_card(card, folder, monkeypatch):
    """Runs the code that the card says loads the file, beside the file."""
    text = card.read_text().split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(folder)
    scope = {}
    exec(text, scope)  # noqa: S102 - the card's promise is that its code works
    return scope


@pytest.mark.parametrize("part", ["classifier", "encoder"])
@pytest.mark.parametrize("encoder", IN_TIMM)
def test_timm_gives_the_same(tmp_path, monkeypatch, encoder, part):
    one = opened(encoder, part)
    assert export(one, "timm", tmp_path / "w.safetensors", False).warnings == []
    theirs = call_of_the_card(tmp_path / "w.safetensors.md", tmp_path, monkeypatch)["model"].eval()
    strict = timm.create_model(timm_model_of(one.description).entry, **timm_model_of(one.description).arguments).eval()
    strict.load_state_dict(load_file(tmp_path / "w.safetensors"), strict=True)
    with torch.no_grad():
        same(theirs(images()), output(one.model, images()))
        same(strict(images()), output(one.model, images()))


@pytest.mark.parametrize("encoder", IN_TIMM)
def test_timm_takes_the_encoder_of_a_pretraining(tmp_path, encoder):
    one = opened(encoder, "pretraining")
    with pytest.raises(ValueError, match="--encoder-only"):
        export(one, "timm", tmp_path / "w.safetensors", False)
    export(one, "timm", tmp_path / "w.safetensors", True)
    model = timm_model_of(one.description.alone())
    theirs = timm.create_model(model.entry, checkpoint_path=tmp_path / "w.safetensors", **model.arguments).eval()
    with torch.no_grad():
        same(theirs(images()), one.model.encoder.features(images()))


@pytest.mark.parametrize("windows", [(8, 8, 8), (4, 4, 8), (16, 8, 4)], ids=str)
def test_timm_swin_with_windows_cut_to_the_grid(tmp_path, windows):
    one = opened(dict(STOCK, windows=windows, positions="none"), "classifier")
    if windows == (16, 8, 4):
        one = opened(dict(STOCK, windows=windows, positions="none", shift=False), "classifier")
    export(one, "timm", tmp_path / "w.safetensors", False)
    model = timm_model_of(one.description)
    theirs = timm.create_model(model.entry, checkpoint_path=tmp_path / "w.safetensors", **model.arguments).eval()
    with torch.no_grad():
        same(theirs(images()), output(one.model, images()))


def test_timm_swin_of_images_that_are_not_square(tmp_path):
    size = (32, 64)
    one = opened(dict(STOCK, windows=(4, 4, 4), positions="none"), "classifier", size)
    assert min(size) // 8 == 4
    with pytest.raises(ValueError, match="rectangle"):
        export(one, "timm", tmp_path / "w.safetensors", False)
    one = opened(dict(STOCK, windows=(2, 2, 2), positions="none"), "classifier", size)
    export(one, "timm", tmp_path / "w.safetensors", False)
    model = timm_model_of(one.description)
    theirs = timm.create_model(model.entry, checkpoint_path=tmp_path / "w.safetensors", **model.arguments).eval()
    with torch.no_grad():
        same(theirs(images(size)), output(one.model, images(size)))


@pytest.mark.parametrize("encoder", ["swin", "twins_svt"])
def test_where_windows_do_not_divide_the_grid_the_export_warns_and_timm_differs(tmp_path, caplog, encoder):
    fields = {"swin": dict(STOCK, windows=(3, 3, 3), positions="none"), "twins_svt": small.ENCODERS["twins_svt"]}
    one = opened(fields[encoder], "classifier")
    with caplog.at_level(logging.WARNING):
        found = export(one, "timm", tmp_path / "w.safetensors", False)
    assert found.warnings and all("timm pads" in warning for warning in found.warnings)
    assert [record.getMessage() for record in caplog.records] == found.warnings
    assert found.warnings[0] in (tmp_path / "w.safetensors.md").read_text()
    model = timm_model_of(one.description)
    theirs = timm.create_model(model.entry, checkpoint_path=tmp_path / "w.safetensors", **model.arguments).eval()
    with torch.no_grad():
        assert (theirs(images()) - output(one.model, images())).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("encoder", "why"),
    [
        (ENCODERS["swin_mixmae"], "absolute positions"),
        (dict(STOCK, windows=(4, 4, 4), positions="none", shift=False), "shifts"),
        (dict(STOCK, windows=(4, 2, 4), positions="none"), "one window"),
        (dict(STOCK, windows=(4, 4, 4), positions="none", norm_eps=1e-6), "eps"),
        (dict(STOCK, windows=(4, 4, 4), positions="none", widths=(8, 16, 24)), "doubles"),
        (ENCODERS["pvt"], "version 1"),
        (ENCODERS["vit_beit"], "beit"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_timm_does_not_have_is_refused_with_the_reason(tmp_path, encoder, why):
    with pytest.raises(ValueError, match=why) as error:
        export(opened(encoder, "classifier"), "timm", tmp_path / "w.safetensors", False)
    assert "--to safetensors" in str(error.value) and "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------------------ the Hub


@pytest.mark.parametrize("encoder_only", [False, True])
@pytest.mark.parametrize("encoder", IN_TIMM)
def test_a_folder_in_the_layout_of_timm(tmp_path, monkeypatch, encoder, encoder_only):
    one = opened(encoder, "classifier", facts=Facts(job={"recipe": {"eval_crop": 0.9}, "data": {"name": "digits"},
                                                         "stage": "finetune"}))  # fmt: skip
    export(one, "hf", tmp_path / "hub", encoder_only)
    theirs = call_of_the_card(tmp_path / "hub" / "README.md", tmp_path, monkeypatch)["model"].eval()
    with torch.no_grad():
        same(theirs(images()), output(one.model.encoder if encoder_only else one.model, images()))
    assert theirs.pretrained_cfg["crop_pct"] == 0.9 and theirs.num_classes == (0 if encoder_only else 5)
    assert (tmp_path / "hub" / "README.md").read_text().startswith("---\nlicense: unknown\nlibrary_name: timm\n")


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("encoder", ["swin_mixmae", "pvt", "vit_beit"])
def test_a_folder_of_what_timm_does_not_have(tmp_path, monkeypatch, encoder, part):
    one = opened(encoder, part)
    export(one, "hf", tmp_path / "hub", False)
    scope = call_of_the_card(tmp_path / "hub" / "README.md", tmp_path, monkeypatch)
    assert torch.equal(output(scope["model"], images()), output(one.model, images()))
    about = json.loads((tmp_path / "hub" / "config.json").read_text())
    assert about["description"] == one.description.model_dump(mode="json")
    assert "library_name: mixmae" in (tmp_path / "hub" / "README.md").read_text()


def test_only_an_empty_folder_or_an_earlier_export_is_replaced(tmp_path):
    hub = tmp_path / "hub"
    export(opened("vit", "classifier"), "hf", hub, False)
    export(opened("swin_mixmae", "classifier"), "hf", hub, False)
    assert open_file(hub / "model.safetensors").description.encoder.family == "swin"
    (hub / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="no earlier export"):
        export(opened("vit", "classifier"), "hf", hub, False)
    other = tmp_path / "other"
    other.mkdir()
    save_file({"a": torch.zeros(1)}, other / "model.safetensors")
    with pytest.raises(ValueError, match="no earlier export"):
        export(opened("vit", "classifier"), "hf", other, False)
    assert sorted(os.listdir(tmp_path)) == ["hub", "other"] and os.listdir(other) == ["model.safetensors"]


# ----------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("to", exporting.FORMS)
def test_an_error_leaves_the_output_as_it_was(tmp_path, monkeypatch, to):
    out = tmp_path / f"out{exporting._ENDINGS.get(to, '')}"
    export(opened("swin_stock", "classifier"), to, out, False)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exporting, "save_file", full)
    monkeypatch.setattr(stored, "save_file", full)
    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space"):
        export(opened("swin_stock", "classifier", (64, 64)), to, out, False)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_folder_that_cannot_take_its_place_leaves_the_old_one(tmp_path, monkeypatch):
    export(opened("vit", "classifier"), "hf", tmp_path / "hub", False)
    rename = Path.rename

    def refused(self, target):
        if self.name == "new":
            raise PermissionError(13, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(PermissionError):
        export(opened("swin_mixmae", "classifier"), "hf", tmp_path / "hub", False)
    assert os.listdir(tmp_path) == ["hub"] and len(os.listdir(tmp_path / "hub")) == 3
    assert timm.create_model(f"local-dir:{tmp_path / 'hub'}", pretrained=True).num_classes == 5


@pytest.mark.parametrize(
    ("to", "name", "why"),
    [
        ("onnx", "w.safetensors", "no such form"),
        ("timm", "w.bin", r"must end in \.safetensors"),
        ("mmdet-keys", "w.safetensors", r"must end in \.pth"),
        ("safetensors", "folder.safetensors", "a folder"),
        ("hf", "file", "no earlier export"),
        ("hf", "link", "cannot be replaced"),
    ],
)
def test_places_that_cannot_be_written_to(tmp_path, to, name, why):
    (tmp_path / "folder.safetensors").mkdir()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with pytest.raises(ValueError, match=why):
        export(opened("vit", "classifier"), to, tmp_path / name, False)
    assert (tmp_path / "file").read_text() == "mine"


# --------------------------------------------------------------------------------------------------------------- runs


def runs_of(tmp_path, encoder, stage):
    """A pretraining with MixMAE and its evaluation, planned."""
    recipes = {"finetune": {"epochs": 1, "batch": 20, "base_lr": 1e-3}, "knn": {}}
    return planned_runs(tmp_path, experiment("mixmae", encoder, evaluations={stage: recipes[stage]}))


def finish(run: RunFolder, model=None):
    if model is not None:
        run.checkpoints.mkdir(parents=True)
        write_weights(run.weights, model)
    run.write("result", {"top1": 50.0, "loss": 1.0})
    run.write("environment", {"torch": "1.2.3", "mixmae": "0.0"})
    run.write("state", {"state": "done"})


@pytest.mark.parametrize("encoder", ["swin", "twins_svt", "pvt"])
def test_runs_are_opened_with_their_weights_and_facts(tmp_path, encoder):
    runs = runs_of(tmp_path, encoder, "finetune")
    pretraining = json.loads((runs["pretrain"].path / "config.json").read_text())["job"]
    job = small.pretrain_job("mixmae", pretraining["encoder"], (32, 32)).model_copy()
    whole = Description(encoder=job.encoder, image_size=(32, 32), method=_method(pretraining))
    classifier = Description(encoder=job.encoder, image_size=(32, 32), classes=10)
    models = {"pretrain": stored.build(whole), "finetune": stored.build(classifier)}
    for stage, model in models.items():
        finish(runs[stage], model)
        one = open_run(runs[stage])
        assert one.description == {"pretrain": whole, "finetune": classifier}[stage]
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, one.model.state_dict()[name])
        assert one.facts.run == runs[stage].id and one.facts.result["top1"] == 50.0
    assert one.facts.pretraining["method"]["name"] == "mixmae"
    export(one, "safetensors", tmp_path / "w.safetensors", False)
    card = (tmp_path / "w.safetensors.md").read_text()
    assert one.facts.fingerprint in card and "| top1 | 50.0 |" in card and "torch: 1.2.3" in card


def _method(job):
    return TypeAdapter(MethodConfig).validate_python(job["method"])


def test_runs_written_before_fixed_tables_were_saved(tmp_path, caplog):
    run = runs_of(tmp_path, "swin", "knn")["pretrain"]
    job = json.loads((run.path / "config.json").read_text())["job"]
    encoder = small.pretrain_job("mixmae", job["encoder"], (32, 32)).encoder
    model = stored.build(Description(encoder=encoder, image_size=(32, 32), method=_method(job)))
    finish(run, model)
    state = load_file(run.weights)
    table = state.pop("encoder.absolute_pos_embed")
    save_file(state, run.weights)
    with caplog.at_level(logging.INFO):
        assert torch.equal(open_run(run).model.encoder.absolute_pos_embed, table)
    assert "encoder.absolute_pos_embed" in caplog.text
    state.pop("encoder.norm.weight")
    save_file(state, run.weights)
    with pytest.raises(ValueError, match="encoder.norm.weight"):
        open_run(run)


def test_where_weights_go_by_default():
    names = [str(exporting.default_out("0a1b", to)) for to in exporting.FORMS]
    assert names == ["0a1b.safetensors", "0a1b-timm.safetensors", "0a1b-hf", "0a1b-mmdet-keys.pth"]


def test_runs_without_final_weights_are_refused_by_name(tmp_path):
    runs = runs_of(tmp_path, "swin", "knn")
    with pytest.raises(ValueError, match=f"pretrain/{runs['pretrain'].id}: is planned"):
        open_run(runs["pretrain"])
    with pytest.raises(ValueError, match=f"knn/{runs['knn'].id}: a knn evaluation .* {runs['pretrain'].id}"):
        open_run(runs["knn"])
    finish(runs["pretrain"])
    with pytest.raises(ValueError, match="is missing"):
        open_run(runs["pretrain"])
    with pytest.raises(ValueError, match="no run"):
        open_run(RunFolder(tmp_path, "pretrain", "0" * 16))
    runs["pretrain"].checkpoints.mkdir()
    save_file({"a": torch.zeros(1)}, runs["pretrain"].weights)
    with pytest.raises(ValueError, match="not the weights of its run's model"):
        open_run(runs["pretrain"])
    runs["pretrain"].weights.write_bytes(b"\x00" * 20)
    with pytest.raises(ValueError, match="damaged"):
        open_run(runs["pretrain"])
