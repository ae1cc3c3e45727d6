"""What processes that are forked have loaded. It stays, so that none of them looks through it for garbage."""

import atexit
import gc
import os
from importlib import import_module

MODULES = (
    "cli",
    "mixmae.cost.step",
    "mixmae.training.pretrain.run",
    "mixmae.evaluations.finetune.run",
    "mixmae.evaluations.knn.run",
    "mixmae.evaluations.linear.run",
    "mixmae.methods.mixmae.model",
    "baselines.mae.model",
    "baselines.simmim.model",
    "submitit.core.submission",
)

gc.disable()
for name in MODULES:
    import_module(name)
gc.freeze()
gc.enable()
atexit.register(os._exit, 0)  # else triton lists, at length, what it leaves in memory
