"""The one table of what can be named in a config, as dotted names resolved on use (no torch until then).

This is `mixmae`'s only upward reference: `baselines` builds on `mixmae`, and is found from here by name.
"""

from importlib import import_module

ENCODERS = {
    "swin": "mixmae.encoders.swin.model:Swin",
    "twins_svt": "mixmae.encoders.twins_svt.model:TwinsSVT",
    "pvt": "mixmae.encoders.pvt.model:PVT",
    "vit": "mixmae.encoders.vit.model:ViT",
}
METHODS = {
    "mixmae": "mixmae.methods.mixmae.model:MixMAE",
    "simmim": "baselines.simmim.model:SimMIM",
    "mae": "baselines.mae.model:MAE",
    "supervised": "mixmae.evaluations.finetune.model:Supervised",
}
DATASETS = {
    "digits": "mixmae.data.digits.source:Digits",
    "image_folder": "mixmae.data.image_folder.source:ImageFolder",
}
STAGES = {
    "pretrain": "mixmae.training.pretrain.run:run",
    "finetune": "mixmae.evaluations.finetune.run:run",
    "linear": "mixmae.evaluations.linear.run:run",
    "knn": "mixmae.evaluations.knn.run:run",
}
TRACKERS = {
    "tensorboard": "mixmae.tracking.tensorboard:TensorBoard",
    "wandb": "mixmae.tracking.wandb:WeightsAndBiases",
    "mlflow": "mixmae.tracking.mlflow:MLflow",
    "trackio": "mixmae.tracking.trackio:Trackio",
}
KEY_MAPS = {
    "mixmae_pretrain": "mixmae.methods.mixmae.official:OFFICIAL_KEYS",
    "mixmae_classifier": "mixmae.methods.mixmae.official:OFFICIAL_CLASSIFIER_KEYS",
    "simmim_swin_pretrain": "baselines.simmim.official:OFFICIAL_SWIN_KEYS",
    "simmim_swin_classifier": "baselines.simmim.official:OFFICIAL_SWIN_CLASSIFIER_KEYS",
    "simmim_vit_pretrain": "baselines.simmim.official:OFFICIAL_VIT_KEYS",
    "simmim_vit_classifier": "baselines.simmim.official:OFFICIAL_VIT_CLASSIFIER_KEYS",
    "mae_vit_pretrain": "baselines.mae.official:OFFICIAL_VIT_KEYS",
    "mae_vit_classifier": "baselines.mae.official:OFFICIAL_VIT_CLASSIFIER_KEYS",
    "mae_swin_pretrain": "baselines.mae.official:OFFICIAL_SWIN_KEYS",
    "pvt_classifier": "mixmae.encoders.pvt.official:CLASSIFIER_KEYS",
    "twins_svt_classifier": "mixmae.encoders.twins_svt.official:CLASSIFIER_KEYS",
    "timm_swin_classifier": "mixmae.encoders.swin.official:TIMM_CLASSIFIER_KEYS",
    "timm_twins_svt_classifier": "mixmae.encoders.twins_svt.official:CLASSIFIER_KEYS",
}
"""Kinds of official weights, and the map of their parameter names onto ours."""


def resolve(dotted: str):
    """The object behind `package.module:Name`."""
    module, name = dotted.split(":")
    return getattr(import_module(module), name)
