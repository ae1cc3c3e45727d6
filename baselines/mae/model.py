"""MAE (He et al., CVPR 2022): the encoder sees visible tokens only.

On ViT as published, with a mask per sample. On hierarchical encoders (as GreenMIM, Huang et al. 2022, does for Swin)
the chunk shares its mask on the unit grid and the encoder runs on visible tokens only: windows hold fewer of them.
"""

import numpy as np
import torch
from torch import Tensor

from baselines.mae.spec import MaeConfig
from mixmae.attention.layouts import Layout
from mixmae.encoders.encoder import Encoder
from mixmae.methods.decoder import Decoder
from mixmae.methods.initialisation import reset_as_mae
from mixmae.methods.output import Method, Output, draw_hidden, fresh_rng
from mixmae.methods.target import reconstruction_target


class MAE(Method):
    """encoder: hierarchical or ViT of style "mae".

    Called with images (B, 3, H, W), normalised, and optionally a mask, True = hidden: (rows, columns) of units on a
    hierarchical encoder, (B, rows, columns) with the same count in each row on ViT. `Output.prediction` is
    (B, units, unit² * 3), units row-major.
    """

    def __init__(self, encoder: Encoder, config: MaeConfig):
        super().__init__()
        if not encoder.hierarchical and encoder.style != "mae":
            raise ValueError("mae needs a ViT of style mae")
        self.encoder, self.ratio, self.normalised_target = encoder, config.ratio, config.normalised_target
        self.decoder = Decoder(encoder, config)
        reset_as_mae(self)
        self.decoder.reset_tokens()

    def draw_mask(self, count: int, rng: np.random.Generator) -> Tensor:
        """Draws one mask for the chunk, or on ViT one for each sample; int(L * (1 - ratio)) units stay."""
        rows, columns = (side // self.encoder.unit for side in self.encoder.image_size)
        return self._draw(count, (rows, columns), rng)

    def _draw(self, count: int, grid: tuple[int, int], rng: np.random.Generator) -> Tensor:
        units = grid[0] * grid[1]
        hidden = units - int(units * (1 - self.ratio))
        if self.encoder.hierarchical:
            return torch.from_numpy(draw_hidden(units, hidden, rng).reshape(grid))
        return torch.from_numpy(np.stack([draw_hidden(units, hidden, rng).reshape(grid) for _ in range(count)]))

    def forward(self, images: Tensor, mask: Tensor | None = None) -> Output:
        grid = self.encoder.grid(images)
        if mask is None:
            mask = self._draw(len(images), grid, fresh_rng())
        self._check(mask, len(images), grid)
        visible = self._visible(mask, images.device)
        tokens = self.forward_encoder(images, visible)
        prediction = self.decoder(tokens, grid, [visible])
        mask = mask.to(images.device)
        return Output(self.forward_loss(images, prediction, mask), prediction, mask)

    def _check(self, mask: Tensor, count: int, grid: tuple[int, int]) -> None:
        wanted = grid if self.encoder.hierarchical else (count, *grid)
        if tuple(mask.shape) != wanted:
            raise ValueError(f"the mask is {tuple(mask.shape)}, wanted {wanted}")
        hidden = mask.flatten(-2).sum(-1)
        if mask.dtype != torch.bool or (hidden == 0).any() or (hidden == grid[0] * grid[1]).any():
            raise ValueError("the mask must be bool, hide at least one unit and leave at least one")

    def _visible(self, mask: Tensor, device: torch.device) -> Tensor:
        """Returns the row-major units that stay: (n,) for a shared mask, (B, n) per sample."""
        seen = ~mask.cpu().flatten(-2)
        if self.encoder.hierarchical:
            return seen.nonzero().squeeze(1).to(device)
        counts = seen.sum(1)
        if not (counts == counts[0]).all():
            raise ValueError("every sample's mask must hide the same number of units")
        return seen.nonzero()[:, 1].reshape(len(mask), -1).to(device)

    def forward_encoder(self, images: Tensor, visible: Tensor) -> Tensor:
        """Returns (B, n visible, width) tokens in the order of `visible`; on ViT the class token comes first."""
        encoder = self.encoder
        pixels = encoder.pixels(images)
        if encoder.hierarchical:
            layout = Layout(encoder.grid(images), [visible.cpu().numpy()], encoder.stages, device=images.device)
            return encoder.encode(encoder.embed(pixels.index_select(1, visible)), layout)[-1]
        own = visible[:, :, None, None].expand(-1, -1, *pixels.shape[2:])
        return encoder.encode(encoder.embed(pixels.gather(1, own)), encoder.grid(images), visible)

    def forward_loss(self, images: Tensor, prediction: Tensor, mask: Tensor) -> Tensor:
        """Returns the mean squared error over hidden units, in float32."""
        target = reconstruction_target(images, self.encoder.unit, self.normalised_target)
        error = (prediction.float() - target).square().mean(-1)
        return error[mask.flatten(-2).expand_as(error)].mean()

    def encoder_tokens(self, images: Tensor, mask: Tensor) -> Tensor:
        return self.forward_encoder(images, self._visible(mask, images.device))

    def no_weight_decay(self) -> set[str]:
        return {"decoder.mask_token"} | {f"encoder.{name}" for name in self.encoder.no_weight_decay()}
