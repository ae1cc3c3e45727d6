"""What can be said of two settings with one seed each: McNemar's test of two trained models, and how often it separates
two seeds of one setting (no torch).

The test knows the sampling of images, not that of weights, masks and orders: it compares two models, not two settings.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import numpy as np

from mixmae.fields.identity import Key
from mixmae.fields.texts import many
from mixmae.files.records import Damaged
from mixmae.presentation.shown import Shown
from mixmae.runs.folder import RunFolder
from mixmae.runs.predictions import Predictions, read_predictions
from results.statistics import ALPHA, mcnemar
from results.tables.controls import standings

NAMED = 8
"""Runs that a note names; more are counted."""


@dataclass(frozen=True)
class Single:
    """Two settings in a column of a table. text: how they are named. counted: whether the figure there is the share of
    images that are predicted right."""

    text: str
    column: int
    first: Sequence[Shown]
    second: Sequence[Shown]
    counted: bool


@dataclass(frozen=True)
class Told:
    """notes: the sentences below a table. folded: what is behind them."""

    notes: list[str]
    folded: list[str]


def told_of_single_models(singles: Sequence[Single], parts: Sequence[Sequence[Sequence[Shown]]]) -> Told:
    """parts: by row and column the runs of each cell of the table."""
    kept = _Kept()
    counted = [single for single in singles if single.counted]
    lines = [line for single in counted for line in _lines(single, kept)]
    notes = []
    if lines:
        columns = dict.fromkeys(single.column for single in counted)
        trained = [
            row for row in parts if not standings(run for cell in row for run in cell)
        ]  # controls may have no seed
        separated = [p <= ALPHA for column in columns for row in trained for p in _between_seeds(row[column], kept)]
        how_often = (
            f"between two seeds of one setting here it does so in {sum(separated)} of {len(separated)} pairs"
            if separated
            else "how often it does so between two seeds of one setting is not known here"
        )
        notes.append(
            "McNemar's exact test over the scored images (over sources, where several are made of one), folded away "
            f"below, tells trained models apart, not settings: {how_often} (p ≤ {ALPHA:g}). It sets nothing bold."
        )
    if kept.absent:
        named = [f"{'/'.join(key)} ({why})" for key, why in kept.absent.items()]
        more = f" and {len(named) - NAMED} more" if len(named) > NAMED else ""
        lines.append(f"Without predictions, and not run again for them: {', '.join(named[:NAMED])}{more}.")
        notes.append(f"{many(len(named), 'finished run')} kept no predictions that such a test needs.")
    return Told(notes, lines)


def _lines(single: Single, kept: "_Kept") -> Iterable[str]:
    """Yields what the test says of each seed that both settings have."""
    first, second = ({run.seed: run for run in runs if run.done} for runs in (single.first, single.second))
    for seed in sorted(first.keys() & second.keys()):
        found = kept.alone(first[seed], second[seed])
        if found is not None:
            yield f"{single.text}, seed {seed}: {found.text()}, McNemar's exact p = {found.p:.2g}."


def _between_seeds(runs: Sequence[Shown], kept: "_Kept") -> Iterable[float]:
    """Yields p of each pair of seeds of one setting."""
    done = sorted((run for run in runs if run.done), key=lambda run: run.seed)
    for one, other in combinations(done, 2):
        if (found := kept.alone(one, other)) is not None:
            yield found.p


@dataclass(frozen=True)
class _Alone:
    """How many sources each of two models alone predicts right; where several images are made of a source, more of
    them than the other does. sources, copies: how many there are, and the images of each."""

    first: int
    second: int
    sources: int
    copies: int

    @property
    def p(self) -> float:
        return mcnemar(self.first, self.second)

    def text(self) -> str:
        if self.copies == 1:
            of = many(self.sources, "image")
            return f"of {of}, {self.first} are right by the first alone and {self.second} by the second alone"
        of = f"{many(self.sources, 'source')} of {self.copies} images each"
        return f"of {of}, {self.first} have more of them right by the first and {self.second} by the second"


@dataclass
class _Kept:
    """Predictions of runs, each read once. absent: those that have none, and why."""

    absent: dict[Key, str] = field(default_factory=dict)
    _read: dict[Key, Predictions | None] = field(default_factory=dict)

    def alone(self, first: Shown, second: Shown) -> _Alone | None:
        """None where one of them kept no predictions, or they are of other images."""
        ours, theirs = self._of(first), self._of(second)
        if ours is None or theirs is None or ours.copies != theirs.copies:
            return None
        if not np.array_equal(ours.labels, theirs.labels):
            return None
        right, right_too = ours.correct, theirs.correct
        more, fewer = int((right > right_too).sum()), int((right < right_too).sum())
        return _Alone(more, fewer, len(right), ours.copies)

    def _of(self, run: Shown) -> Predictions | None:
        if run.key not in self._read:
            self._read[run.key] = self._opened(run)
        return self._read[run.key]

    def _opened(self, run: Shown) -> Predictions | None:
        try:
            found = read_predictions(RunFolder(Path(run.root), *run.key))
            why = "no such file"
        except (Damaged, OSError) as error:
            found, why = None, "damaged" if isinstance(error, Damaged) else str(error.strerror)
        if found is None:
            self.absent[run.key] = why
        return found
