"""What the methods of a table are read against: controls, upper references, and what may be said of pretraining beside
them (no torch)."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from mixmae.experiment.metric import Metric
from mixmae.presentation.columns import of_encoder, of_measured
from mixmae.presentation.row import UNTRAINED, references
from mixmae.presentation.shown import Shown
from results.tables.table import Figures, Standing, label_of

PAYS = 5.0
"""Points by which the best pretrained mean is above the best control's where pretraining is said to pay."""


def standing(run: Shown) -> Standing | None:
    """What a run is that no method pretrained; None of others. One that starts from what was trained from scratch, such
    as a linear probe of it, is an upper reference."""
    if run.method not in references():
        return None
    return Standing.CONTROL if run.value("start") in UNTRAINED else Standing.UPPER


def standings(runs: Iterable[Shown]) -> tuple[Standing, ...]:
    """What the runs of a row are, where no method pretrained any of them."""
    found = {standing(run) for run in runs}
    return () if None in found else tuple(each for each in Standing if each in found)


@dataclass(frozen=True)
class Beside:
    """The cells of a table whose methods are read against its controls. columns: what tells rows apart. rows: their
    names. parts: by row and column the runs of a cell."""

    columns: Sequence[str]
    rows: Sequence[str]
    figures: Sequence[Figures]
    parts: Sequence[Sequence[Sequence[Shown]]]

    def notes(self) -> list[str]:
        """The sentences below the table; none where it has neither controls nor an upper reference."""
        notes, columns = [], range(len(self.figures))
        if any(self._being(Standing.CONTROL, column) for column in columns):
            found = [f"{self.figures[column].text()}: {what}" for column in columns for what in self._found(column)]
            rule = (
                "Controls start from raw pixels or random weights. Pretraining is said to pay where its best mean is "
                f"at least {PAYS:g} points above that of the best control on the same images and labels."
            )
            notes.append(f"{rule} {'; '.join(found)}." if found else rule)
        upper = {row: texts for row in range(len(self.rows)) if (texts := self._columns_of(row))}
        if upper:
            named = (f"{self.rows[row]} ({', '.join(texts)})" for row, texts in upper.items())
            notes.append(f"Trained with labels beforehand, an upper reference and no rival: {'; '.join(named)}.")
        return notes

    def _found(self, column: int) -> Iterator[str]:
        """Yields what is found in a column of the pretrained rows of each encoder, on each of the sets of images and
        labels that rows tell apart."""
        metric = self.figures[column].of.metric
        if metric.unit != "%":  # 5 of anything else means nothing
            return
        for same in self._alike(self._with_runs(column), column, of_measured):
            controls = [row for row in same if row in self._being(Standing.CONTROL, column)]
            means = {row: mean for row in same if (mean := _mean(self.parts[row][column], metric)) is not None}
            waited = [self.rows[row] for row in controls if row not in means]
            pretrained = [row for row in same if row in means and row in self._being(None, column)]
            if waited and pretrained:
                yield f"nothing is said of pretraining before {' and '.join(waited)} is done"
                continue
            for rows in self._alike(pretrained, column, of_encoder):
                best = max(rows, key=lambda row: metric.better(means[row]))
                if not controls:
                    yield f"nothing is said of pretraining, since no control stands beside {self.rows[best]}"
                    continue
                control = max(controls, key=lambda row: metric.better(means[row]))
                yield self._said((best, control), means, column)

    def _said(self, pair: tuple[int, int], means: dict[int, float], column: int) -> str:
        """pair: the rows of the best pretrained and the best control."""
        (best, control), metric = pair, self.figures[column].of.metric
        # As far as it is shown, so that what is said agrees with what is read.
        by = metric.text(metric.better(means[best]) - metric.better(means[control]))
        name, above, against = self.rows[best], float(by), self.rows[control]
        if above <= 0:
            return f"no method{self._of_encoder(best, column)} beats {against} ({metric.text(means[control])})"
        if above < PAYS:
            return f"{name} beats {against}, the best control, by {by} points: less than {PAYS:g}"
        return f"pretraining pays: {name} beats {against}, the best control, by {by} points"

    def _of_encoder(self, row: int, column: int) -> str:
        """ " on swin_nano", where the methods of a column have several encoders."""
        pretrained = self._being(None, column)
        if len(self._alike(pretrained, column, of_encoder)) < 2:
            return ""
        labels = [label_of(each, self.parts[row][column]) for each in self.columns if of_encoder(each)]
        return f" on {', '.join(label.named() for label in labels if label.value is not None)}"

    # ---------------------------------------------------------------------------------------------------------- rows

    def _being(self, what: Standing | None, column: int) -> list[int]:
        """The rows whose runs in a column are that; None: pretrained."""
        cells = ((row, of[column]) for row, of in enumerate(self.parts))
        return [row for row, runs in cells if runs and standing(runs[0]) is what]

    def _columns_of(self, row: int) -> list[str]:
        """The columns in which a row is an upper reference."""
        places = range(len(self.figures))
        return [self.figures[place].text() for place in places if row in self._being(Standing.UPPER, place)]

    def _with_runs(self, column: int) -> list[int]:
        return [row for row, of in enumerate(self.parts) if of[column]]

    def _alike(self, rows: Iterable[int], column: int, what: Callable[[str], bool]) -> list[list[int]]:
        """Rows in groups that agree in the columns of the table which are `what`."""
        groups: dict[tuple[Any, ...], list[int]] = {}
        for row in rows:
            run = self.parts[row][column][0]
            groups.setdefault(tuple(run.value(each) for each in self.columns if what(each)), []).append(row)
        return list(groups.values())


def _mean(runs: Sequence[Shown], metric: Metric) -> float | None:
    figures = [run.figures[metric.name] for run in runs if run.done]
    return fmean(figures) if figures else None
