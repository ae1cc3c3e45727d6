"""The reconstructions that a report shows: of every encoder and kind of images, one pretraining a method side by side.

What draws and runs models (torch, matplotlib) is imported when a gallery is made.
"""

import html
import logging
import re
from base64 import b64encode
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from mixmae.files.records import Damaged, write_atomically
from mixmae.methods.methods import methods
from mixmae.presentation.row import Flat
from mixmae.runs.folder import RunFolder
from results.report.changed import ReportPart, file_hash, hashed
from results.rows.shown import pretrained

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)

PAGE_DPI = 100
"""The resolution of a gallery in the page, where pixels take less room than its pictures one by one."""


@dataclass(frozen=True)
class Gallery:
    """Finished pretrainings of one encoder on one kind of images, one a method; `name` is the file's stem."""

    name: str
    title: str
    runs: tuple[RunFolder, ...]


def drawable_galleries(runs: pd.DataFrame) -> tuple[list[Gallery], list[str]]:
    """The galleries to draw, and why pretrainings are not in them: a root may be copied without weights or images."""
    galleries, problems = [], []
    for (encoder, size, data), group in _usual(runs).groupby(["encoder", "image_size", "data"], sort=True):
        drawable = []
        for run in group.groupby("method", sort=False).head(1).itertuples():
            place = RunFolder(Path(run.root), run.stage, run.id)
            if why := _why_not(place):
                problems.append(f"pretrain/{run.id}: in no gallery, since {why}")
            else:
                drawable.append(place)
        if drawable:
            name = "-".join(re.sub(r"\W", "_", part) for part in (encoder, size, data))
            galleries.append(Gallery(name, f"{encoder}, {size} px, {data}", tuple(drawable)))
    for problem in problems:
        log.warning("%s", problem)
    return galleries, problems


def _usual(runs: pd.DataFrame) -> pd.DataFrame:
    """The finished pretrainings, those first that show a method as it is meant: in the fewest settings other than as it
    was published, the ratio nearest to the published one, the most epochs, the lowest seed."""
    done = pretrained(runs[runs["state"] == "done"])
    rows = done[done["method"].isin([spec.name for spec in methods if spec.pretrains])]
    ratios = [_published(method).get("ratio") for method in rows["method"]]
    order = rows.assign(
        place=rows["method"].map(methods.names().index),
        other=[_otherwise(*pair) for pair in zip(rows["method"], rows["row"], strict=True)],
        away=(rows["ratio"] - pd.Series(ratios, rows.index, dtype="float64")).abs(),
        fewer=-rows["pretrain_epochs"],
    )
    return order.sort_values(["place", "other", "away", "fewer", "seed", "id"])


@cache
def _published(method: str) -> dict[str, Any]:
    """The fields of a method as it was published; by default where that does not say."""
    spec = methods[method]
    defaults = {name: field.default for name, field in spec.config.model_fields.items() if not field.is_required()}
    return {**defaults, **spec.published()}


def _otherwise(method: str, row: Flat) -> int:
    """In how many fields a pretraining differs from its method as published, its ratio apart."""
    fields = {name: value for name, value in _published(method).items() if name != "ratio"}
    return sum(row.get(f"method.{name}") != value for name, value in fields.items())


def _why_not(run: RunFolder) -> str | None:
    config = run.read("config")
    assert config is not None  # it was collected
    images = config["job"]["data"].get("path")
    for path in (run.weights, images and Path(images)):
        if path and not path.exists():
            return f"{path} is not here"
    try:
        run.check(run.weights)
    except Damaged as error:
        return str(error)
    return None


def gallery_output(gallery: Gallery, folder: Path) -> ReportPart:
    def make() -> None:
        from results.gallery.gallery import gallery_figure
        from results.plots.files import save

        figure = gallery_figure(gallery.runs)
        element = _element(figure, gallery)
        save(figure, gallery.name, folder, ("png", "pdf"))
        write_atomically(folder / f"{gallery.name}.html", lambda path: path.write_text(element, encoding="utf-8"))

    files = tuple(f"gallery/{gallery.name}.{kind}" for kind in ("png", "pdf", "html"))
    inputs = [file_hash(path) for run in gallery.runs for path in (run.path / "config.json", run.weights)]
    return ReportPart(f"gallery/{gallery.name}", files, hashed(*inputs), make)


def _element(figure: "Figure", gallery: Gallery) -> str:
    """The gallery as it stands in the page: as SVG around its pictures, or as one picture where that is smaller."""
    from results.plots.files import svg_element

    vector, pixels = svg_element(figure, gallery.name, gallery.title), BytesIO()
    figure.savefig(pixels, format="png", dpi=PAGE_DPI)
    source = f"data:image/png;base64,{b64encode(pixels.getvalue()).decode()}"
    return min(vector, f'<img src="{source}" alt="{html.escape(gallery.title)}">', key=len)
