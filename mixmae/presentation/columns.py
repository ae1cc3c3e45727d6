"""Columns of tables and plots: dotted paths of a run's row, and short names for some of them (no torch, no pandas)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mixmae.encoders.families import variants
from mixmae.fields.texts import bytes_of
from mixmae.presentation.row import method_labels

SCORED = "evaluation.measure"
"""The column that says which split an evaluation scored."""
MISSING = "\N{EN DASH}"
"""What stands where there is nothing."""


@dataclass(frozen=True)
class Alias:
    """A short name. axis: its label below a figure. speaks: its values say what they are values of. doubled: it is
    swept by doubling. absent: what a value of nothing means where others have one."""

    path: str
    label: str
    axis: str = ""
    speaks: bool = False
    doubled: bool = False
    absent: str = MISSING


ALIASES: dict[str, Alias] = {
    "method": Alias("method", "method", speaks=True),
    "encoder": Alias("encoder.name", "encoder", speaks=True),
    "pretrain_epochs": Alias("pretrain.epochs", "epochs", "pretraining epochs", doubled=True),
    "budget": Alias("pretrain.budget", "budget", speaks=True),
    "budget_reached": Alias("pretrain.budget_reached", "budget reached, %"),
    "budget_memory": Alias("pretrain.budget_memory", "memory a step"),
    "ratio": Alias("method.ratio", "ratio", "share of hidden units"),
    "images": Alias("method.images", "images", "images mixed"),
    "fill": Alias("method.fill", "fill", speaks=True),
    "dual": Alias("method.dual", "dual"),
    "masked_attention": Alias("method.masked_attention", "masked attention"),
    "mix_embedding": Alias("method.mix_embedding", "mix embedding"),
    "normalised_target": Alias("method.normalised_target", "normalised target"),
    "decoder_depth": Alias("method.decoder_depth", "decoder depth", doubled=True),
    "decoder_width": Alias("method.decoder_width", "decoder width", doubled=True),
    "mask_unit": Alias("method.mask_unit", "mask unit"),
    "labels_per_class": Alias("evaluation.subset.labels_per_class", "labels a class", doubled=True, absent="all"),
    "fraction": Alias("evaluation.subset.fraction", "share of labels", absent="all"),
    "image_size": Alias("image_size", "image size"),
    "data": Alias("data.name", "data", speaks=True),
    "weights": Alias("weights", "weights", speaks=True),
}
"""Aliases by their short names, in the order in which they are preferred to tell runs apart."""

BUDGET = ALIASES["budget"].path
"""How the paths of a budget's columns begin; what it came to are epochs."""

_SHORT = {alias.path: name for name, alias in ALIASES.items()}


def canonical(column: str) -> str:
    """The short name of a path that has one."""
    return _SHORT.get(column, column)


def value(row: Mapping[str, Any], column: str, names: Sequence[str] = ()) -> Any:
    """What a row has in a column, None where nothing. `evaluations.NAME.PATH` is `evaluation.PATH` of the runs that the
    grid calls NAME; names: what it calls this run."""
    path = ALIASES[column].path if column in ALIASES else column
    if path.startswith("evaluations."):
        _, name, rest = path.split(".", 2)
        return row.get(f"evaluation.{rest}") if name in names else None
    return row.get(path)


def assigned(column: str, name: str) -> str:
    """The path by which a grid sets a column; name: what it calls the evaluation whose own recipe is meant."""
    path = ALIASES[column].path if column in ALIASES and column != "encoder" else column
    return f"evaluations.{name}.{path.removeprefix('evaluation.')}" if path.startswith("evaluation.") else path


def label(column: str) -> str:
    return ALIASES[column].label if column in ALIASES else column


def axis_label(column: str) -> str:
    return (ALIASES[column].axis if column in ALIASES else "") or label(column)


def speaks(column: str) -> bool:
    """Whether its values say what they are values of."""
    return column in ALIASES and ALIASES[column].speaks


def named(column: str, text: str) -> str:
    """A value's text with what it is a value of, where it does not say it."""
    return text if speaks(column) else f"{label(column)} {text}"


def shown(column: str, value: Any) -> str:
    """A value as text."""
    if value is None or value == "-":
        return MISSING
    if column == "method":
        return str(method_labels().get(value, value))
    if column == "budget_memory":
        return bytes_of(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ("x" if column == "image_size" else ", ").join(shown("", each) for each in value)
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def position(column: str, value: Any) -> tuple[Any, ...]:
    """A key to sort values by: methods and encoders as they are listed, others by size, missing ones last."""
    order = {"method": list(method_labels()), "encoder": list(variants())}.get(column, [])
    if value is None:
        return (2, 0, "")
    if value in order:
        return (0, order.index(value), "")
    if isinstance(value, tuple):
        return (1, value[0] if value and isinstance(value[0], int | float) else 0, str(value))
    return (1, 0, value) if isinstance(value, str) else (1, value, "")


def own(column: str) -> bool:
    """Whether runs of one experiment may differ in it by their recipe alone."""
    path = ALIASES[column].path if column in ALIASES else column
    return path.startswith(("evaluation", "image_size", "encoder.")) and column != "encoder"


def of_pretraining(column: str) -> bool:
    """Whether only what was pretrained has it."""
    return (ALIASES[column].path if column in ALIASES else column).startswith(("method.", "pretrain."))


def of_encoder(column: str) -> bool:
    """Whether it says which encoder it is."""
    return (ALIASES[column].path if column in ALIASES else column).startswith("encoder.")


def of_measured(column: str) -> bool:
    """Whether it says on which images something is measured, or with which of their labels."""
    path = ALIASES[column].path if column in ALIASES else column
    if path.startswith("evaluations."):
        path = f"evaluation.{path.split('.', 2)[2]}"
    return path in ("image_size", "evaluation.measure") or path.startswith(("data.", "evaluation.subset."))


def as_in_rows(column: str, written: Any) -> Any:
    """What a grid file writes, as rows have it."""
    if isinstance(written, list | tuple):
        sides = tuple(as_in_rows("", each) for each in written)
        return sides[0] if column == "image_size" and len(set(sides)) == 1 else sides
    return written


def paths(rows: Iterable[Mapping[str, Any]]) -> dict[str, None]:
    """Every column that some row has, aliases first."""
    filled = dict.fromkeys(path for row in rows for path, value in row.items() if value is not None)
    short = dict.fromkeys(name for name, alias in ALIASES.items() if alias.path in filled)
    return short | dict.fromkeys(canonical(path) for path in filled)
