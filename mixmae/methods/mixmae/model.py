"""MixMAE: mixed and masked autoencoding (Liu et al., CVPR 2023, section 3; released code of the authors)."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mixmae.attention.layouts import Layout, slots_of
from mixmae.encoders.encoder import Encoder
from mixmae.methods.decoder import Decoder
from mixmae.methods.initialisation import reset_as_mae
from mixmae.methods.mixmae.spec import MixmaeConfig
from mixmae.methods.output import Method, Output, draw_hidden, fresh_rng
from mixmae.methods.target import reconstruction_target


def members_of(count: int, images: int) -> np.ndarray:
    """Returns (images, count): which image of a chunk of `count` mixed image i shows in slot s.

    Member m of group g is image m * count/k + g for even m and m * count/k + (count/k - 1 - g) for odd m; mixed image
    j of a group shows member (j + s) mod k in slot s. For two images the partner of i is count - 1 - i. Raises
    ValueError where `count` is no multiple of `images`.
    """
    if count % images:
        raise ValueError(f"a chunk of {count} images cannot be mixed {images} by {images}")
    size = count // images
    groups = np.arange(size)
    member = np.stack([m * size + (groups if m % 2 == 0 else size - 1 - groups) for m in range(images)])
    shown = np.empty((images, count), dtype=np.int64)
    for slot in range(images):
        shown[slot, member] = member[(np.arange(images) + slot) % images]
    return shown


class MixMAE(Method):
    """Mixes images by units, encodes each source image apart from the others, reconstructs them all.

    encoder: a hierarchical encoder.

    Called with one chunk of images (C, 3, H, W), normalised, and optionally the slots that units show: (rows, columns)
    ints 0 … images-1 on the unit grid, or for two images (or none mixed) a bool mask, True = not the own image.
    `Output.prediction` is (decodings * C, units, unit² * 3): first slot 0 (row i is image i), then slot 1, …
    (row i is image `members_of(C, images)[slot, i]`). `Output.mask` is (rows, columns).
    """

    def __init__(self, encoder: Encoder, config: MixmaeConfig):
        super().__init__()
        if not encoder.hierarchical:
            raise ValueError("mixmae needs a hierarchical encoder")
        self.encoder = encoder
        self.ratio, self.images, self.fill = config.ratio, config.images, config.fill
        self.dual, self.masked_attention = config.dual, config.masked_attention
        self.normalised_target = config.normalised_target
        self.decoder = Decoder(encoder, config)
        reset_as_mae(self)
        self.decoder.reset_tokens()
        if self.fill == "token":
            self.fill_token = nn.Parameter(torch.randn(1, 1, encoder.widths[0]) * 0.02)
        self.mix_embeddings: nn.ParameterList | None = None
        if config.mix_embedding:
            self.mix_embeddings = nn.ParameterList(torch.randn(self.images, width) * 0.02 for width in encoder.widths)

    def draw_mask(self, count: int, rng: np.random.Generator) -> Tensor:
        """Draws (rows, columns) slots for one chunk: int(L * ratio) units leave slot 0, dealt as evenly as possible."""
        rows, columns = (side // self.encoder.unit for side in self.encoder.image_size)
        return self._draw((rows, columns), rng)

    def _draw(self, grid: tuple[int, int], rng: np.random.Generator) -> Tensor:
        units = grid[0] * grid[1]
        hidden = np.flatnonzero(draw_hidden(units, int(units * self.ratio), rng))
        slots = np.zeros(units, dtype=np.int64)
        for slot, part in enumerate(np.array_split(rng.permutation(hidden), self.images - 1), 1):
            slots[part] = slot
        return torch.from_numpy(slots.reshape(grid))

    def forward(self, images: Tensor, mask: Tensor | None = None) -> Output:
        grid = self.encoder.grid(images)
        slots = self._draw(grid, fresh_rng()) if mask is None else self._checked(mask, grid)
        tokens, layout = self.forward_encoder(images, slots)
        prediction = self.forward_decoder(tokens, layout)
        hidden = (slots != 0).to(images.device)
        return Output(self.forward_loss(images, prediction, layout), prediction, hidden)

    def _checked(self, slots: Tensor, grid: tuple[int, int]) -> Tensor:
        if tuple(slots.shape) != grid:
            raise ValueError(f"the mask is {tuple(slots.shape)}, the unit grid {grid}")
        if slots.is_floating_point() or (slots.dtype == torch.bool and self.images > 2):
            raise ValueError(f"mixing {self.images} images takes slots 0 … {self.images - 1}, not a {slots.dtype} mask")
        slots = slots.cpu().long()
        if slots.unique().tolist() != list(range(self.images)):
            raise ValueError(f"every slot 0 … {self.images - 1} must have a unit; found {slots.unique().tolist()}")
        return slots

    def forward_encoder(self, images: Tensor, slots: Tensor) -> tuple[Tensor, Layout]:
        """Returns the encoder's tokens (C, units, width), units sorted by slot, and their layout."""
        encoder = self.encoder
        parts = slots_of(slots, self.images)
        if self.fill != "image":
            return self._encode_filled(images, parts)
        layout = Layout(encoder.grid(images), parts, encoder.stages, self.masked_attention, images.device)
        tokens = encoder.embed(self.mix(encoder.pixels(images), layout))
        return encoder.encode(tokens, layout, self.mix_embeddings)[-1], layout

    def mix(self, units: Tensor, layout: Layout) -> Tensor:
        """Mixes the units of each image (C, units, …); the units of the mixed images are sorted by slot."""
        shown = torch.from_numpy(members_of(len(units), self.images)).to(units.device)
        parts = [units.index_select(1, slot)[shown[number]] for number, slot in enumerate(layout.slots)]
        return torch.cat([units.index_select(1, layout.slots[0]), *parts[1:]], 1)

    def _encode_filled(self, images: Tensor, parts: list[np.ndarray]) -> tuple[Tensor, Layout]:
        """Encodes the own tokens and, in place of the hidden ones, the fill, with plain attention."""
        encoder = self.encoder
        layout = Layout(encoder.grid(images), parts, encoder.stages, separate=False, device=images.device)
        own = layout.stages[0].slots[0]
        tokens = encoder.embed(encoder.pixels(images)[:, layout.units])
        tokens = torch.cat([tokens[:, own], self._filling(tokens[:, own.stop :])], 1)
        return encoder.encode(tokens, layout)[-1], layout

    def _filling(self, hidden: Tensor) -> Tensor:
        if self.fill == "zero":
            return torch.zeros_like(hidden)
        if self.fill == "noise":
            return torch.randn_like(hidden)
        return self.fill_token.to(hidden.dtype).expand_as(hidden)

    def forward_decoder(self, tokens: Tensor, layout: Layout) -> Tensor:
        """Unmixes: every slot is decoded with mask tokens where it is hidden; without `dual` slot 0 alone."""
        return self.decoder(tokens, layout.grid, layout.slots if self.dual else layout.slots[:1])

    def forward_loss(self, images: Tensor, prediction: Tensor, layout: Layout) -> Tensor:
        """Returns the mean squared error over the units that were hidden, of all decodings together, in float32."""
        target = reconstruction_target(images, self.encoder.unit, self.normalised_target)
        shown = torch.from_numpy(members_of(len(images), self.images)).to(images.device) if self.dual else None
        total: Any = 0.0
        scored = 0
        for slot, decoded in enumerate(prediction.float().chunk(len(layout.slots) if self.dual else 1)):
            hidden = torch.ones(target.shape[1], dtype=torch.bool, device=images.device)
            hidden[layout.slots[slot]] = False
            wanted = target if slot == 0 or shown is None else target[shown[slot]]
            error = (decoded - wanted).square().mean(-1)[:, hidden]
            total, scored = total + error.sum(), scored + error.numel()
        return total / scored

    def encoder_tokens(self, images: Tensor, mask: Tensor) -> Tensor:
        return self.forward_encoder(images, mask)[0]

    def no_weight_decay(self) -> set[str]:
        own = {"decoder.mask_token", "fill_token", *(n for n, _ in self.named_parameters() if "mix_embeddings" in n)}
        return own | {f"encoder.{name}" for name in self.encoder.no_weight_decay()}
