"""The encoders as configs: what a file can say of each family, over the variants' defaults (no torch here)."""

from difflib import get_close_matches
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from mixmae.encoders.variants import VARIANTS
from mixmae.fields.identity import Neutral, Recorded
from mixmae.fields.model import Ints, Model, NotNegative, Positive, impossible, named


class Hierarchical(Model):
    """What the three hierarchical families share. Per-stage tuples have one entry a stage."""

    name: Annotated[str, Recorded] = "custom"
    """The variant this was written as: a label."""
    patch_size: Positive = 4
    widths: Ints
    depths: Ints
    heads: Ints
    mlp_ratios: Ints

    @property
    def stages(self) -> int:
        return len(self.depths)

    @property
    def unit(self) -> int:
        """Side in pixels of what is masked as one: the last stage's token."""
        return self.patch_size * 2 ** (self.stages - 1)

    @model_validator(mode="before")
    @classmethod
    def _one_mlp_ratio_for_all_stages(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and "mlp_ratios" not in raw and "depths" in raw:
            raw = {**raw, "mlp_ratios": (4,) * len(raw["depths"])}
        return raw

    @model_validator(mode="after")
    def _as_many_entries_as_stages(self):
        for field in ("widths", "heads", "mlp_ratios", "windows", "sr_ratios"):
            value = vars(self).get(field)
            if isinstance(value, tuple) and len(value) != self.stages:
                raise impossible((field,), f"{len(value)} entries for {self.stages} stages; write {self.stages}")
        for width, heads in zip(self.widths, self.heads, strict=True):
            if width % heads:
                raise impossible(("heads",), f"width {width} is not divisible by {heads} heads; write a divisor")
        return self


class SwinConfig(Hierarchical):
    family: Literal["swin"] = "swin"
    windows: Literal["grid"] | Ints = "grid"
    """Window sides in tokens. "grid": the whole grid in the last two stages, a half and a quarter before (the
    released MixMAE windows, [14, 14, 14, 7] at 224)."""
    shift: bool = False
    """Shift every second block's windows by half a window (stock Swin)."""
    positions: Literal["sincos", "none"] = "sincos"
    """Absolute position embedding, beside the relative position bias every block has."""
    norm_eps: NotNegative = 1e-5


class TwinsConfig(Hierarchical):
    family: Literal["twins_svt"] = "twins_svt"
    windows: Ints = (7, 7, 7, 7)
    """Sides in tokens of the windows of the even (local) blocks."""
    sr_ratios: Literal["unit"] | Ints = "unit"
    """Sides in tokens of what one reduced key stands for. "unit": a reduced key is a unit."""
    norm_eps: NotNegative = 1e-6


class PvtConfig(Hierarchical):
    family: Literal["pvt"] = "pvt"
    sr_ratios: Literal["unit"] | Ints = "unit"
    norm_eps: NotNegative = 1e-6
    class_token: Annotated[bool, Neutral(False)] = False
    """The last stage's class token of the published supervised models; for classifying only."""


class VitConfig(Model):
    family: Literal["vit"] = "vit"
    name: Annotated[str, Recorded] = "custom"
    patch_size: Positive = 16
    width: Positive
    depth: Positive
    heads: Positive
    mlp_ratio: Positive = 4
    style: Literal["mae", "beit"] = "mae"
    """"mae": sin-cos positions. "beit": one relative position bias for all blocks and LayerScale, as in SimMIM."""
    norm_eps: NotNegative = 1e-6
    shared_bias: Annotated[bool, Neutral(True)] = True
    """Style beit: one relative position bias for all blocks, as in pretraining; off: one a block, as in SimMIM's
    fine-tuning, which starts each from the shared one."""

    @property
    def unit(self) -> int:
        return self.patch_size

    @model_validator(mode="after")
    def _heads_divide_the_width(self):
        if self.width % self.heads:
            raise impossible(("heads",), f"width {self.width} is not divisible by {self.heads} heads; write a divisor")
        return self


def _from_variant(raw: Any) -> Any:
    """Lays what the user wrote over the named variant: `swin_base_w14` or {name: swin_base_w14, windows: …}."""
    raw = named(raw)
    if not isinstance(raw, dict) or "family" in raw:
        return raw
    if raw.get("name") not in VARIANTS:
        near = get_close_matches(str(raw.get("name")), VARIANTS, 1)
        instead = f"did you mean {near[0]}?" if near else "mixmae encoders lists them"
        raise impossible(("name",), f"no encoder variant {raw.get('name')!r}; {instead}")
    raw = {**VARIANTS[raw["name"]], **raw}
    family = raw["family"]
    for field in ("windows", "shift"):
        if field in raw and field not in FAMILIES[family].model_fields:
            raise impossible((field,), f"{family} has no {field}; leave it out")
    return raw


FAMILIES = {"swin": SwinConfig, "twins_svt": TwinsConfig, "pvt": PvtConfig, "vit": VitConfig}

EncoderConfig = Annotated[
    SwinConfig | TwinsConfig | PvtConfig | VitConfig,
    Field(discriminator="family"),
    BeforeValidator(_from_variant),
]
