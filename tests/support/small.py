"""Small encoders and methods that the tests share: every family, with odd and even windows, shifts and borders."""

import torch
from pydantic import TypeAdapter

from mixmae.encoders.building import build_encoder
from mixmae.encoders.families import EncoderConfig
from mixmae.experiment.experiment import Experiment
from mixmae.experiment.jobs import stage_jobs
from mixmae.methods.building import build_method

SIZE = (32, 48)
_SHAPE = dict(patch_size=2, widths=(8, 16, 32), depths=(2, 2, 2), heads=(1, 2, 4))
ENCODERS = {
    "swin": dict(family="swin", windows=(6, 6, 4), **_SHAPE),
    "swin_grid": dict(family="swin", **_SHAPE),
    "swin_shifted": dict(family="swin", windows=(5, 3, 2), shift=True, positions="none", **_SHAPE),
    "swin_two_stages": dict(family="swin", patch_size=4, widths=(8, 16), depths=(2, 1), heads=(1, 2), windows=(3, 3)),
    "twins_svt": dict(family="twins_svt", windows=(5, 4, 3), **_SHAPE),
    "pvt": dict(family="pvt", **_SHAPE),
    "pvt_four_stages": dict(family="pvt", patch_size=1, widths=(8, 8, 16, 16), depths=(1, 1, 1, 1), heads=(1, 1, 2, 2)),
}
VIT = dict(family="vit", patch_size=8, width=16, depth=2, heads=2)
METHODS = {
    "mixmae": dict(name="mixmae"),
    "mixmae_paper": dict(name="mixmae", mix_embedding=True),
    "mixmae_three": dict(name="mixmae", images=3),
    "mixmae_four": dict(name="mixmae", images=4),
    "mixmae_plain_attention": dict(name="mixmae", masked_attention=False, mix_embedding=True),
    "mixmae_single": dict(name="mixmae", dual=False),
    "mixmae_raw_target": dict(name="mixmae", normalised_target=False, ratio=0.7),
    "mixmae_zero": dict(name="mixmae", fill="zero"),
    "mixmae_token": dict(name="mixmae", fill="token"),
    "mixmae_noise": dict(name="mixmae", fill="noise"),
    "simmim": dict(name="simmim"),
    "simmim_fine": dict(name="simmim", mask_unit=4),
    "mae": dict(name="mae"),
}
_DECODER = dict(decoder_depth=1, decoder_width=16, decoder_heads=2)


def pretrain_job(method: str, encoder: dict | str, image_size=SIZE, batch=12, **recipe):
    """The resolved pretraining job of a method and encoder named above."""
    fields = dict(METHODS[method])
    if fields["name"] != "simmim":
        fields |= _DECODER
    experiment = Experiment.model_validate(
        dict(
            method=fields,
            encoder=ENCODERS[encoder] if isinstance(encoder, str) and encoder in ENCODERS else encoder,
            image_size=image_size,
            pretrain=dict(epochs=1, batch=batch, base_lr=1e-3, **recipe),
        )
    )
    return stage_jobs(experiment, lambda data: "test")[0].job


def make_encoder(encoder: dict | str, image_size=SIZE, seed=0):
    torch.manual_seed(seed)
    job = pretrain_job("simmim", encoder, image_size)
    return randomised(build_encoder(job.encoder, job.image_size))


def make_method(method: str, encoder: dict | str, image_size=SIZE, seed=0):
    torch.manual_seed(seed)
    job = pretrain_job(method, encoder, image_size)
    return randomised(build_method(job.method, build_encoder(job.encoder, job.image_size)))


def randomised(model):
    """Every parameter away from its special starting value, so that a forgotten one shows."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def encoder_config(fields: dict):
    return TypeAdapter(EncoderConfig).validate_python(fields)
