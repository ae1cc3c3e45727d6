"""What a method is to the rest of the program, and the methods there are (no torch)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

import numpy as np

from mixmae.encoders.families import EncoderModel, families
from mixmae.encoders.kinds import OfficialKind
from mixmae.fields.choice import Chosen
from mixmae.fields.model import FieldPath, Model, impossible
from mixmae.fields.specs import Specs

Problem = tuple[FieldPath, str]
"""(path in an experiment, what is wrong and what to write instead)."""


class MethodModel(Model):
    """A method's config; `name` names its spec."""

    name: str


@dataclass(frozen=True)
class HiddenAs:
    """The title of a picture of what the encoder is shown, whether hidden units are left out there (white) or replaced
    (grey), and the words for that."""

    title: str
    left_out: bool
    note: str


class MethodSpec(Protocol):
    """A way to pretrain an encoder, or what takes the place of pretraining. What a method does not define is as defined
    here."""

    name: str
    label: str
    order: int = 1000
    version: int = 1
    """Raised by its author where the same config computes something else; part of the id where it is not 1."""
    colour: int | None = None
    """Its place in the palette of plots; None: the next that is free."""
    config: type[MethodModel]

    # ------------------------------------------------------------------------------------------------- what trains

    model: str | None = None
    """Dotted name of the module class: called with the encoder and the config. None: nothing is pretrained."""
    loss_label: str = "loss"
    """The loss in words, for an axis."""
    hidden_by: str = "ratio"
    """The field of its config that decides how many cells are hidden."""
    needs_hierarchical: bool = False
    needs_visible_only: bool = False
    reads_weights: bool = False
    """Whether evaluations start from a weights file, which the config names: `path` and `sha256`."""

    @property
    def pretrains(self) -> bool:
        return self.model is not None

    def mask_unit(self, config: Any, encoder: EncoderModel) -> int:
        """Returns the side in pixels of one cell of the mask."""
        return encoder.unit

    def hidden(self, config: Any, cells: int) -> int:
        """Returns how many of `cells` cells of the mask are hidden."""
        what = f"{self.name} hides nothing"
        raise NotImplementedError(what)

    def least_hidden(self, config: Any) -> int:
        """Returns the smallest number of cells that may be hidden."""
        return 1

    def encoded(self, config: Any, units: int) -> int:
        """Returns how many of `units` units enter the encoder."""
        return units

    def sources(self, config: Any, units: int, rng: np.random.Generator) -> list[np.ndarray]:
        """Returns the units that an image's mask lets into the encoder, drawn by `rng`: in one array those that attend
        to one another."""
        return [np.sort(rng.permutation(units)[: self.encoded(config, units)])]

    def images_together(self, config: Any) -> int:
        """Returns the number of images of which a chunk must be a multiple."""
        return 1

    def resolved(self, config: Any, encoder: EncoderModel) -> Any:
        """Returns the config with numbers in place of everything that depends on the encoder."""
        return config

    def head(self, config: Any, encoder: EncoderModel, units: int) -> tuple[int, int]:
        """Returns (multiply-adds of an image's forward pass, parameters) of what predicts pixels."""
        what = f"{self.name} predicts no pixels"
        raise NotImplementedError(what)

    # ------------------------------------------------------------------------------------------------- what is shown

    def published(self) -> Mapping[str, Any]:
        """Returns fields of the config, with the values that the published numbers were measured with."""
        return {}

    def hidden_as(self, config: Any) -> HiddenAs:
        """Returns how a gallery shows hidden units of images that are not mixed."""
        return HiddenAs("masked input", False, "grey: hidden units")

    def normalises(self, config: Any) -> bool:
        """Whether each unit's target is normalised by the unit's mean and deviation."""
        return False

    def official(self) -> tuple[OfficialKind, ...]:
        """Returns the kinds of official weights."""
        return ()

    def problems(self, config: Any, encoder: EncoderModel, image_size: tuple[int, int]) -> Iterator[Problem]:
        """Yields the problems that method, encoder and image size have with one another."""
        family = families[encoder.family]
        if self.pretrains:
            yield from self._masks(config, encoder, image_size)
        if self.needs_hierarchical and not family.hierarchical:
            fitting = ", ".join(f"{fit.name}_*" for fit in families if fit.hierarchical)
            yield ("encoder",), f"{self.name} needs a hierarchical encoder; write one of {fitting}"
        elif self.needs_visible_only and not family.visible_only:
            fitting = ", ".join(f"{fit.name}_*" for fit in families if fit.visible_only)
            yield ("encoder",), f"{self.name} needs an encoder of visible units alone; write one of {fitting}"

    def _masks(self, config: Any, encoder: EncoderModel, image_size: tuple[int, int]) -> Iterator[Problem]:
        unit, (height, width) = self.mask_unit(config, encoder), image_size
        if height % unit or width % unit or unit % encoder.patch_size:
            what = (
                f"{unit} px is not a multiple of the patch ({encoder.patch_size} px) that divides the image "
                f"({height} x {width} px); write {encoder.unit}"
            )
            yield ("method", "mask_unit"), what
            return
        cells = (height // unit) * (width // unit)
        hidden, least = self.hidden(config, cells), self.least_hidden(config)
        if not least <= hidden < cells:
            hides = f"{config.model_dump()[self.hidden_by]:g} hides {hidden} of {cells} units"
            what = f"{hides}; write a {self.hidden_by} that hides at least {least} and leaves one"
            yield ("method", self.hidden_by), what


methods: Specs[MethodSpec] = Specs("method", MethodSpec, "mixmae.methods", "mixmae.methods", "baselines")

MethodConfig = Annotated[MethodModel, Chosen(methods)]
"""A method's name, or its name and fields."""


def from_scratch() -> MethodSpec:
    """Returns the method that stands for no pretraining: evaluations start from random weights."""
    return next(spec for spec in methods if not spec.pretrains and not spec.reads_weights)


def check_decoder(method: Any) -> None:
    """Raises the error of a config field where the heads do not divide the decoder's width."""
    if method.decoder_width % method.decoder_heads or method.decoder_width % 4:
        what = (
            f"{method.decoder_width} is not divisible by 4 and by {method.decoder_heads} heads; "
            f"write a multiple of both"
        )
        raise impossible(("decoder_width",), what)


def decoder_head(config: Any, encoder: EncoderModel, units: int, encoded: int, decodings: int) -> tuple[int, int]:
    """Returns `MethodSpec.head` of a decoder of transformer blocks over all units, run `decodings` times for each image
    on the `encoded` units."""
    width, outputs, inner = encoder.out_width, encoder.unit**2 * 3, config.decoder_width
    tokens, hidden = units + encoder.extra_tokens, config.decoder_mlp_ratio * config.decoder_width
    block = tokens * (4 * inner * inner + 2 * inner * hidden) + 2 * tokens * tokens * inner
    embedded = (encoded + encoder.extra_tokens) * width * inner
    macs = embedded + decodings * (config.decoder_depth * block + tokens * inner * outputs)
    block_params = 4 * inner * inner + 4 * inner + 2 * inner * hidden + hidden + inner + 4 * inner
    params = (width + 1) * inner + inner + config.decoder_depth * block_params + 2 * inner + (inner + 1) * outputs
    return macs, params
