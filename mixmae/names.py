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
TRACKERS = {
    "tensorboard": "mixmae.tracking.tensorboard:TensorBoard",
    "wandb": "mixmae.tracking.wandb:WeightsAndBiases",
    "mlflow": "mixmae.tracking.mlflow:MLflow",
    "trackio": "mixmae.tracking.trackio:Trackio",
}
KEY_MAPS = {
    "mixmae_pretrain": "mixmae.mixmae:OFFICIAL_KEYS",
    "mixmae_classifier": "mixmae.mixmae:OFFICIAL_CLASSIFIER_KEYS",
    "simmim_swin_pretrain": "baselines.simmim:OFFICIAL_SWIN_KEYS",
    "simmim_swin_classifier": "baselines.simmim:OFFICIAL_SWIN_CLASSIFIER_KEYS",
    "simmim_vit_pretrain": "baselines.simmim:OFFICIAL_VIT_KEYS",
    "simmim_vit_classifier": "baselines.simmim:OFFICIAL_VIT_CLASSIFIER_KEYS",
    "mae_vit_pretrain": "baselines.mae:OFFICIAL_VIT_KEYS",
    "mae_vit_classifier": "baselines.mae:OFFICIAL_VIT_CLASSIFIER_KEYS",
    "mae_swin_pretrain": "baselines.mae:OFFICIAL_SWIN_KEYS",
    "pvt_classifier": "mixmae.encoders.pvt:CLASSIFIER_KEYS",
    "twins_svt_classifier": "mixmae.encoders.twins_svt:CLASSIFIER_KEYS",
    "timm_swin_classifier": "mixmae.encoders.swin:TIMM_CLASSIFIER_KEYS",
    "timm_twins_svt_classifier": "mixmae.encoders.twins_svt:CLASSIFIER_KEYS",
}
"""Kinds of official weights, and the map of their parameter names onto ours."""


def resolve(dotted: str):
    """The object behind `package.module:Name`."""
    module, name = dotted.split(":")
    return getattr(import_module(module), name)
