"""What an encoder family is to the rest of the program, and the families there are (no torch)."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Protocol, Self

import numpy as np
from pydantic import model_validator

from mixmae.encoders.exports import INSTEAD, Backbone, NotInOpenMMLab, NotInTimm, TimmModel
from mixmae.encoders.kinds import OfficialKind
from mixmae.fields.choice import Chosen
from mixmae.fields.identity import Recorded
from mixmae.fields.model import Ints, Model, Positive, WorkedOut, impossible
from mixmae.fields.nearest import instead
from mixmae.fields.specs import Specs, UnknownName


class EncoderModel(Model):
    """An encoder's config; `family` names its spec."""

    name: Annotated[str, Recorded] = "custom"
    """Name of the variant that was written; a label only."""
    patch_size: Positive

    family: str

    extra_tokens: ClassVar[int] = 0
    """Tokens beside those of patches, such as a class token."""

    @property
    def unit(self) -> int:
        """Side in pixels of what is masked as one: the last stage's token."""
        raise NotImplementedError

    @property
    def mask_unit(self) -> int:
        """Side in pixels of what methods with mask tokens mask as one, unless their config has another."""
        return self.unit

    @property
    def out_width(self) -> int:
        """Channels of the last stage's tokens."""
        raise NotImplementedError

    @property
    def stages(self) -> int:
        return 1

    @property
    def shape(self) -> dict[str, Any]:
        """The fields that decide how many parameters there are, besides windows and image size."""
        raise NotImplementedError

    @property
    def attends(self) -> dict[str, Any]:
        """The fields that decide, at one shape and image size, how many tokens attend to one another."""
        return {}

    @property
    def label(self) -> str:
        """Name of the variant, or of the family where it is custom."""
        return self.family if self.name == "custom" else self.name


class Hierarchical(EncoderModel):
    """The fields that hierarchical families share; tuples have one entry for each stage."""

    patch_size: Positive = 4
    """Side in pixels of a token of the first stage."""
    widths: Ints
    """Channels."""
    depths: Ints
    """Blocks."""
    heads: Ints
    """Attention heads."""
    mlp_ratios: Annotated[Ints, WorkedOut]
    """Width of the hidden layer of each block's MLP, over the stage's; default: 4 everywhere."""

    @property
    def stages(self) -> int:
        return len(self.depths)

    @property
    def unit(self) -> int:
        return self.patch_size * 2 ** (self.stages - 1)

    @property
    def out_width(self) -> int:
        return self.widths[-1]

    @property
    def shape(self) -> dict[str, Any]:
        named = ("family", "patch_size", "widths", "depths", "heads", "mlp_ratios")
        return {name: getattr(self, name) for name in named}

    @property
    def by_stage(self) -> dict[str, tuple[int, ...]]:
        """The fields that have one entry for each stage."""
        return {"widths": self.widths, "heads": self.heads, "mlp_ratios": self.mlp_ratios}

    @model_validator(mode="before")
    @classmethod
    def _one_mlp_ratio_for_all_stages(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and "mlp_ratios" not in raw and "depths" in raw:
            raw = {**raw, "mlp_ratios": (4,) * len(raw["depths"])}
        return raw

    @model_validator(mode="after")
    def _as_many_entries_as_stages(self) -> Self:
        for field, value in self.by_stage.items():
            if len(value) != self.stages:
                raise impossible((field,), f"{len(value)} entries for {self.stages} stages; write {self.stages}")
        for width, heads in zip(self.widths, self.heads, strict=True):
            if width % heads:
                raise impossible(("heads",), f"width {width} is not divisible by {heads} heads; write a divisor")
        return self


class EncoderSpec(Protocol):
    """An encoder family. What a family does not define is as defined here."""

    name: str
    label: str
    order: int = 1000
    version: int = 1
    """Raised by its author where the same config computes something else; part of the id where it is not 1."""
    config: type[EncoderModel]
    model: str
    """Dotted name of the module class: called with the config, the image size and the rate of drop path."""
    variants: Mapping[str, Mapping[str, Any]]
    """The fields that differ from the config's defaults, by the variant's name."""
    small: str
    """The variant that stands for the family at a scale that names no other."""
    small_size: int = 32
    """Side in pixels of the images it is made for."""
    hierarchical: bool = False
    """Whether its units hold several tokens of the first stage: for methods that mix or drop units of an image."""
    visible_only: bool = False
    """Whether it can encode the visible units alone."""

    def resolved(self, config: Any, image_size: tuple[int, int]) -> Any:
        """Returns the config with numbers in place of everything that depends on the image size."""
        return config

    def with_windows(self, config: Any, windows: tuple[int, ...]) -> Any:
        """Returns the config with other windows. Raises the error of a config field, placed at `windows`."""
        raise impossible((), f"{self.name} has no windows; leave it out")

    def multiply_adds(self, config: Any, image_size: tuple[int, int], sources: Sequence[np.ndarray]) -> int | None:
        """Returns the multiply-adds of one image's forward pass, config being resolved; None where nobody counts them.

        sources: row-major indices of units. Those of a source attend to one another alone, those in none are absent.
        """
        return None

    def finetuned(self, config: Any) -> Any:
        """Returns the config that a pretrained encoder is fine-tuned as."""
        return config

    def other_sizes(self, variant: str) -> tuple[tuple[int, tuple[int, ...]], ...]:
        """Returns (side in pixels, windows) of the sizes at which a variant is published besides its usual size."""
        return ()

    def official(self) -> tuple[OfficialKind, ...]:
        """Returns the kinds of official weights that are of this family and no method's."""
        return ()

    def timm(self, config: Any, image_size: tuple[int, int]) -> TimmModel:
        """Returns timm's model that computes the same. Raises NotInTimm."""
        raise NotInTimm(f"timm has no {self.label} that computes the same; {INSTEAD}")

    def openmmlab(self, config: Any, image_size: tuple[int, int], state: dict[str, Any]) -> Backbone:
        """Returns OpenMMLab's backbone with the weights in `state`, the encoder's own. Raises NotInOpenMMLab."""
        known = ", ".join(family.name for family in families if type(family).openmmlab is not EncoderSpec.openmmlab)
        what = f"OpenMMLab's names of a {self.name} were not verified; --to mmdet-keys knows {known}"
        raise NotInOpenMMLab(f"{what}; write --to safetensors")


def one_a_stage(windows: tuple[int, ...], stages: int) -> tuple[int, ...]:
    """Returns the windows. Raises the error of a config field where they are more or fewer than the stages."""
    if len(windows) != stages:
        raise impossible((), f"{len(windows)} windows for {stages} stages; write one a stage")
    return windows


families: Specs[EncoderSpec] = Specs("encoder", EncoderSpec, "mixmae.encoders", "mixmae.encoders")


def variants() -> dict[str, dict[str, Any]]:
    """Returns the fields of every variant by its name, in the order in which they are shown."""
    return {name: {"family": spec.name, **fields} for spec in families for name, fields in spec.variants.items()}


def _from_variant(written: dict[str, Any]) -> dict[str, Any]:
    """Lays what the user wrote over the named variant: `swin_base_w14` or {name: swin_base_w14, windows: …}."""
    if "family" in written:
        return written
    known = variants()
    if written.get("name") not in known:
        known = _installed_variants()
    if written.get("name") not in known:
        name = written.get("name")
        what = instead(str(name), known, "mixmae encoders lists them")
        raise impossible(("name",), f"no encoder variant {name!r}; {what}")
    family = families[known[written["name"]]["family"]]
    for field in _fields_of_others(family):
        if field in written:
            raise impossible((field,), f"{family.name} has no {field}; leave it out")
    return {**known[written["name"]], **written}


def _installed_variants() -> dict[str, dict[str, Any]]:
    """Those of installed plug-ins, too. Raises the error of a config field where one cannot be imported."""
    try:
        families.load_installed()
    except UnknownName as error:
        raise impossible(("name",), str(error)) from None
    return variants()


def _fields_of_others(family: EncoderSpec) -> Iterator[str]:
    for other in families:
        yield from other.config.model_fields.keys() - family.config.model_fields.keys()


EncoderConfig = Annotated[EncoderModel, Chosen(families, key="family", spread=_from_variant)]
"""A variant's name, a variant and what differs from it, or a family with all its fields."""
