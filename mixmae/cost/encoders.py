"""Parameters and multiply-adds of each encoder variant, counted once and kept in a file (no torch to read it).

After a change to the encoders, `python -m mixmae.cost.encoders` counts again.
"""

import json
from importlib import resources
from pathlib import Path
from typing import Any, get_args

from mixmae.encoders.families import EncoderConfig, EncoderModel, families, variants
from mixmae.fields.choice import Found
from mixmae.methods.methods import methods

CLASSES = 1000
IMAGE_SIZE = 224
"""Side in pixels of the images that published variants are counted for; a family's small variant has its own."""


def rows() -> list[dict[str, Any]]:
    """Returns one row for each variant, in the order of the table of variants.

    name, family; params: of the encoder without a head, fixed position tables included, as the literature counts;
    params_with_head: with one for 1000 classes; params_with_decoder: with MixMAE's decoder (None where MixMAE does not
    go with the family); image_size: side in pixels; macs: multiply-adds of one image of that size through the encoder,
    without head, half of what torch's flop counter says (published "FLOPs" are multiply-adds); other_sizes: the same
    encoder at other image sizes and windows: image_size, windows, params, params_with_head, macs.
    """
    return json.loads(resources.files("mixmae.cost").joinpath("encoders.json").read_text("utf-8"))


def compute() -> list[dict[str, Any]]:
    """Counts the rows of `rows` on models on torch's meta device."""
    return [count(name) for name in variants()]


def count(name: str) -> dict[str, Any]:
    """Counts the row of one variant."""
    family = families[variants()[name]["family"]]
    size = family.small_size if name == family.small else IMAGE_SIZE
    config = resolved_encoder(name, size)
    encoder, counted = _counted(config, size)
    others = [
        {"image_size": other, "windows": list(windows)} | _counted(family.with_windows(config, windows), other)[1]
        for other, windows in family.other_sizes(name)
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


def _counted(config: EncoderModel, size: int) -> tuple[Any, dict[str, int]]:
    """Returns the encoder on torch's meta device, and its params, params_with_head and macs for size x size pixels."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from mixmae.encoders.building import build_encoder

    with torch.device("meta"):
        encoder: Any = build_encoder(config, (size, size)).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        encoder.features(torch.empty(1, 3, size, size, device="meta"))
    params = _params(encoder)
    return encoder, {
        "params": params,
        "params_with_head": params + (encoder.width + 1) * CLASSES,
        "macs": counter.get_total_flops() // 2,
    }


def _params_with_decoder(encoder: Any) -> int | None:
    """Returns the parameters of the encoder and MixMAE's decoder; None where the encoder is not hierarchical."""
    import torch

    from mixmae.methods.building import build_method

    spec = next(spec for spec in methods if spec.needs_hierarchical)
    if not encoder.hierarchical:
        return None
    with torch.device("meta"):
        return _params(build_method(spec.config.model_validate({}), encoder))


def _params(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def resolved_encoder(variant: str, image_size: int) -> EncoderModel:
    """Returns the variant's config with windows and reduction ratios as numbers for square images of `image_size`
    pixels."""
    mark = next(mark for mark in get_args(EncoderConfig) if isinstance(mark, Found))
    config: Any = mark.validated(variant)
    return families[config.family].resolved(config, (image_size, image_size))


if __name__ == "__main__":
    text = "[\n" + ",\n".join(f"  {json.dumps(row)}" for row in compute()) + "\n]\n"
    Path(__file__).with_name("encoders.json").write_text(text, "utf-8")
