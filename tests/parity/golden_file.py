"""A file of tensors from an official implementation, and our model's answers to the same questions.

Everything follows from the file's metadata: its kind, what the official constructor took, and how the mask is meant.
"""

import json
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from mixmae.weights.official import imported

BESIDE_THE_CONSTRUCTOR = ("layer_norm_eps", "mask_ratio", "mask_patch_size")


class GoldenFile:
    """metadata: kind, config and more. tensors: by name. model: ours, loaded through the importer. official: our
    parameter names -> the official ones."""

    def __init__(self, path: Path):
        with safe_open(path, "pt") as file:
            self.metadata = json.loads(file.metadata()["meta"])
            self.tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        self.kind = self.metadata["kind"]
        # Classifiers mask nothing; a pretraining's constructor is told its mask by us.
        beside = {name: self.metadata[name] for name in BESIDE_THE_CONSTRUCTOR if name in self.metadata}
        loaded = imported(self.kind, self.part("weights"), {**self.metadata["config"], **beside})
        self.model = loaded.model
        self.official = {ours: name for name, ours in loaded.names.items()}

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors named `prefix.*`, without it."""
        start = f"{prefix}."
        return {name.removeprefix(start): value for name, value in self.tensors.items() if name.startswith(start)}

    def answers(self) -> dict[str, Tensor]:
        """Ours under the names of the file's outputs, and as `loss` the scalar whose gradients it holds."""
        given = self.part("input")
        return _ANSWERS[self.kind](self.model, **given)


def _classifier(model, images: Tensor) -> dict[str, Tensor]:
    logits = model.logits(images)
    return {"logits": logits, "loss": logits.square().mean()}


def _mixmae(model, images: Tensor, mask: Tensor) -> dict[str, Tensor]:
    slots = mask.reshape(model.encoder.grid(images)).bool()
    out = model(images, slots)
    tokens, layout = model.forward_encoder(images, slots.long())
    row_major = torch.empty_like(tokens)
    row_major[:, layout.units] = tokens
    return {"loss": out.loss, "reconstruction": out.prediction, "encoder_tokens": row_major}


def _simmim(model, images: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """The file's mask is at the resolution of the patch embedding, ours at that of what is masked as one."""
    cells = model.mask_unit // model.encoder.patch_size
    coarse = mask[:, ::cells, ::cells].bool()
    assert torch.equal(coarse.repeat_interleave(cells, 1).repeat_interleave(cells, 2), mask.bool())
    out = model(images, coarse)
    tokens = model.forward_encoder(images, out.mask)
    features = tokens.transpose(1, 2).unflatten(2, model.encoder.grid(images))
    return {"loss": out.loss, "reconstruction": out.prediction, "features": features}


def _mae_vit(model, images: Tensor, mask: Tensor, noise: Tensor | None = None) -> dict[str, Tensor]:
    if noise is not None:
        kept = int(noise.shape[1] * (1 - model.ratio))
        assert torch.equal(noise.argsort(1).argsort(1) >= kept, mask.bool()), "the mask is not that of the noise"
    out = model(images, mask.bool().reshape(-1, *model.encoder.grid(images)))
    return {"loss": out.loss, "prediction": out.prediction}


def _mae_swin(model, images: Tensor, mask: Tensor) -> dict[str, Tensor]:
    hidden = mask.bool().reshape(-1, *model.encoder.grid(images))
    assert (hidden == hidden[0]).all(), "one mask for the batch"
    out = model(images, hidden[0])
    tokens = model.forward_encoder(images, (~hidden[0]).flatten().nonzero().squeeze(1))
    return {"loss": out.loss, "prediction": out.prediction, "visible_tokens": tokens}


_ANSWERS = {
    "mixmae_pretrain": _mixmae,
    "mixmae_classifier": _classifier,
    "simmim_swin_pretrain": _simmim,
    "simmim_vit_pretrain": _simmim,
    "mae_vit_pretrain": _mae_vit,
    "mae_swin_pretrain": _mae_swin,
    "pvt_classifier": _classifier,
    "twins_svt_classifier": _classifier,
}
