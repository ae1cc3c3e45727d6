"""The one table of what can be named in a config, as dotted names resolved on use (no torch until then).

This is `mixmae`'s only upward reference: `baselines` builds on `mixmae`, and is found from here by name.
"""

from importlib import import_module

ENCODERS = {
    "swin": "mixmae.encoders.swin:Swin",
    "twins_svt": "mixmae.encoders.twins_svt:TwinsSVT",
    "pvt": "mixmae.encoders.pvt:PVT",
    "vit": "mixmae.encoders.vit:ViT",
}
METHODS = {
    "mixmae": "mixmae.mixmae:MixMAE",
    "simmim": "baselines.simmim:SimMIM",
    "mae": "baselines.mae:MAE",
    "supervised": "baselines.supervised:Supervised",
}
DATASETS = {
    "digits": "mixmae.data.digits:Digits",
    "image_folder": "mixmae.data.image_folder:ImageFolder",
}
STAGES = {
    "pretrain": "mixmae.stages.pretrain:run",
    "finetune": "mixmae.stages.finetune:run",
    "linear": "mixmae.stages.linear:run",
    "knn": "mixmae.stages.knn:run",
}


def resolve(dotted: str):
    """The object behind `package.module:Name`."""
    module, name = dotted.split(":")
    return getattr(import_module(module), name)
