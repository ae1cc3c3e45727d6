"""What each encoder variant costs: parameters and multiply-adds, counted once, kept in costs.json (no torch to read).

Run as `python -m mixmae.encoders.costs` to count again after a change to the encoders.
"""

import json
from importlib import resources
from pathlib import Path

from mixmae.encoders.variants import VARIANTS
from mixmae.experiment import Experiment
from mixmae.jobs import stage_jobs

CLASSES = 1000


def rows() -> list[dict]:
    """One row a variant, in the order of the table of variants.

    name, family; params: of the encoder without a head; params_with_head: with one for 1000 classes; image_size: side
    in pixels; macs: multiply-adds of one image of that size through the encoder, without head, half of what torch's
    flop counter says (published "FLOPs" are multiply-adds).
    """
    return json.loads(resources.files("mixmae.encoders").joinpath("costs.json").read_text("utf-8"))


def compute() -> list[dict]:
    """The rows of `rows`, counted on models built on torch's meta device."""
    return [_count(name) for name in VARIANTS]


def _count(name: str) -> dict:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from mixmae.models import build_encoder

    size = 32 if name.endswith("_nano") else 224
    config = resolved_encoder(name, size)
    with torch.device("meta"):
        encoder = build_encoder(config, (size, size)).eval()
        images = torch.empty(1, 3, size, size)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        encoder.features(images)
    params = sum(parameter.numel() for parameter in encoder.parameters())
    return {
        "name": name,
        "family": config.family,
        "params": params,
        "params_with_head": params + (encoder.width + 1) * CLASSES,
        "image_size": size,
        "macs": counter.get_total_flops() // 2,
    }


def resolved_encoder(variant: str, image_size: int):
    """The variant's config with windows and reduction ratios as numbers for square images of `image_size` pixels."""
    experiment = Experiment.model_validate(
        {"method": "supervised", "encoder": variant, "image_size": image_size, "evaluations": {"knn": {}}}
    )
    return stage_jobs(experiment, fingerprint="")[0].job.encoder


if __name__ == "__main__":
    text = "[\n" + ",\n".join(f"  {json.dumps(row)}" for row in compute()) + "\n]\n"
    Path(__file__).with_name("costs.json").write_text(text, "utf-8")
