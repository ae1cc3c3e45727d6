"""What the official classes' constructor arguments share, and how shapes are read (no torch).

One model a class: its fields and defaults are those of the official constructor; values that would make a model we do
not have are refused. Three settings that official code keeps elsewhere may stand beside them: `layer_norm_eps`,
`mask_ratio` and `mask_patch_size`. `from_shapes` reads from the tensors' shapes what they decide.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from mixmae.fields.model import Model, NotNegative, Positive

Shapes = dict[str, tuple[int, ...]]
"""Shapes by our names, and of recomputed tensors by their official ones."""


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, Field(gt=0), BeforeValidator(_whole)]
PerStage = Annotated[tuple[Positive, ...], Field(strict=False, min_length=2, max_length=4)]


class Arguments(Model):
    """The arguments that all classes share. Rates of dropout and stochastic depth do not change weights."""

    img_size: Positive = 224
    in_chans: Literal[3] = 3
    qkv_bias: Literal[True] = True
    qk_scale: None = None
    drop_rate: float = 0.0
    attn_drop_rate: float = 0.0
    drop_path_rate: float = 0.0
    layer_norm_eps: NotNegative

    undecided: ClassVar[tuple[str, ...]] = ()
    """Arguments that shapes alone do not decide."""

    @classmethod
    def from_shapes(cls, shapes: Shapes) -> dict[str, Any]:
        """Reads the arguments that the tensors' shapes decide."""
        raise NotImplementedError

    def description(self) -> dict[str, Any]:
        """Returns the fields of the `mixmae.weights.description.Description` of the model."""
        raise NotImplementedError


def both_sides(side: int) -> tuple[int, int]:
    return side, side


def count(shapes: Shapes, name: str, *before: int) -> int:
    """Counts how many consecutive numbers, from 0, in the last `{}` of `name` give a name in `shapes`."""
    number = 0
    while name.format(*before, number) in shapes:
        number += 1
    return number


def depths_of(shapes: Shapes, name: str, first: int = 0) -> list[int]:
    """Counts the blocks of each stage; `name` has a `{}` for the stage, counted from `first`, and one for the block."""
    depths: list[int] = []
    while depth := count(shapes, name, first + len(depths)):
        depths.append(depth)
    return depths


def decoder_of(shapes: Shapes) -> dict[str, int]:
    """Returns width and depth of a decoder; 512 and 0 where the file has none."""
    width = shapes.get("decoder.embed.weight", (512,))[0]
    return {"width": width, "depth": count(shapes, "decoder.blocks.{}.norm1.weight")}
