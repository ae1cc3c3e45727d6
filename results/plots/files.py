"""Figures as files and as SVG elements: the same bytes whenever they are drawn of the same data."""

import logging
import re
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from mixmae.files.records import write_atomically
from results.plots.layout import printable
from results.plots.theme import DPI, theme

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)

FORMATS = ("png", "pdf", "svg")

_UNDATED = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "svg": {"Date": None, "Creator": None, "Format": None, "Type": None},
}
_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"


def save(
    figure: "Figure",
    name: str,
    folder: Path,
    formats: Sequence[str] = FORMATS,
    ids: str | None = None,
    label: str | None = None,
) -> list[Path]:
    """Writes NAME.png, NAME.pdf and NAME.svg, or those of them that are asked for; returns their paths. The SVG is the
    element that `svg_element` makes of `ids` and `label`, which are the name where they are not given. Letters that the
    font of the others lacks are named in the log."""
    lacking = _lacking(figure)
    if lacking and set(formats) - {"svg"}:
        log.warning("%s: the font of plots has no %s; PNG and PDF show boxes there", name, " ".join(lacking))
    for kind in formats:
        if kind == "svg":
            content = f"{svg_element(figure, ids or name, label or name)}\n".encode()
        else:
            content = _rendered(figure, kind)
        _write(folder / f"{name}.{kind}", content)
    return [folder / f"{name}.{kind}" for kind in formats]


def _write(path: Path, content: bytes) -> None:
    write_atomically(path, lambda temporary: temporary.write_bytes(content))


def svg_element(figure: "Figure", ids: str, label: str) -> str:
    """The figure as an `<svg>` element that can stand in a page beside others: its ids begin with `ids`, its style
    sheet reaches only into itself. Text is text, in a font like the one it was measured in; `label` is read aloud."""
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    root = ElementTree.fromstring(_rendered(figure, "svg", salt=ids))
    for metadata in root.findall(f"{{{_SVG}}}metadata"):
        root.remove(metadata)
    prefix = re.sub(r"[^A-Za-z0-9_-]", "-", ids)
    _name_ids(root, f"{prefix}-")
    families = _shorten(root)
    for sheet in root.iter(f"{{{_SVG}}}style"):
        own = re.sub(r"(?=\*\s*\{)", f"#{prefix}-figure ", sheet.text or "")
        sheet.text = own + "".join(f" #{prefix}-figure text{{{family}}}" for family in families)
    title = ElementTree.Element(f"{{{_SVG}}}title")
    title.text = printable(label)
    root.attrib |= {"id": f"{prefix}-figure", "role": "img", "aria-label": title.text}
    root.insert(0, title)
    return ElementTree.tostring(root, encoding="unicode")


def _lacking(figure: "Figure") -> list[str]:
    """Letters of the figure that its font, which comes with matplotlib, does not have."""
    from matplotlib.font_manager import findfont, get_font
    from matplotlib.text import Text

    font = get_font(findfont("DejaVu Sans"))
    letters = {letter for text in figure.findobj(Text) for letter in text.get_text()}
    return sorted(letter for letter in letters if not letter.isspace() and not font.get_char_index(ord(letter)))


def _rendered(figure: "Figure", kind: str, salt: str = "") -> bytes:
    from matplotlib import rc_context

    buffer = BytesIO()
    with theme(), rc_context({"svg.hashsalt": salt}):
        figure.savefig(buffer, format=kind, dpi=DPI, metadata=_UNDATED[kind])
    return buffer.getvalue()


def _name_ids(root: ElementTree.Element, prefix: str) -> None:
    """Lets ids begin with `prefix`, and takes away those that nothing refers to."""
    refers = re.compile(r"url\(#([^)]+)\)")
    href = f"{{{_XLINK}}}href"
    wanted = {id for element in root.iter() for value in element.attrib.values() for id in refers.findall(value)} | {
        element.get(href, "").removeprefix("#") for element in root.iter()
    }
    for element in root.iter():
        for name, value in list(element.attrib.items()):
            if name == "id" and value not in wanted:
                del element.attrib[name]
            elif name == "id":
                element.set(name, prefix + value)
            elif name == href and value.startswith("#"):
                element.set(name, f"#{prefix}{value.removeprefix('#')}")
            else:
                element.set(name, refers.sub(lambda match: f"url(#{prefix}{match[1]})", value))


def _shorten(root: ElementTree.Element) -> list[str]:
    """Cuts coordinates to hundredths of a point, and takes the font's family from every text; returns the families."""
    families = set()
    for element in root.iter():
        for name in {"d", "x", "y", "transform"} & set(element.keys()):
            short = re.sub(r"(\.\d\d)\d+", r"\1", element.attrib[name])
            element.set(name, re.sub(r"\s+", " ", short).strip())
        if re.fullmatch(r"rotate\(-0 [^()]*\)", element.get("transform", "")):
            del element.attrib["transform"]
        if element.tag == f"{{{_SVG}}}text":
            style = element.get("style", "")
            families |= set(re.findall(r"font-family: [^;]+", style))
            element.set("style", re.sub(r"font-family: [^;]+;? ?", "", style))
    return sorted(families)
