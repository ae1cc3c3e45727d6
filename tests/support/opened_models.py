"""Small models of every family, opened as the exports take them."""

import torch

from mixmae.weights import stored
from mixmae.weights.card import Facts
from mixmae.weights.description import Description
from mixmae.weights.opened import Opened
from support import small

STOCK = dict(family="swin", patch_size=2, widths=(8, 16, 32), depths=(2, 2, 2), heads=(1, 2, 4), shift=True)
ENCODERS = {
    "swin_mixmae": dict(small.ENCODERS["swin"]),
    "swin_stock": dict(STOCK, windows=(4, 4, 4), positions="none"),
    "twins_svt": dict(small.ENCODERS["twins_svt"], windows=(4, 4, 4)),
    "pvt": dict(small.ENCODERS["pvt"]),
    "vit": dict(small.VIT),
    "vit_beit": dict(small.VIT, style="beit"),
}
PARTS = ("pretraining", "classifier", "encoder")
SIZE = (32, 32)


def described(encoder, part, image_size=SIZE):
    fields = ENCODERS[encoder] if isinstance(encoder, str) else encoder
    method = "mixmae" if fields["family"] != "vit" else "simmim"
    job = small.pretrain_job(method, fields, image_size)
    description = Description(encoder=job.encoder, image_size=job.image_size)
    extra = {"pretraining": {"method": job.method}, "classifier": {"classes": 5}, "encoder": {}}[part]
    return description.model_copy(update=extra)


def opened(encoder, part, image_size=SIZE, facts=None):
    torch.manual_seed(0)
    description = described(encoder, part, image_size)
    return Opened(small.randomised(stored.build(description)), description, facts or Facts())


def images(size=SIZE):
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))


def same(a, b):
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
