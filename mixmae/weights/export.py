"""Weights out in the forms others read: our own file, timm's, a folder for the Hugging Face Hub, OpenMMLab's names."""

import json
import logging
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

import mixmae
from mixmae.encoders.exports import NotInTimm, TimmModel
from mixmae.encoders.families import families
from mixmae.files.records import write_atomically
from mixmae.weights import stored
from mixmae.weights.card import card, code, hub_card
from mixmae.weights.description import METADATA, Description, Origin
from mixmae.weights.opened import Opened

log = logging.getLogger(__name__)

FORMS = ("safetensors", "timm", "hf", "mmdet-keys")
EXPORTED_BY = "mixmae_export"
"""The key of a file's metadata (safetensors) or `meta` (.pth) that marks our exports under others' names."""
HUB_FILES = ("model.safetensors", "config.json", "README.md")
_ENDINGS = {"safetensors": ".safetensors", "timm": ".safetensors", "mmdet-keys": ".pth"}
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
"""The mean and deviation that every transform of this suite normalises with."""


@dataclass(frozen=True)
class Exported:
    """paths: what was written. warnings: where the other program computes something else; they were logged too."""

    paths: list[Path]
    warnings: list[str] = field(default_factory=list)


def export(opened: Opened, to: str, out: Path, encoder_only: bool) -> Exported:
    """Writes the weights to `out` in one of `FORMS`, with their card: a file's beside it as `OUT.md`.

    Raises ValueError where the form cannot hold them or `out` cannot be written to; `out` is then as it was.
    """
    if to not in FORMS:
        raise ValueError(f"{to}: no such form; write one of {', '.join(FORMS)}")
    _check_place(out, to)
    if encoder_only or to == "mmdet-keys":
        opened = opened.alone()
    exported = _WRITERS[to](opened, out)
    for warning in exported.warnings:
        log.warning("%s", warning)
    return exported


def default_out(name: str, to: str) -> Path:
    """Returns the file or folder that weights of this name are written to by default, here."""
    return Path(f"{name}.safetensors" if to == "safetensors" else f"{name}-{to}{_ENDINGS.get(to, '')}")


def _check_place(out: Path, to: str) -> None:
    if to == "hf":
        if out.name in ("", "..") or out.is_symlink():
            raise ValueError(f"{out}: cannot be replaced; write the name of a new folder")
        if out.exists() and not _may_be_replaced(out):
            raise ValueError(f"{out}: exists and is no earlier export; write the name of a new folder")
        return
    if out.suffix != _ENDINGS[to]:
        raise ValueError(f"{out}: must end in {_ENDINGS[to]}, by which its readers know what it is")
    if out.is_dir():
        raise ValueError(f"{out}: a folder; write the name of a file")


# ------------------------------------------------------------------------------------------------------------- files


def _to_safetensors(opened: Opened, out: Path) -> Exported:
    text = card(opened.description, opened.facts, _load_ours(out.name, opened.description), [])
    return _with_card(out, text, lambda: stored.save(out, opened.model, opened.description, _origin(opened)), [])


def _to_timm(opened: Opened, out: Path) -> Exported:
    model = timm_model_of(opened.description)
    tensors = model.tensors(_full_names(opened))
    loading = f"import timm\n\nmodel = timm.create_model({model.call}, checkpoint_path={out.name!r})"
    text = card(opened.description, opened.facts, loading, model.warnings)
    return _with_card(out, text, lambda: _write_tensors(out, tensors), model.warnings)


def _to_openmmlab(opened: Opened, out: Path) -> Exported:
    encoder = opened.description.encoder
    state = opened.model.state_dict()
    backbone = families[encoder.family].openmmlab(encoder, opened.description.image_size, state)
    meta = {EXPORTED_BY: mixmae.__version__, "description": opened.description.model_dump_json()}
    content = {"state_dict": {name: tensor.detach() for name, tensor in backbone.tensors.items()}, "meta": meta}
    loading = f"# in an OpenMMLab config\nCHECKPOINT = {out.name!r}\nbackbone = {backbone.config}"
    text = card(opened.description, opened.facts, loading, backbone.notes)
    write = lambda: write_atomically(out, lambda path: torch.save(content, path))  # noqa: E731
    return _with_card(out, text, write, backbone.notes)


def _with_card(out: Path, text: str, write: Callable[[], None], warnings: list[str]) -> Exported:
    """Writes the weights and their card: the card is on the disk before them, and is renamed after them."""

    def both(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8")
        write()

    beside = out.with_name(f"{out.name}.md")
    write_atomically(beside, both)
    return Exported([out, beside], warnings)


# -------------------------------------------------------------------------------------------- a folder for the Hub


def _to_hub(opened: Opened, out: Path) -> Exported:
    try:
        model = timm_model_of(opened.description)
        tensors = model.tensors(_full_names(opened))
    except NotInTimm as reason:
        return _to_hub_ours(opened, out, str(reason))
    loading = f'import timm\n\nmodel = timm.create_model("local-dir:{out.name}", pretrained=True)'
    loading += '\n# or, from the Hub: timm.create_model("hf-hub:USER/NAME", pretrained=True)'
    text = card(opened.description, opened.facts, loading, model.warnings)

    def fill(folder: Path) -> None:
        _write_tensors(folder / HUB_FILES[0], tensors)
        _write_text(folder / HUB_FILES[1], _json(_timm_config(model, opened)))
        _write_text(folder / HUB_FILES[2], hub_card(text, opened.description, opened.facts, "timm"))

    _write_folder(out, fill)
    return Exported([out / name for name in HUB_FILES], model.warnings)


def _to_hub_ours(opened: Opened, out: Path, reason: str) -> Exported:
    notes = [f"Not in timm's layout: {code(reason.partition(';')[0])}."]
    text = card(opened.description, opened.facts, _load_ours(f"{out.name}/{HUB_FILES[0]}", opened.description), notes)

    def fill(folder: Path) -> None:
        stored.save(folder / HUB_FILES[0], opened.model, opened.description, _origin(opened))
        about = {"library_name": "mixmae", "description": opened.description.model_dump(mode="json")}
        _write_text(folder / HUB_FILES[1], _json(about))
        _write_text(folder / HUB_FILES[2], hub_card(text, opened.description, opened.facts, "mixmae"))

    _write_folder(out, fill)
    return Exported([out / name for name in HUB_FILES])


def timm_model_of(description: Description) -> TimmModel:
    """Returns timm's model of an encoder or a classifier. Raises NotInTimm where there is none."""
    if description.method is not None:
        raise NotInTimm("timm has no pretraining methods; write --encoder-only")
    encoder = description.encoder
    model = families[encoder.family].timm(encoder, description.image_size)
    return replace(model, arguments={**model.arguments, "num_classes": description.classes or 0})


def _timm_config(model: TimmModel, opened: Opened) -> dict:
    """Returns config.json as timm's hub loader reads it."""
    empty, height, width = model.empty(), *opened.description.image_size
    known = empty.pretrained_cfg
    pretrained = {
        "tag": "mixmae",
        "custom_load": False,
        "input_size": [3, height, width],
        "fixed_input_size": True,
        "interpolation": "bicubic",
        **IMAGENET,
        "num_classes": opened.description.classes or 0,
        "first_conv": known["first_conv"],
        "classifier": known["classifier"],
    }
    if crop := ((opened.facts.job or {}).get("recipe") or {}).get("eval_crop"):
        pretrained["crop_pct"] = crop
    arguments = {name: value for name, value in model.arguments.items() if name != "num_classes"}
    return {
        "architecture": model.entry,
        "num_classes": opened.description.classes or 0,
        "num_features": empty.num_features,
        "global_pool": "avg",
        "model_args": arguments,
        "pretrained_cfg": pretrained,
    }


def _may_be_replaced(out: Path) -> bool:
    """Whether `out` is an empty folder, or one with nothing but an earlier export."""
    if not out.is_dir():
        return False
    names = {path.name for path in out.iterdir()}
    if not names:
        return True
    if not names <= set(HUB_FILES) or HUB_FILES[0] not in names:
        return False
    try:
        with safe_open(out / HUB_FILES[0], "pt") as file:
            return not {EXPORTED_BY, METADATA}.isdisjoint(file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def _write_folder(out: Path, fill: Callable[[Path], None]) -> None:
    """Calls `fill` on a new folder beside `out`, which then takes its place; on an error `out` stays as it was."""
    out.parent.mkdir(parents=True, exist_ok=True)
    workplace = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    new, old = workplace / "new", workplace / "old"
    try:
        new.mkdir()
        fill(new)
        if out.exists():
            out.rename(old)
        try:
            new.rename(out)
        except OSError:
            if old.exists():
                old.rename(out)
            raise
    finally:
        if out.exists() or not old.exists():
            shutil.rmtree(workplace)


# ------------------------------------------------------------------------------------------------------------ shared


_WRITERS: dict[str, Callable[[Opened, Path], Exported]] = {
    "safetensors": _to_safetensors,
    "timm": _to_timm,
    "hf": _to_hub,
    "mmdet-keys": _to_openmmlab,
}


def _full_names(opened: Opened) -> dict[str, Tensor]:
    state = opened.model.state_dict()
    return {f"encoder.{name}": tensor for name, tensor in state.items()} if _is_alone(opened.description) else state


def _is_alone(description: Description) -> bool:
    return description.method is None and description.classes is None


def _origin(opened: Opened) -> Origin | None:
    """Returns the origin of imported weights; weights trained from imported ones have none of their own."""
    imported = opened.facts.origin is not None and opened.facts.job is None
    return Origin.model_validate(opened.facts.origin) if imported else None


def _load_ours(path: str, description: Description) -> str:
    call = "out = model(images)  # out.loss, out.prediction, out.mask"
    if description.method is None:
        call = "logits = model.logits(images)" if description.classes else "features = model.features(images)"
    height, width = description.image_size
    return (
        "from pathlib import Path\n\nimport torch\n\nfrom mixmae.weights import stored\n\n"
        f"model, description = stored.load(Path({path!r}))\n"
        f"images = torch.randn(2, 3, {height}, {width})  # normalised by ImageNet's mean and std\n{call}"
    )


def _write_tensors(out: Path, tensors: dict[str, Tensor]) -> None:
    metadata = {"format": "pt", EXPORTED_BY: mixmae.__version__}
    write_atomically(out, lambda path: save_file(tensors, path, metadata))


def _write_text(out: Path, text: str) -> None:
    def write(path: Path) -> None:
        path.write_text(text, encoding="utf-8")

    write_atomically(out, write)


def _json(data: dict) -> str:
    return json.dumps(data, indent=1, ensure_ascii=False) + "\n"
