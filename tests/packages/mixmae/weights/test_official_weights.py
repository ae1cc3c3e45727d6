"""Official weights into our models: every tensor accounted for, every disagreement named."""

import json
import re
from functools import partial

import pytest
import timm
import torch
from safetensors import safe_open
from timm.models.beit import Beit
from timm.models.swin_transformer import get_relative_position_index
from timm.models.vision_transformer import VisionTransformer

from mixmae.encoders.families import families
from mixmae.methods.methods import methods
from mixmae.weights import published
from mixmae.weights.description import Description, about
from mixmae.weights.importing import import_file
from mixmae.weights.kinds import kinds
from mixmae.weights.official import _inferred, from_official, imported
from mixmae.weights.stored import build, load, save
from support.checkout import CHECKOUT, GOLDEN

FILES = sorted(GOLDEN.glob("*.safetensors"))
files = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def official(path) -> tuple[str, dict, dict]:
    """kind, state dict and constructor's config of a file."""
    with safe_open(path, "pt") as file:
        meta = json.loads(file.metadata()["meta"])
        names = [name for name in file.keys() if name.startswith("weights.")]  # noqa: SIM118
        return meta["kind"], {name[8:]: file.get_tensor(name) for name in names}, meta["config"]


def of_kind(kind: str) -> tuple[dict, dict]:
    """state dict and config of the first file of a kind."""
    return next(found[1:] for found in map(official, FILES) if found[0] == kind)


# ---------------------------------------------------------------------------------------------------- all or nothing


def test_every_kind_has_a_name_of_its_own():
    every = [kind.name for spec in (*methods, *families) for kind in spec.official()]
    assert len(every) == len(set(every)) == len(kinds()) == 13


@files
def test_every_tensor_arrives_unchanged(path):
    kind, state, config = official(path)
    found = imported(kind, state, config)
    assert found.names.keys() | set(found.recomputed) == state.keys() and found.left_out == []
    ours = found.model.state_dict()
    assert all(torch.equal(ours[name], state[theirs]) for theirs, name in found.names.items())
    trained = {name for name, parameter in found.model.named_parameters()}
    assert trained <= set(found.names.values()), "nothing is left at its random start"


@files
def test_a_missing_or_strange_or_misshapen_tensor_is_named(path):
    kind, state, config = official(path)
    names = [name for name in state if not name.endswith("decoder_pos_embed")]
    named = imported(kind, state, config).names
    for name in names[:: max(1, len(names) // 12)]:
        without = {other: tensor for other, tensor in state.items() if other != name}
        with pytest.raises(ValueError, match=re.escape(named[name])):
            from_official(kind, without, config)
        with pytest.raises(ValueError, match=rf"{re.escape(name)}\.strange"):
            from_official(kind, {**state, f"{name}.strange": torch.ones(1)}, config)
        longer = torch.cat([state[name], state[name][:1]])
        both = re.escape(f"{name}: {tuple(longer.shape)} in the file, {tuple(state[name].shape)} by the config")
        with pytest.raises(ValueError, match=both):
            from_official(kind, {**state, name: longer}, config)
        with pytest.raises(ValueError, match=f"{re.escape(name)}: torch.int64"):
            from_official(kind, {**state, name: state[name].long()}, config)


def test_wrappers_and_prefixes_are_taken_off():
    kind, state, config = official(FILES[0])
    wrapped = {"model": {f"module.{name}": tensor for name, tensor in state.items()}, "epoch": 3}
    plain, unwrapped = (from_official(kind, given, config).state_dict() for given in (state, wrapped))
    assert all(torch.equal(plain[name], unwrapped[name]) for name in plain)


def test_half_precision_weights_become_float32():
    state, config = of_kind("mixmae_classifier")
    model = from_official("mixmae_classifier", {name: tensor.half() for name, tensor in state.items()}, config)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_trained_decoder_positions_are_refused():
    state, config = of_kind("mae_vit_pretrain")
    state["decoder_pos_embed"] = state["decoder_pos_embed"] + 0.01
    with pytest.raises(ValueError, match="decoder_pos_embed: not the fixed sin-cos table"):
        from_official("mae_vit_pretrain", state, config)


# ------------------------------------------------------------------------------------------------------------ configs


@pytest.mark.parametrize(
    ("kind", "undecided"),
    [
        ("mixmae_pretrain", "decoder_num_heads, norm_pix_loss"),
        ("mae_vit_pretrain", "num_heads, decoder_num_heads, norm_pix_loss"),
        ("mae_swin_pretrain", "decoder, norm_pix_loss"),
        ("simmim_swin_pretrain", "img_size"),
        ("pvt_classifier", "num_heads"),
        ("twins_svt_classifier", "num_heads, wss, img_size"),
    ],
)
def test_what_shapes_do_not_decide_is_said(kind, undecided):
    state, _ = of_kind(kind)
    with pytest.raises(ValueError, match=f"do not decide {undecided}; give the constructor's config"):
        from_official(kind, state)


@pytest.mark.parametrize("kind", ["mixmae_classifier", "simmim_vit_pretrain"])
def test_shapes_that_decide_need_no_config(kind):
    state, config = of_kind(kind)
    assert imported(kind, state).description == imported(kind, state, config).description


@pytest.mark.parametrize("one", published.checkpoints(), ids=lambda one: one["name"])
def test_published_models_are_known_by_their_shapes(one):
    arguments = kinds()[one["kind"]].arguments.model_validate(one["config"])
    with torch.device("meta"):
        model = build(Description.model_validate(arguments.description()))
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = kinds()[one["kind"]].arguments.model_validate(_inferred(kinds()[one["kind"]], shapes, encoder_only=False))
    assert found.description() == arguments.description()
    part = model.encoder if "encoder only" in one["name"] else model
    count = sum(parameter.numel() for parameter in part.parameters()) / 1e6
    assert one["counted_m"] == round(count, 2)
    if one["params_m"]:
        assert count == pytest.approx(one["params_m"], rel=0.005)


def test_published_checkpoints_name_repository_commit_and_known_recipes():
    from mixmae.experiment.recipes import headers as recipes

    for one in published.checkpoints():
        assert re.fullmatch(r"github\.com/[\w.-]+/[\w.-]+ @[0-9a-f]{7}", one["repository"])
        assert ("recipe" in one) != ("eval_crop" in one)
        assert one.get("recipe") is None or one["recipe"] in recipes.names()
    document = (CHECKOUT / "docs" / "published_checkpoints.md").read_text("utf-8")
    assert published.markdown() in document, "write published.markdown() there again"
    text = "\n".join(published.lines())
    assert text.count("mixmae weights import FILE --as ") == len(published.checkpoints())


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("mixmae_pretrian", {}, "mixmae_pretrian: no such kind of weights; did you mean mixmae_pretrain"),
        (
            "mixmae_pretrain",
            {"embed_dims": 16},
            "config: embed_dims: not an argument of a mixmae_pretrain; did you mean",
        ),
        ("mixmae_pretrain", {"patch_norm": False}, "config: patch_norm: False: Input should be True"),
        ("mixmae_pretrain", {"in_chans": 1}, "config: in_chans: 1: Input should be 3"),
        ("mixmae_pretrain", {"depths": "2,2"}, "config: depths: '2,2': "),
        ("mixmae_pretrain", {"window_size": [8, 8, 8, 2]}, r"in the file, \(9, 8\) by the config"),
        ("mixmae_pretrain", {"depths": [1, 1, 1, 1]}, r"without layers\.2\.blocks\.1\.attn.*, which the file has"),
        ("mixmae_pretrain", {"depths": [1, 1, 2, 2]}, r"no tensor for encoder\.layers\.3\.blocks\.1\."),
    ],
)
def test_a_wrong_kind_or_config_is_named(kind, change, message):
    state, config = of_kind("mixmae_pretrain")
    with pytest.raises(ValueError, match=message):
        from_official(kind, state, {**config, **change})


def test_the_wrong_kind_is_refused_by_names():
    state, config = of_kind("mixmae_classifier")
    with pytest.raises(ValueError, match="not the weights of a mixmae_pretrain: it has no head.bias, head.weight"):
        from_official("mixmae_pretrain", state, config)


# ------------------------------------------------------------------------------------------------------- encoder only


@pytest.mark.parametrize("kind", ["mae_vit_pretrain", "mixmae_pretrain", "mixmae_classifier"])
def test_the_encoder_alone(kind):
    state, config = of_kind(kind)
    found = imported(kind, state, config, encoder_only=True)
    whole = imported(kind, state, config)
    assert found.left_out and all("decoder" in n or "mask" in n or "head" in n for n in found.left_out)
    alone, within = found.model.state_dict(), whole.model.encoder.state_dict()
    assert alone.keys() == within.keys() and all(torch.equal(alone[name], within[name]) for name in alone)


def test_a_file_without_decoder_is_the_encoder_alone():
    state, config = of_kind("mae_vit_pretrain")
    state = {name: tensor for name, tensor in state.items() if "decoder" not in name and name != "mask_token"}
    with pytest.raises(ValueError, match=r"no tensor for decoder\.blocks.*; its encoder alone: --encoder-only"):
        from_official("mae_vit_pretrain", state, config)
    assert from_official("mae_vit_pretrain", state, config, encoder_only=True).width == config["embed_dim"]


# -------------------------------------------------------------------------------------------- the same logits as timm


def randomised(model):
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model.eval()


def assert_same_logits(kind, theirs, config, size):
    ours = from_official(kind, theirs.state_dict(), config).eval()
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        torch.testing.assert_close(ours.logits(images), theirs(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("size", "window"), [(64, 4), (96, 3), (128, 8), (128, 16)])
def test_timm_swin(size, window):
    shape = dict(img_size=size, window_size=window, embed_dim=12, depths=(2, 2, 2, 1), num_heads=(1, 2, 3, 4))
    theirs = randomised(timm.create_model("swin_tiny_patch4_window7_224", num_classes=7, **shape))
    assert_same_logits("timm_swin_classifier", theirs, {**shape, "num_classes": 7}, size)


@pytest.mark.parametrize(("size", "windows"), [(64, (4, 4, 2, 2)), (224, (7, 7, 7, 7))])
def test_timm_twins(size, windows):
    shape = dict(embed_dims=(8, 16, 24, 32), depths=(2, 1, 3, 2), num_heads=(1, 2, 3, 4), wss=windows)
    theirs = randomised(timm.create_model("twins_svt_small", img_size=size, num_classes=7, **shape))
    assert_same_logits("timm_twins_svt_classifier", theirs, {**shape, "img_size": size, "num_classes": 7}, size)


def test_mae_fine_tunes_a_vit_that_timm_has():
    shape = dict(img_size=48, patch_size=8, embed_dim=24, depth=2, num_heads=3, num_classes=7)
    norm = partial(torch.nn.LayerNorm, eps=1e-6)
    theirs = randomised(VisionTransformer(global_pool="avg", norm_layer=norm, **shape))
    assert_same_logits("mae_vit_classifier", theirs, shape, 48)


def test_simmim_fine_tunes_a_beit_that_timm_has():
    shape = dict(img_size=48, patch_size=8, embed_dim=24, depth=2, num_heads=3, num_classes=7, init_values=0.1)
    bias = dict(use_abs_pos_emb=False, use_rel_pos_bias=True, use_shared_rel_pos_bias=False)
    norm = partial(torch.nn.LayerNorm, eps=1e-6)
    theirs = randomised(Beit(global_pool="avg", norm_layer=norm, **shape, **bias))
    assert_same_logits("simmim_vit_classifier", theirs, {**shape, **bias}, 48)


@pytest.mark.parametrize("kind", ["mae_vit_classifier", "simmim_vit_classifier"])
def test_a_classifier_on_the_class_token_is_refused(kind):
    with pytest.raises(ValueError, match="norm.weight: a classifier on the class token"):
        from_official(kind, {"norm.weight": torch.ones(4)})


# ------------------------------------------------------------------------------------- Swin under its authors' names


def stock_swin(size=64, window=4) -> tuple[dict, dict]:
    """A state dict as microsoft/Swin-Transformer and SimMIM save it, buffers included; and its config."""
    shape = dict(img_size=size, window_size=window, embed_dim=12, depths=(2, 2), num_heads=(1, 2), num_classes=7)
    theirs = randomised(timm.create_model("swin_tiny_patch4_window7_224", **shape))
    state = {}
    for name, tensor in theirs.state_dict().items():
        name = re.sub(r"layers\.(\d)\.downsample", lambda match: f"layers.{int(match[1]) - 1}.downsample", name)
        state[name.replace("head.fc.", "head.")] = tensor
    for stage in range(2):
        grid = size // 4 // 2**stage
        for block in range(2):
            name = f"layers.{stage}.blocks.{block}"
            state[f"{name}.attn.relative_position_index"] = get_relative_position_index(window, window)
            if block and grid > window:
                state[f"{name}.attn_mask"] = torch.zeros((grid // window) ** 2, window**2, window**2)
    return state, shape


def test_the_authors_buffers_are_recomputed_and_tell_the_image_size():
    state, config = stock_swin()
    found = imported("simmim_swin_classifier", state)
    assert found.description == imported("simmim_swin_classifier", state, config).description
    assert found.description.image_size == (64, 64)
    assert len(found.recomputed) == 6 and set(found.names) == state.keys() - set(found.recomputed)


def test_an_index_that_is_not_a_windows_is_refused():
    state, config = stock_swin()
    name = "layers.1.blocks.0.attn.relative_position_index"
    state[name] = state[name].flip(0)
    with pytest.raises(ValueError, match=f"{re.escape(name)}: not the index of a square window"):
        from_official("simmim_swin_classifier", state, config)


def test_the_two_namings_of_swin_point_at_each_other():
    state, config = stock_swin()
    with pytest.raises(ValueError, match="import it as simmim_swin_classifier"):
        from_official("timm_swin_classifier", state, config)
    theirs = timm.create_model("swin_tiny_patch4_window7_224", **config).state_dict()
    with pytest.raises(ValueError, match="import it as timm_swin_classifier"):
        from_official("simmim_swin_classifier", theirs, config)


# ---------------------------------------------------------------------------------------------------------- our files


@files
def test_a_file_becomes_ours_and_says_what_it_is(path, tmp_path):
    kind, state, config = official(path)
    torch.save({"model": state}, tmp_path / "theirs.pth")
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    ours = tmp_path / "ours.safetensors"
    found = import_file(tmp_path / "theirs.pth", kind, ours, tmp_path / "config.yaml", encoder_only=False)
    model, description = load(tmp_path / "ours.safetensors")
    assert description == found.description
    saved, origin = about(tmp_path / "ours.safetensors")
    assert saved == description and (origin.kind, origin.file) == (kind, "theirs.pth")
    wanted = found.model.state_dict()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in model.state_dict().items())


def test_an_encoder_alone_is_saved_under_the_names_stage_jobs_read(tmp_path):
    state, config = of_kind("mixmae_pretrain")
    found = imported("mixmae_pretrain", state, config, encoder_only=True)
    save(tmp_path / "encoder.safetensors", found.model, found.description)
    with safe_open(tmp_path / "encoder.safetensors", "pt") as file:
        assert all(name.startswith("encoder.") for name in file.keys())  # noqa: SIM118
    model, description = load(tmp_path / "encoder.safetensors")
    assert description.part == "encoder"
    assert torch.equal(model.norm.weight, state["norm.weight"])


@pytest.mark.parametrize("wrong", ["kind", "config", "damaged", "folder", "itself"])
def test_an_error_leaves_the_output_as_it_was(tmp_path, wrong):
    state, config = of_kind("mixmae_classifier")
    source, out = tmp_path / "theirs.pth", tmp_path / "ours.safetensors"
    torch.save({"model": state}, source)
    out.write_text("precious")
    kind = "pvt_classifier" if wrong == "kind" else "mixmae_classifier"
    yaml = tmp_path.parent / f"{tmp_path.name}.yaml"
    yaml.write_text(json.dumps({**config, "embed_dim": 8} if wrong == "config" else config))
    if wrong == "damaged":
        source.write_bytes(source.read_bytes()[:-100])
    if wrong == "folder":
        out.unlink(), out.mkdir()
    with pytest.raises(ValueError):
        import_file(source, kind, source if wrong == "itself" else out, yaml, encoder_only=False)
    assert out.is_dir() if wrong == "folder" else out.read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ours.safetensors", "theirs.pth"]
