"""What each encoder variant costs: parameters and multiply-adds, counted once, kept in costs.json (no torch to read).

Run as `python -m mixmae.cost.encoders` to count again after a change to the encoders.
"""

import json
from importlib import resources
from pathlib import Path

from mixmae.config import MixmaeConfig
from mixmae.encoders.variants import VARIANTS
from mixmae.experiment.experiment import Experiment
from mixmae.experiment.jobs import stage_jobs

CLASSES = 1000
OTHER_SIZES = {name: [(384, (16, 16, 24, 12))] for name in ("swin_base_w14", "swin_large_w14")}
"""Sides in pixels and windows at which a variant is published besides the 224 px of its row (MixMAE's Swin-B/L/W16)."""


def rows() -> list[dict]:
    """One row a variant, in the order of the table of variants.

    name, family; params: of the encoder without a head, fixed position tables included, as the literature counts;
    params_with_head: with one for 1000 classes; params_with_decoder: with MixMAE's decoder (None where MixMAE does not
    go with the family); image_size: side in pixels; macs: multiply-adds of one image of that size through the encoder,
    without head, half of what torch's flop counter says (published "FLOPs" are multiply-adds); other_sizes: the same
    encoder at other image sizes and windows: image_size, windows, params, params_with_head, macs.
    """
    return json.loads(resources.files("mixmae.cost").joinpath("encoders.json").read_text("utf-8"))


def compute() -> list[dict]:
    """The rows of `rows`, counted on models without memory."""
    return [count(name) for name in VARIANTS]


def count(name: str) -> dict:
    """The row of one variant."""
    size = 32 if name.endswith("_nano") else 224
    config = resolved_encoder(name, size)
    encoder, counted = _counted(config, size)
    others = [
        {"image_size": other, "windows": list(windows)}
        | _counted(config.model_copy(update={"windows": windows}), other)[1]
        for other, windows in OTHER_SIZES.get(name, ())
    ]
    return {
        "name": name,
        "family": config.family,
        "params": counted["params"],
        "params_with_head": counted["params_with_head"],
        "params_with_decoder": _params_with_decoder(encoder),
        "image_size": size,
        "macs": counted["macs"],
        "other_sizes": others,
    }


def _counted(config, size: int) -> tuple:
    """The encoder on torch's meta device, and its params, params_with_head and macs for size x size pixels."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from mixmae.encoders.building import build_encoder

    # ViT's fixed positions are computed, which the meta device cannot do.
    with torch.device("cpu" if config.family == "vit" else "meta"):
        encoder = build_encoder(config, (size, size)).to("meta").eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        encoder.features(torch.empty(1, 3, size, size, device="meta"))
    params = _params(encoder)
    return encoder, {
        "params": params,
        "params_with_head": params + (encoder.width + 1) * CLASSES,
        "macs": counter.get_total_flops() // 2,
    }


def _params_with_decoder(encoder) -> int | None:
    import torch

    from mixmae.methods.building import build_method

    if not encoder.hierarchical:
        return None
    with torch.device("meta"):
        return _params(build_method(MixmaeConfig(), encoder))


def _params(module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def resolved_encoder(variant: str, image_size: int):
    """The variant's config with windows and reduction ratios as numbers for square images of `image_size` pixels."""
    experiment = Experiment.model_validate(
        {"method": "supervised", "encoder": variant, "image_size": image_size, "evaluations": {"knn": {}}}
    )
    return stage_jobs(experiment, fingerprint="")[0].job.encoder


if __name__ == "__main__":
    text = "[\n" + ",\n".join(f"  {json.dumps(row)}" for row in compute()) + "\n]\n"
    Path(__file__).with_name("encoders.json").write_text(text, "utf-8")
