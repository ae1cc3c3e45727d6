import numpy as np
import torch
from torch import Tensor, nn

from mixmae.encoders.encoder import Encoder
from mixmae.methods.output import Method, Output, draw_hidden, fresh_rng
from mixmae.methods.target import unit_pixels
from toybox.context_spec import ContextConfig


class Context(Method):
    """Called with images (B, 3, H, W) and a mask (B, units); `Output.prediction` is (B, units, unit² * 3)."""

    def __init__(self, encoder: Encoder, config: ContextConfig):
        super().__init__()
        self.encoder, self.share = encoder, config.share
        self.decoder = nn.Linear(encoder.width, encoder.unit**2 * 3)

    def draw_mask(self, count: int, rng: np.random.Generator) -> Tensor:
        height, width = self.encoder.image_size
        cells = (height // self.encoder.unit) * (width // self.encoder.unit)
        return torch.from_numpy(np.stack([draw_hidden(cells, int(cells * self.share), rng) for _ in range(count)]))

    def forward(self, images: Tensor, mask: Tensor | None = None) -> Output:
        mask = (self.draw_mask(len(images), fresh_rng()) if mask is None else mask).to(images.device)
        unit = self.encoder.unit
        rows, columns = images.shape[-2] // unit, images.shape[-1] // unit
        cells = mask.reshape(-1, 1, rows, columns)
        black = cells.repeat_interleave(unit, 2).repeat_interleave(unit, 3)
        prediction = self.decoder(self.encoder(images.masked_fill(black, 0.0)))
        error = (prediction.float() - unit_pixels(images.float(), unit)).square().mean(-1)
        return Output(error[mask].mean(), prediction, mask)

    def no_weight_decay(self) -> set[str]:
        return {f"encoder.{name}" for name in self.encoder.no_weight_decay()}
