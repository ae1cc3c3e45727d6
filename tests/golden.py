"""The official implementations' tensors in tests/golden/, and our models with their weights."""

import json
from pathlib import Path

import torch
from safetensors import safe_open

from baselines.mae import MAE
from baselines.simmim import SimMIM
from baselines.supervised import Supervised
from mixmae.encoders.pvt import PVT
from mixmae.encoders.swin import Swin
from mixmae.encoders.twins_svt import TwinsSVT
from mixmae.encoders.vit import ViT
from mixmae.mixmae import MixMAE

FILES = sorted((Path(__file__).parent / "golden").glob("*.safetensors"))


class Golden:
    """One file: its metadata, tensors by name, and our model loaded with its weights."""

    def __init__(self, path: Path):
        with safe_open(path, "pt") as file:
            self.meta = json.loads(file.metadata()["meta"])
            self.tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        self.kind, self.config = self.meta["kind"], self.meta["config"]
        self.model = _MODELS[self.kind](self.config, self.meta)
        self.official_names = self._load()

    def _load(self) -> dict[str, str]:
        """Loads every official weight; returns our name -> the official one."""
        rename = _RENAMES[self.kind]
        names, state = {}, {}
        for key, tensor in self.tensors.items():
            if not key.startswith("weights."):
                continue
            official = key.removeprefix("weights.")
            ours = rename(official)
            if ours is not None:
                names[ours], state[ours] = official, tensor
        if self.kind == "simmim_vit_pretrain":
            state = {**self.model.state_dict(), **state}
        self.model.load_state_dict(state)
        return names


def _size(config):
    return (config["img_size"],) * 2


def _swin(config, meta, shift):
    stages = len(config["depths"])
    window = config["window_size"]
    return Swin(
        _size(config),
        config["patch_size"],
        tuple(config["embed_dim"] * 2**stage for stage in range(stages)),
        tuple(config["depths"]),
        tuple(config["num_heads"]),
        tuple(window) if isinstance(window, list) else (window,) * stages,
        (int(config["mlp_ratio"]),) * stages,
        shift,
        "none" if shift else "sincos",
        meta.get("layer_norm_eps", 1e-5),
        0.0,
    )


def _vit(config, meta, style):
    shape = config["embed_dim"], config["depth"], config["num_heads"], int(config["mlp_ratio"])
    return ViT(_size(config), config["patch_size"], *shape, style, meta["layer_norm_eps"], 0.0)


def _pyramid(config, meta, kind, **more):
    return kind(
        image_size=_size(config),
        patch_size=config["patch_size"],
        widths=tuple(config["embed_dims"]),
        depths=tuple(config["depths"]),
        heads=tuple(config["num_heads"]),
        sr_ratios=tuple(config["sr_ratios"]),
        mlp_ratios=tuple(config["mlp_ratios"]),
        norm_eps=meta["layer_norm_eps"],
        drop_path=0.0,
        **more,
    )


def _mixmae(config, meta):
    decoder = (config["decoder_depth"], config["decoder_dim"], config["decoder_num_heads"], config["mlp_ratio"], 1e-5)
    ratio = meta["mask_ratio"]
    return MixMAE(_swin(config, meta, False), ratio, 2, "image", True, True, False, config["norm_pix_loss"], *decoder)


def _mae(config, meta, encoder):
    d = config.get("decoder", config)
    decoder = d["decoder_depth"], d["decoder_embed_dim"], d["decoder_num_heads"], 4, 1e-6
    return MAE(encoder, meta["mask_ratio"], config["norm_pix_loss"], *decoder)


def _classifier(encoder, config):
    return Supervised(encoder, config["num_classes"], 0.02)


_MODELS = {
    "mixmae_pretrain": _mixmae,
    "mixmae_classifier": lambda c, m: _classifier(_swin(c, m, False), c),
    "simmim_swin_pretrain": lambda c, m: SimMIM(_swin(c, m, True), m["mask_ratio"], m["mask_patch_size"]),
    "simmim_vit_pretrain": lambda c, m: SimMIM(_vit(c, m, "beit"), m["mask_ratio"], m["mask_patch_size"]),
    "mae_vit_pretrain": lambda c, m: _mae(c, m, _vit(c, m, "mae")),
    "mae_swin_pretrain": lambda c, m: _mae(c, m, _swin(c, m, True)),
    "pvt_classifier": lambda c, m: _classifier(_pyramid(c, m, PVT, class_token=True), c),
    "twins_svt_classifier": lambda c, m: _classifier(_pyramid(c, m, TwinsSVT, windows=tuple(c["wss"])), c),
}


def _with_decoder(name):
    if name == "decoder_pos_embed":
        return None
    if name == "mask_token":
        return "decoder.mask_token"
    if name.startswith("decoder_"):
        return "decoder." + name.removeprefix("decoder_")
    return name if name.startswith("encoder.") else f"encoder.{name}"


def _simmim(name):
    if name == "encoder.mask_token":
        return "mask_token"
    return name.replace("decoder.0.", "decoder.")


def _classifier_name(name):
    return name if name.startswith("head.") else f"encoder.{name}"


_RENAMES = dict.fromkeys(("mixmae_pretrain", "mae_vit_pretrain", "mae_swin_pretrain"), _with_decoder)
_RENAMES |= dict.fromkeys(("simmim_swin_pretrain", "simmim_vit_pretrain"), _simmim)
_RENAMES |= dict.fromkeys(("mixmae_classifier", "pvt_classifier", "twins_svt_classifier"), _classifier_name)


def run(golden: Golden) -> dict[str, torch.Tensor]:
    """Our outputs under the names of the file's `output.*`, and the scalar whose gradients the file holds as `loss`."""
    images, config = golden.tensors["input.images"], golden.config
    mask, model = golden.tensors.get("input.mask"), golden.model
    if golden.kind.endswith("classifier"):
        logits = model.logits(images)
        return {"logits": logits, "loss": logits.square().mean()}
    if golden.kind == "mixmae_pretrain":
        grid = model.encoder.grid(images)
        slots = mask.reshape(grid).bool()
        out = model(images, slots)
        tokens, layout = model.forward_encoder(images, slots.long())
        row_major = torch.empty_like(tokens)
        row_major[:, layout.units] = tokens
        return {"loss": out.loss, "reconstruction": out.prediction, "encoder_tokens": row_major}
    if golden.kind.startswith("simmim"):
        cells = golden.meta["mask_patch_size"] // config["patch_size"]
        if golden.kind == "simmim_swin_pretrain":
            assert config["patch_size"] == model.encoder.patch_size
        out = model(images, mask[:, ::cells, ::cells].bool())
        tokens = model.forward_encoder(images, out.mask)
        grid = model.encoder.grid(images)
        features = tokens.transpose(1, 2).unflatten(2, grid)
        return {"loss": out.loss, "reconstruction": out.prediction, "features": features}
    grid = model.encoder.grid(images)
    hidden = mask.bool().reshape(-1, *grid)
    hidden = hidden[0] if model.encoder.hierarchical else hidden
    out = model(images, hidden)
    outputs = {"loss": out.loss, "prediction": out.prediction}
    if "output.visible_tokens" in golden.tensors:
        outputs["visible_tokens"] = model.forward_encoder(images, (~hidden).flatten().nonzero().squeeze(1))
    return outputs
