"""What processes that are forked have loaded. It stays, so that none of them looks through it for garbage."""

import gc
from importlib import import_module

MODULES = (
    "cli",
    "mixmae.training.pretrain.run",
    "mixmae.evaluations.finetune.run",
    "mixmae.methods.mixmae.model",
    "baselines.mae.model",
)

gc.disable()
for name in MODULES:
    import_module(name)
gc.freeze()
gc.enable()
