"""All run folders of one or more roots as one tidy frame, a row a run, whatever its state (no torch).

What cannot be read is named in the log and in `frame.attrs["problems"]`, and left out; the rest is not held up by it.
Nothing in a run folder is ever changed.
"""

import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic_core import from_json

import mixmae
from mixmae.data.sources import sources
from mixmae.experiment.stages import stages
from mixmae.fields.identity import Key
from mixmae.fields.texts import many
from mixmae.files.records import SCHEMA, write_atomically
from mixmae.presentation.columns import ALIASES, paths
from mixmae.presentation.row import UNKNOWN, Flat, computed_of, row_of
from mixmae.presentation.shown import Shown, differing_fields, flat_fields, told_apart
from mixmae.runs.folder import RunFolder
from mixmae.runs.state import RunState
from results.rows.cache import Cache
from results.rows.reading import (
    PATHS,
    Broken,
    Read,
    columns_of,
    files_read,
    look,
    parsed,
    read_run,
    read_settings,
    trains_encoder,
)

log = logging.getLogger(__name__)

COLUMNS = {
    "root": "str",
    "stage": "str",
    "id": "str",
    "state": "str",
    "reason": "str",
    "method": "str",
    "encoder": "str",
    "seed": "Int64",
    "data": "str",
    "image_size": "str",
    "pretrain_epochs": "Int64",
    "ratio": "float64",
    "images": "Int64",
    "fill": "str",
    "dual": "boolean",
    "masked_attention": "boolean",
    "mix_embedding": "boolean",
    "normalised_target": "boolean",
    "decoder_depth": "Int64",
    "decoder_width": "Int64",
    "mask_unit": "Int64",
    "weights": "str",
    "labels_per_class": "Int64",
    "fraction": "float64",
    "pretrain_labels_per_class": "Int64",
    "pretrain_fraction": "float64",
    "pretrain_images": "Int64",
    "features": "str",
    "epochs": "Int64",
    "top1": "float64",
    "top5": "float64",
    "loss": "float64",
    "pretrain_loss": "float64",
    "pretraining": "str",
    "data_fingerprint": "str",
    "pretrain_hours": "float64",
    "pretrain_device": "str",
    "config": "str",
}
"""The columns of what is collected, and their types; other figures of evaluations follow them.

`root` is where the run folder lies, which is not written to files. `top1` and `top5` are percent; only runs that are
done have figures. `pretrain_images` are those that were trained on, once for each epoch, `pretrain_hours` the measured
hours of all processes of the pretraining, without those that were lost where it stopped and went on, and
`pretrain_device` what it ran on ("cpu", or a GPU's name); they are missing where they are not known. `config` is all
that is computed, the pretraining's part included and the seeds left out, as canonical JSON, the pretraining's part
last: runs that share it are repetitions.
"""
_SHARED = {name: COLUMNS[name] for name in (*PATHS, "data_fingerprint", "config") if name != "seed"}
"""The columns that are the same in all runs which differ in their seed alone."""
_FIGURES = ("top1", "top5", "loss")
UNWRITTEN = ("root", "row", "figures", "trained")
"""Columns of the frame that are no columns of files: where the run lies, its row by dotted path, its figures, and the
run that trained its encoder."""


@dataclass
class _Source:
    """A root, what a problem's name begins with there, and its runs."""

    root: Path
    prefix: str
    cache: Cache
    runs: list[Read] = field(default_factory=list)


def collect(*roots: Path) -> pd.DataFrame:
    """One row a run under any of `roots`, by stage and id, with `COLUMNS`, further figures, and `UNWRITTEN`.

    Of a run that lies in several roots the first folder is taken in which it is done, else the first; where others are
    done with other figures, that is a problem. An evaluation takes its method's columns from the config of its
    pretraining, in whatever root that lies and whatever else is damaged there; without it its method is "unknown". What
    is done is kept in ROOT/.collected until its files change.

    Raises NewerSchema where a newer version wrote a file, FileNotFoundError where there is no such root.
    """
    opened = _sources(roots)
    problems: list[str] = []
    settings: dict[Key, Read] = {}
    for stage in _stage_folders(opened):
        for source in opened:
            source.runs += _read(stage, source, settings, problems)
    _settle_states([run for source in opened for run in source.runs])
    runs = _once((run for source in opened for run in source.runs), problems)
    frame = _frame(runs, settings, problems)
    for source in opened:
        source.cache.save()
    frame.attrs["problems"] = [_printable(problem) for problem in problems]
    for problem in frame.attrs["problems"]:
        log.warning("%s", problem)
    return frame


def write(frame: pd.DataFrame, folder: Path) -> None:
    """Writes `results.parquet`, with the schema's number and this version in its metadata, and `results.csv`, which
    leaves out `config`; neither says where the runs lie. Both end in the settings, by dotted path, without which runs
    of different settings would read alike."""
    settings = _further_settings(frame)
    frame = frame.assign(**settings)
    table = pa.Table.from_pandas(frame.drop(columns=list(UNWRITTEN)), preserve_index=False)
    stamps = {b"mixmae_schema": str(SCHEMA).encode(), b"mixmae_version": mixmae.__version__.encode()}
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **stamps})
    write_atomically(folder / "results.parquet", lambda path: pq.write_table(table, path))
    plain = frame.drop(columns=[*UNWRITTEN, "config"])
    write_atomically(
        folder / "results.csv", lambda path: plain.to_csv(path, index=False, lineterminator="\n", encoding="utf-8")
    )


def _further_settings(frame: pd.DataFrame) -> dict[str, pd.Series]:
    """The columns that `frame` needs, beside its own, to tell its settings apart; none of what is only recorded."""
    runs = [
        Shown((run.stage, run.id), run.row, run.config, name=f"{run.stage} {run.data_fingerprint}", declared=run.row)
        for run in frame.drop_duplicates("config").itertuples()
    ]
    own = ("name", *(name if name in ALIASES else path for name, path in PATHS.items() if name != "seed"))
    columns, _ = told_apart(runs, own, (), _counting(runs))
    return {
        column: _column_of([row.get(column) for row in frame["row"]], frame.index) for column in columns[len(own) :]
    }


def _counting(runs: list[Shown]) -> Iterator[str]:
    """Yields the paths of rows that stand for something computed, those of pretrainings first: the recipe of one is its
    `evaluation.*`, too."""
    computed = {name.rpartition(".")[2] for run in runs for name in flat_fields(run.config)}
    there = [path for path in paths(run.declared for run in runs) if path.rpartition(".")[2] in computed]
    yield from sorted(there, key=lambda path: not path.startswith("pretrain."))


def _column_of(values: list[Any], index: pd.Index) -> pd.Series:
    """The values as of one type: yes or no, whole numbers or numbers where all are, else as text."""
    kinds = {type(value) for value in values if value is not None}
    for dtype, able in (("boolean", {bool}), ("Int64", {int}), ("float64", {int, float})):
        if kinds <= able:
            return pd.Series(values, index, dtype=dtype)
    return pd.Series([None if value is None else _text(value) for value in values], index, dtype="str")


def _text(value: Any) -> str:
    return ", ".join(map(_text, value)) if isinstance(value, tuple) else str(value)


def keys_by_images(frame: pd.DataFrame) -> dict[str, set[Key]]:
    """The runs on images that may not be here, by the fingerprint of theirs."""
    elsewhere = [spec.name for spec in sources if spec.may_be_elsewhere]
    runs = frame[frame["data"].isin(elsewhere)]
    return {
        fingerprint: set(zip(group["stage"], group["id"], strict=True))
        for fingerprint, group in runs.groupby("data_fingerprint")
    }


# ---------------------------------------------------------------------------------------------------------- reading


def _sources(roots: tuple[Path, ...]) -> list[_Source]:
    by_place: dict[str, Path] = {}
    for root in roots:
        if not root.is_dir():
            raise FileNotFoundError(f"{root}: no such folder; name the root that holds the runs")
        by_place.setdefault(os.path.realpath(root), root)
    several = len(by_place) > 1
    return [_Source(root, f"{root}/" if several else "", Cache(root)) for root in by_place.values()]


def _stage_folders(opened: Iterable[_Source]) -> list[str]:
    """The stages that there are, then the names of folders that hold runs of stages that are not installed."""
    known = stages.names()
    places = [place for source in opened for place in source.root.iterdir() if place.name not in known]
    folders = [place for place in places if place.is_dir()]
    return [*known, *sorted({folder.name for folder in folders if any(folder.glob("*/config.json"))})]


def _read(stage: str, source: _Source, settings: dict[Key, Read], problems: list[str]) -> Iterator[Read]:
    """The runs of a stage. settings: is given what alone could be read of broken ones."""
    root, files = str(source.root), files_read(stage)
    for name in _folders(stage, source, problems):
        where = f"{source.prefix}{stage}/{name}"
        try:
            mark, youngest_ns = look(f"{root}/{stage}/{name}", files)
            read = source.cache.get(stage, name, mark)
            if read is None:
                read, wrong = read_run(RunFolder(source.root, stage, name))
                problems += [f"{where}: {what}" for what in wrong]
                if read.state == "done" and not wrong:
                    source.cache.add(read, mark, youngest_ns)
        except Broken as error:
            problems.append(f"{where}: {error}; left out")
            if alone := read_settings(RunFolder(source.root, stage, name)):
                settings.setdefault(alone.key, alone)
            continue
        read.root, read.where = root, where
        yield read


def _folders(stage: str, source: _Source, problems: list[str]) -> list[str]:
    """The names of what may be run folders. What else lies there is a problem, unless it is hidden."""
    where = f"{source.prefix}{stage}"
    try:
        with os.scandir(source.root / stage) as entries:
            is_folder = {entry.name: _is_folder(entry) for entry in entries if not entry.name.startswith(".")}
    except FileNotFoundError:
        return []
    except OSError as error:
        problems.append(f"{where}: cannot be read ({error.strerror}); left out")
        return []
    problems += [f"{where}/{name}: not a folder; left out" for name in sorted(is_folder) if not is_folder[name]]
    return sorted(name for name in is_folder if is_folder[name])


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # such as a link to itself
        return False


# -------------------------------------------------------------------------------------------------------------- runs


def _settle_states(runs: list[Read]) -> None:
    """Sets the states that depend on those of what a run starts from, which may be done in another root."""
    waiting = [run for run in runs if run.standing is not None]
    if not waiting:
        return
    best: dict[Key, Read] = {}
    for run in runs:
        if run.key not in best or run.state == "done":
            best[run.key] = run
    for run in waiting:
        _state(run, best, set())


def _state(run: Read, best: dict[Key, Read], seen: set[Key]) -> RunState:
    before = best.get(run.start) if run.start and run.start not in seen else None
    return run.stand(_state(before, best, {*seen, run.key}) if before else None)


def _once(runs: Iterable[Read], problems: list[str]) -> list[Read]:
    """Each run once, by stage and id: from the first root in which it is done, else from the first that has it."""
    taken: dict[Key, Read] = {}
    others: list[Read] = []
    for run in runs:
        known = taken.setdefault(run.key, run)
        if known is run:
            continue
        if run.state == "done" and known.state != "done":
            taken[run.key] = run
        elif run.state == "done":
            others.append(run)
    for other in others:
        first = taken[other.key]
        if first is not other and first.figures != other.figures:
            fields = ", ".join(differing_fields(first.figures, other.figures))
            problems.append(f"{first.where} and {other.where} differ in {fields}; the first is taken")
    return list(taken.values())


# -------------------------------------------------------------------------------------------------------------- frame


@dataclass(frozen=True)
class _Shared:
    """What runs that differ in their seed share: their row, and the columns of the frame that follow from it."""

    row: Flat
    columns: dict[str, Any]


class _AllShared:
    """What the runs of each setting share, made once a setting."""

    def __init__(self) -> None:
        self._places: dict[tuple[str, ...], int] = {}
        self.all: list[_Shared] = []

    def place(self, chain: list[Read]) -> int:
        """The index in `all` of what a run shares with its repetitions. chain: the run, then those it goes back to."""
        texts = tuple(run.config for run in chain)
        if texts not in self._places:
            self._places[texts] = len(self.all)
            jobs, prints = zip(*map(parsed, texts), strict=True)
            row = row_of(jobs)
            computed = {"data_fingerprint": prints[0], "config": computed_of(jobs, prints)}
            self.all.append(_Shared(row, {**columns_of(row, jobs[0]), **computed}))
        return self._places[texts]


class _PluginFiles:
    """The files of plug-ins that computed each setting."""

    def __init__(self) -> None:
        self._files: dict[tuple[str, str], dict[str, str]] = {}

    def add(self, config: str, chain: list[Read]) -> None:
        for run in chain:
            for name, sha256 in _files_of(run.plugins) if run.plugins else ():
                self._files.setdefault((config, name), {}).setdefault(sha256, chain[0].where)

    def problems(self) -> Iterator[str]:
        """Yields, once for the same files, that repetitions were computed by several."""
        where: dict[tuple[str, ...], list[str]] = {}
        for (_, name), files in self._files.items():
            if len(files) > 1:
                where.setdefault((name, *sorted(files)), []).append(" and ".join(files.values()))
        for (name, *shas), places in where.items():
            used = f"used different files of {name} (sha256 {', '.join(shas)})"
            also = f" (and {many(len(places) - 1, 'more setting')})" if len(places) > 1 else ""
            yield f"{places[0]}{also} are repetitions, but {used}: raise its version and run them again"


@lru_cache(maxsize=4096)
def _files_of(plugins: str) -> list[tuple[str, str]]:
    """Kind and name, and the sha256, of each that a `Read.plugins` tells of."""
    return [(f"{record['kind']} {record['name']}", str(record["sha256"])) for record in from_json(plugins)]


def _frame(runs: list[Read], settings: dict[Key, Read], problems: list[str]) -> pd.DataFrame:
    order = {stage: number for number, stage in enumerate(stages.names())}
    runs = sorted(runs, key=lambda run: (order.get(run.stage, len(order)), run.stage, run.id))
    known = {**settings, **{run.key: run for run in runs}}
    shared, places, trained, files = _AllShared(), [], [], _PluginFiles()
    for run in runs:
        chain = _chain(run, known)
        last = chain[-1]
        places.append(shared.place(chain))
        if run.state == "done":
            files.add(shared.all[places[-1]].columns["config"], chain)
        trained.append(last if trains_encoder(last.stage) else None)
        if last.start is not None:
            what = f"its {_start_label(last)} {last.start[1]} is missing; its method is {UNKNOWN}"
            problems.append(f"{run.where}: {what}, so that no grid shows it")
    problems += files.problems()
    figures = [_figures_of(run.figures) for run in runs]
    own = _own_columns(runs, trained, figures)
    types = {**COLUMNS, **{name: "float64" for name in own if name not in COLUMNS}}
    setting = pd.DataFrame([setting.columns for setting in shared.all], columns=list(_SHARED)).astype(_SHARED)
    columns = {name: pd.Series(own[name], dtype=kind) for name, kind in types.items() if name not in _SHARED}
    frame = pd.concat([pd.DataFrame(columns), setting.take(places).reset_index(drop=True)], axis=1)
    unwritten = {
        "row": [shared.all[place].row for place in places],
        "figures": figures,
        "trained": [run and run.key for run in trained],
    }
    return frame[list(types)].assign(**{name: pd.Series(of, dtype="object") for name, of in unwritten.items()})


def _chain(run: Read, known: dict[Key, Read]) -> list[Read]:
    """The run, then those it goes back to, nearest first, as far as they are known."""
    chain = [run]
    while (start := chain[-1].start) in known and known[start] not in chain:
        chain.append(known[start])
    return chain


def _start_label(run: Read) -> str:
    spec = stages.get(run.start[0]) if run.start else None
    return spec.label if spec else "start"


def _own_columns(runs: list[Read], trained: list[Read | None], figures: list[dict[str, float]]) -> dict[str, list[Any]]:
    """What runs do not share with their repetitions. trained: the pretraining that each goes back to."""
    of_run = {run.key: one for run, one in zip(runs, figures, strict=True)}
    before = [of_run.get(run.key, {}) if run else {} for run in trained]
    of_start = zip(runs, trained, before, strict=True)
    return {
        **{name: [getattr(run, name) for run in runs] for name in ("root", "stage", "id", "state", "reason", "seed")},
        "pretraining": [run.start and run.start[1] for run in runs],
        "pretrain_images": [one.get("images") for one in before],
        "pretrain_loss": [None if run is last else one.get("loss") for run, last, one in of_start],
        "pretrain_hours": [run and run.hours for run in trained],
        "pretrain_device": [run and run.device for run in trained],
        **_figure_columns([run.stage for run in runs], figures),
    }


def _figure_columns(of_stages: list[str], figures: list[dict[str, float]]) -> dict[str, list[float | None]]:
    """The metrics of their stages that runs have, in the order in which they come up."""
    counted = {stage: _counted(stage) for stage in set(of_stages)}
    shapes = dict.fromkeys(zip(of_stages, map(tuple, figures), strict=True))
    names = dict.fromkeys(name for stage, shape in shapes for name in shape if name in counted[stage])
    return {
        name: [one.get(name) if name in counted[stage] else None for stage, one in zip(of_stages, figures, strict=True)]
        for name in dict.fromkeys((*_FIGURES, *names))
    }


def _counted(stage: str) -> set[str]:
    spec = stages.get(stage)
    return {*_FIGURES, *(metric.name for metric in spec.metrics)} if spec else set(_FIGURES)


def _figures_of(text: str) -> dict[str, float]:
    """The numbers of `Read.figures`."""
    return {name: value for name, value in from_json(text).items() if type(value) in (int, float)}


def _printable(text: str) -> str:
    """The text with all that cannot be printed as escapes: file names may hold anything."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
