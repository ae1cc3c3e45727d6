from timm.layers import calculate_drop_path_rates
from timm.models.mlp_mixer import MixerBlock
from torch import Tensor, nn

from mixmae.encoders.encoder import Encoder
from toybox.mixer_spec import MixerConfig


class Mixer(Encoder):
    """One stage of mixer blocks on the patches of images of one size."""

    hierarchical = False
    stages = 1
    extra_tokens = 0

    def __init__(self, config: MixerConfig, image_size: tuple[int, int], drop_path: float = 0.0):
        super().__init__()
        self.image_size, self.patch_size, self.unit = tuple(image_size), config.patch_size, config.unit
        self.width, self.depth = config.width, config.depth
        patches = (image_size[0] // self.unit) * (image_size[1] // self.unit)
        rates = calculate_drop_path_rates(drop_path, self.depth)
        self.patch_embed = nn.Conv2d(3, self.width, self.unit, self.unit)
        self.blocks = nn.ModuleList(MixerBlock(self.width, patches, drop_path=rate) for rate in rates)
        self.norm = nn.LayerNorm(self.width)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, patches, width), row-major."""
        tokens = self.patch_embed(images).flatten(2).transpose(1, 2)
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)

    def features(self, images: Tensor) -> Tensor:
        return self(images).mean(1)

    def no_weight_decay(self) -> set[str]:
        return set()

    @property
    def last_layer(self) -> int:
        return self.depth + 1

    def layer_of(self, name: str) -> int:
        parts = name.split(".")
        if parts[0] == "blocks":
            return int(parts[1]) + 1
        return self.last_layer if parts[0] == "norm" else 0
