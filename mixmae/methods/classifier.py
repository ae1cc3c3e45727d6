"""Supervised classification: an encoder, the mean over its tokens, a linear head. From scratch or fine-tuned."""

from collections.abc import Callable

import torch.nn.functional as F
from timm.layers import trunc_normal_
from torch import Tensor, nn

from mixmae.encoders.encoder import Encoder
from mixmae.methods.output import Output


class Classifier(nn.Module):
    """encoder: any. classes: how many. head_init_std: of the head's weights; its bias starts at zero.

    Called with images (B, 3, H, W), normalised, and targets: (B,) class numbers or (B, classes) probabilities.
    `Output.prediction` is the logits (B, classes); `Output.loss` the cross entropy in float32.
    """

    def __init__(self, encoder: Encoder, classes: int, head_init_std: float = 0.02):
        super().__init__()
        self.encoder = encoder
        if not encoder.hierarchical:
            encoder.train_positions()
        self.head = nn.Linear(encoder.width, classes)
        trunc_normal_(self.head.weight, std=head_init_std)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Tensor, targets: Tensor) -> Output:
        logits = self.logits(images)
        return Output(F.cross_entropy(logits.float(), targets), logits, None)

    def logits(self, images: Tensor) -> Tensor:
        return self.head(self.encoder.features(images))

    def group_matcher(self, coarse: bool = False) -> Callable[[str], int]:
        """Returns the function that gives a parameter's layer id by its name, for timm's layer-wise learning rates."""

        def layer(name: str) -> int:
            if name.startswith("encoder."):
                return self.encoder.layer_of(name.removeprefix("encoder."))
            return self.encoder.last_layer

        return layer

    def no_weight_decay(self) -> set[str]:
        return {f"encoder.{name}" for name in self.encoder.no_weight_decay()}
