"""What processes that are forked have loaded. It stays, so that none of them looks through it for garbage."""

import gc

gc.disable()
import cli  # noqa: E402, F401
import mixmae.evaluations.finetune.run  # noqa: E402, F401
import mixmae.methods.mixmae.model  # noqa: E402, F401
import mixmae.training.pretrain.run  # noqa: E402, F401
from baselines.mae import model  # noqa: E402, F401
from mixmae.data.digits.source import Digits  # noqa: E402
from mixmae.data.digits.spec import DigitsConfig  # noqa: E402

Digits(DigitsConfig(), "val")  # reads them all
gc.freeze()
gc.enable()
