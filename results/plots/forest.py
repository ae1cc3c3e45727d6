"""How far every setting of a grid is from one of them: differences of top-1, a row a setting, a panel a stage."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args

import pandas as pd

from mixmae.fields.identity import Key
from mixmae.presentation.declaration import Column, Declaration, PlotSpec
from results.cells import MISSING, STAGE_LABELS, member_ids, member_rows, separating_columns, shown
from results.declared import meets
from results.plots.layout import compose, few_round_ticks, line_inches, panels, wrapped
from results.plots.theme import COLOURS, GREY, PAGE_INCHES, TEXT
from results.statistics import FEWEST
from results.tables import COLUMN_LABELS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CONFIDENCE = 0.95
ROW, AROUND = 0.32, 0.65
"""Inches a row takes at least, and those above and below the rows."""
NAMES = 0.36
"""Share of the figure's width that the names of settings take at most."""

_BLANK = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}
_COLUMNS = get_args(Column)
_OF_STAGES = ("labels_per_class", "fraction", "image_size")
_OF_METHODS = (
    "ratio", "images", "fill", "dual", "masked_attention", "mix_embedding", "normalised_target", "decoder_depth",
    "decoder_width",
)  # fmt: skip


@dataclass
class Setting:
    """declared: values as the grid file has them; run: those of the runs, which differ at a scale."""

    declared: Mapping[str, Any]
    keys: set[Key] = field(default_factory=set)
    run: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Difference:
    """In points of top-1, over n matched seeds: the mean, and half its t interval (None below FEWEST seeds)."""

    n: int
    mean: float
    half: float | None


def draw_forest(frame: pd.DataFrame, spec: PlotSpec, declaration: Declaration, title: str) -> "Figure":
    """Mean paired differences to the reference over the seeds that both have, with 95 % t intervals.

    Raises ValueError where `reference` does not name exactly one setting.
    """
    rows = member_rows(frame, declaration.members, spec.sweeps, spec.stages)
    settings = _settings(rows, spec, declaration)
    reference = _reference(settings, spec)
    others, hidden = _with_runs_of_their_own(settings, reference)
    _check_repetitions(rows, settings)
    names = _names(others, reference)
    labels = ["\n".join(wrapped(name, NAMES * PAGE_INCHES)) for name in names]
    row = max([ROW, *((label.count("\n") + 1) * line_inches(TEXT) + 0.06 for label in labels)])
    figure, axes = panels(len(spec.stages), AROUND + row * max(len(others), 1), len(spec.stages), PAGE_INCHES)
    found: list[Difference] = []
    for ax, stage in zip(axes, spec.stages, strict=True):
        of_stage = rows[(rows["stage"] == stage) & (rows["state"] == "done")]
        found += _draw_panel(ax, stage, of_stage, others, reference)
        ax.set(title=STAGE_LABELS[stage], xlabel="Δ top-1 (points)")
        ax.set_yticks(range(len(others)), labels if ax is axes[0] else [""] * len(labels))
    compose(figure, title, [], _notes(found, reference, spec, hidden))
    return figure


# ---------------------------------------------------------------------------------------------------------- settings


def declared_reference(frame: pd.DataFrame, spec: PlotSpec, declaration: Declaration) -> Setting:
    """The setting that a forest compares with. Raises ValueError where `reference` does not name exactly one."""
    rows = member_rows(frame, declaration.members, spec.sweeps, spec.stages)
    return _reference(_settings(rows, spec, declaration), spec)


def _settings(rows: pd.DataFrame, spec: PlotSpec, declaration: Declaration) -> list[Setting]:
    """The distinct values of the columns, in the order in which the sweeps declare them. What an evaluation has of its
    own tells settings apart only where it varies among the runs of the stage: an experiment is one setting in all."""
    wanted = {key for key in member_ids(declaration.members, spec.sweeps) if key[0] in spec.stages}
    cases = [(key, case) for key, found in declaration.full.items() if key in wanted for case in found]
    run = {(row["stage"], row["id"]): _plain(row) for row in rows.to_dict("records")}
    alike = {
        stage: [name for name in _OF_STAGES if len({case[name] for key, case in cases if key[0] == stage}) < 2]
        for stage in spec.stages
    }
    settings: dict[tuple, Setting] = {}
    for key, case in cases:
        values = tuple(None if name in alike[key[0]] else case[name] for name in _COLUMNS)
        setting = settings.setdefault(values, Setting(case))
        setting.keys.add(key)
        setting.run = setting.run or run.get(key, declaration.planned.get(key, {}))
    return list(settings.values())


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: None if pd.isna(row[name]) else row[name] for name in _COLUMNS}


def _with_runs_of_their_own(settings: Iterable[Setting], reference: Setting) -> tuple[list[Setting], list[Setting]]:
    """The settings beside the reference, and those left out because a scale makes the same runs of them as of one
    before."""
    kept, hidden = {frozenset(reference.keys): reference}, []
    for setting in settings:
        if kept.setdefault(frozenset(setting.keys), setting) is not setting:
            hidden.append(setting)
    return [setting for setting in kept.values() if setting is not reference], hidden


def _reference(settings: Sequence[Setting], spec: PlotSpec) -> Setting:
    written = ", ".join(f"{name}: {value}" for name, value in spec.reference.items())
    fitting = [setting for setting in settings if meets(setting.declared, spec.reference)]
    if len(fitting) == 1:
        return fitting[0]
    if not spec.reference:
        what = "a forest needs the setting that others are compared with; write reference: {column: value}"
    elif fitting:
        differ = [name for name in _COLUMNS if len({setting.declared[name] for setting in fitting}) > 1]
        what = f"{len(fitting)} settings have {written}; name in reference what tells them apart: {', '.join(differ)}"
    else:
        what = f"no setting has {written}; write in reference the values of one that is swept"
    raise ValueError(f"plot {spec.name}: {what}")


def _check_repetitions(rows: pd.DataFrame, settings: Sequence[Setting]) -> None:
    """Raises MixedCell where the runs of a setting differ in more than their seed."""
    places = {key: place for place, setting in enumerate(settings) for key in setting.keys}
    ours = [places.get(pair) for pair in zip(rows["stage"], rows["id"], strict=True)]
    separating_columns(rows.assign(setting=ours), ("setting", *_COLUMNS), ("stage",))


# ------------------------------------------------------------------------------------------------------------- names


def _names(settings: Sequence[Setting], reference: Setting) -> list[str]:
    """What they differ in from the reference; of another method its own fields only where names would be alike."""
    short = [_name(setting, reference, brief=True) for setting in settings]
    return [
        name if short.count(name) == 1 else _name(setting, reference, brief=False)
        for name, setting in zip(short, settings, strict=True)
    ]


def _name(setting: Setting, reference: Setting, brief: bool) -> str:
    differ = [name for name in _COLUMNS if setting.declared[name] != reference.declared[name]]
    if brief and "method" in differ:
        differ = [name for name in differ if name not in _OF_METHODS]
    return " · ".join(_part(setting, name) for name in differ if setting.declared[name] is not None)


def _part(setting: Setting, name: str) -> str:
    """A value as it was run; as it is declared where nothing was."""
    text = shown(name, setting.run.get(name, setting.declared[name]))
    return text if name in ("method", "encoder") else f"{COLUMN_LABELS.get(name, name)} {text}"


def _notes(found: Sequence[Difference], reference: Setting, spec: PlotSpec, hidden: Sequence[Setting]) -> list[str]:
    notes = [f"Zero: {' · '.join(_part(reference, name) for name in spec.reference)}."]
    repeated = sorted({difference.n for difference in found if difference.half is not None})
    if repeated:
        span = f"{repeated[0]} to {repeated[-1]}" if repeated[1:] else f"{repeated[0]}"
        notes.append(f"Mean difference over {span} matched seeds, with its 95 % t interval.")
    if any(difference.half is None for difference in found):
        notes.append(f"Hollow: fewer than {FEWEST} matched seeds, so no interval.")
    if hidden:
        names = "; ".join(dict.fromkeys(_name(setting, reference, brief=False) for setting in hidden))
        notes.append(f"Not shown, since at this scale they are the same runs as another setting: {names}.")
    return notes


# ----------------------------------------------------------------------------------------------------------- drawing


def _draw_panel(
    ax: "Axes", stage: str, done: pd.DataFrame, settings: Sequence[Setting], reference: Setting
) -> list[Difference]:
    ax.axvline(0, color="0.3", linewidth=0.8, zorder=1)
    ax.set_ylim(len(settings) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.grid(False, axis="y")
    zero = _by_seed(done, reference)
    found = []
    for place, setting in enumerate(settings):
        ours = _by_seed(done, setting)
        difference = paired_difference(ours, zero)
        if difference is None:
            what = "no matched seed" if len(ours) and len(zero) else "not finished"
            what = what if any(key[0] == stage for key in setting.keys) else MISSING
            ax.text(
                0.5, place, what, transform=ax.get_yaxis_transform(), color=GREY, ha="center", va="center", bbox=_BLANK
            )
            continue
        found.append(difference)
        _draw_difference(ax, place, difference, COLOURS[setting.run["method"]])
    ax.margins(x=0.22)
    few_round_ticks(ax.xaxis, 4)
    if not found:
        ax.set_xticks([0.0], ["0"])
    return found


def _draw_difference(ax: "Axes", place: int, difference: Difference, colour: str) -> None:
    ax.errorbar(
        difference.mean, place, xerr=difference.half, color=colour, marker="o", markersize=5, markeredgewidth=1.1,
        markerfacecolor="none" if difference.half is None else colour,
    )  # fmt: skip
    text = f"{difference.mean:+.2f}".replace("-", "\N{MINUS SIGN}")
    ax.annotate(
        text, (difference.mean, place), (0, 4), textcoords="offset points", ha="center", va="bottom", bbox=_BLANK
    )


def _by_seed(done: pd.DataFrame, setting: Setting) -> pd.Series:
    """Top-1 of the setting's finished runs, by seed."""
    own = [pair in setting.keys for pair in zip(done["stage"], done["id"], strict=True)]
    return done[pd.Series(own, index=done.index, dtype=bool)].set_index("seed")["top1"]


def paired_difference(ours: pd.Series, reference: pd.Series) -> Difference | None:
    """`ours` less `reference` (top-1 by seed) over the seeds that both have; None where they share none. The interval
    is mean ± t(0.975, n - 1) · s / √n, with s of n - 1."""
    from scipy.stats import t

    differences = (ours - reference).dropna()
    n = len(differences)
    if n == 0:
        return None
    if n < FEWEST:
        return Difference(n, float(differences.mean()), None)
    half = t.ppf((1 + CONFIDENCE) / 2, n - 1) * differences.std(ddof=1) / n**0.5
    return Difference(n, float(differences.mean()), float(half))
