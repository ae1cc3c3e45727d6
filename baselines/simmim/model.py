"""SimMIM (Xie et al., CVPR 2022): mask tokens in the encoder, a one-layer decoder, L1 on hidden pixels."""

from math import ceil

import numpy as np
import torch
import torch.nn.functional as F
from timm.layers import trunc_normal_
from torch import Tensor, nn

from baselines.simmim.spec import SimmimConfig
from mixmae.encoders.encoder import Encoder
from mixmae.methods.output import Method, Output, draw_hidden, fresh_rng


class SimMIM(Method):
    """encoder: hierarchical or ViT. mask_unit: side in pixels of what is masked as one. ratio: rounded up.

    Called with images (B, 3, H, W), normalised, and optionally a mask (B, H / mask_unit, W / mask_unit), bool.
    `Output.prediction` is (B, 3, H, W), `Output.mask` the mask.
    """

    def __init__(self, encoder: Encoder, config: SimmimConfig):
        super().__init__()
        self.encoder, self.ratio, self.mask_unit = encoder, config.ratio, config.mask_unit or encoder.unit
        width = encoder.width if not encoder.hierarchical else encoder.widths[0]
        self.mask_token = nn.Parameter(trunc_normal_(torch.zeros(1, 1, width), std=0.02))
        self.decoder = nn.Conv2d(encoder.width, encoder.unit**2 * 3, 1)

    def draw_mask(self, count: int, rng: np.random.Generator) -> Tensor:
        """Draws (count, rows, columns) bool; ceil(cells * ratio) are hidden in each."""
        return self._draw(count, self.encoder.image_size, rng)

    def _draw(self, count: int, size: tuple[int, int], rng: np.random.Generator) -> Tensor:
        rows, columns = (side // self.mask_unit for side in size)
        hidden = ceil(rows * columns * self.ratio)
        masks = [draw_hidden(rows * columns, hidden, rng).reshape(rows, columns) for _ in range(count)]
        return torch.from_numpy(np.stack(masks))

    def forward(self, images: Tensor, mask: Tensor | None = None) -> Output:
        if mask is None:
            mask = self._draw(len(images), (images.shape[-2], images.shape[-1]), fresh_rng())
        mask = mask.to(images.device)
        self._check(images, mask)
        tokens = self.forward_encoder(images, mask)
        prediction = self.forward_decoder(tokens, self.encoder.grid(images))
        return Output(self.forward_loss(images, prediction, mask), prediction, mask)

    def _check(self, images: Tensor, mask: Tensor) -> None:
        height, width = images.shape[-2:]
        wanted = (len(images), height // self.mask_unit, width // self.mask_unit)
        if tuple(mask.shape) != wanted or mask.dtype != torch.bool:
            raise ValueError(f"the mask is {tuple(mask.shape)} {mask.dtype}, wanted {wanted} torch.bool")

    def forward_encoder(self, images: Tensor, mask: Tensor) -> Tensor:
        """Returns (B, units, width), units row-major; hidden tokens are replaced after the patch embedding."""
        encoder = self.encoder
        tokens = encoder.embed(encoder.pixels(images))
        layout = encoder.whole(images)
        place = layout.stages[0]
        cells = self.mask_unit // encoder.patch_size
        row, column = place.index // place.size[1], place.index % place.size[1]
        hidden = mask[:, row // cells, column // cells].unsqueeze(-1)
        tokens = torch.where(hidden, self.mask_token.to(tokens.dtype), tokens)
        if encoder.hierarchical:
            return encoder.encode(tokens, layout)[-1]
        return encoder.encode(tokens, layout.grid)[:, 1:]

    def forward_decoder(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Predicts pixels by a 1 x 1 convolution and a pixel shuffle."""
        return F.pixel_shuffle(self.decoder(tokens.transpose(1, 2).unflatten(2, grid)), self.encoder.unit)

    def forward_loss(self, images: Tensor, prediction: Tensor, mask: Tensor) -> Tensor:
        """Returns L1 on hidden pixels / (their count + 1e-5) / channels, in float32."""
        hidden = mask.repeat_interleave(self.mask_unit, 1).repeat_interleave(self.mask_unit, 2).unsqueeze(1)
        error = (images.float() - prediction.float()).abs() * hidden
        return error.sum() / (hidden.sum() + 1e-5) / images.shape[1]

    def encoder_tokens(self, images: Tensor, mask: Tensor) -> Tensor:
        return self.forward_encoder(images, mask.to(images.device))

    def no_weight_decay(self) -> set[str]:
        return {"mask_token"} | {f"encoder.{name}" for name in self.encoder.no_weight_decay()}
