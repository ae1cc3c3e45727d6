"""Made runs as plots see them, and what is measured of a figure."""

from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from mixmae.presentation.declaration import Declaration
from mixmae.presentation.plots import PlotModel
from results.plots.drawing import draw
from results.plots.theme import theme
from results.rows.collect import collect
from support.made_runs import Made


@dataclass
class Shown:
    """A frame and its grid, whose declared values are those that were run unless `cases` say others at a scale."""

    frame: pd.DataFrame
    members: dict[str, set]
    cases: dict = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)
    drawn: dict[str, Figure] = field(default_factory=dict)

    @property
    def declaration(self) -> Declaration:
        return Declaration("made", members=self.members, cases=self.cases, **self.more)

    def draw(self, spec: PlotModel) -> Figure:
        """The same figure for the same spec: drawing takes a second."""
        text = spec.model_dump_json()
        if text not in self.drawn:
            self.drawn[text] = draw(self.frame, spec, self.declaration)
        return self.drawn[text]

    def changed(self, **more) -> "Shown":
        """With other fields of the declaration."""
        return Shown(self.frame, self.members, self.cases, {**self.more, **more})


def shown(made: Made, **more) -> Shown:
    """The runs made; `more` are fields of the declaration. Of every pretraining 1e12 multiply-adds an epoch of a
    thousand images, and an hour of a CPU for ten epochs."""
    frame = collect(made.root)
    epochs = frame["pretrain_epochs"].where(frame["pretraining"].notna())
    hours = epochs.astype("float64") / 10
    frame = frame.assign(pretrain_images=epochs * 1000, pretrain_hours=hours, pretrain_device="cpu")
    macs = {("pretrain", id): 10**9 for id in frame[frame["stage"] == "pretrain"]["id"]}
    return Shown(frame, made.members, more={"macs": macs, **planned_as_run(frame), **more})


def planned_as_run(frame: pd.DataFrame) -> dict[str, dict]:
    """Fields of a declaration: what a plan knows of the runs of a frame."""
    rows = {(row["stage"], row["id"]): row for row in frame.to_dict("records")}
    planned = {key: {**row["row"], "seed": row["seed"]} for key, row in rows.items()}
    return {"planned": planned, "configs": {key: row["config"] for key, row in rows.items()}}


def texts_of(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text() and text.get_visible()]


def boxes_of(figure: Figure) -> list[tuple[Text, Any]]:
    """Every text that is drawn, and its extent in pixels."""
    with theme():
        FigureCanvasAgg(figure).draw()
        renderer = figure.canvas.get_renderer()
        texts = [text for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()]
        beyond = set(map(id, _beyond_their_axis(figure)))
        return [(text, text.get_window_extent(renderer)) for text in texts if id(text) not in beyond]


def _beyond_their_axis(figure: Figure) -> list[Text]:
    """Matplotlib keeps tick labels outside the limits of an axis without drawing them."""
    found = []
    for axis in (axis for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)):
        low, high = sorted(axis.get_view_interval())
        ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
        found += [tick.label1 for tick in ticks if not low - 1e-9 <= tick.get_loc() <= high + 1e-9]
    return found
