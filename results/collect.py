"""All run folders of one or more roots as one tidy frame, a row a run, whatever its state (no torch).

What cannot be read is named in the log and in `frame.attrs["problems"]`, and left out; the rest is not held up by it.
Nothing in a run folder is ever changed.
"""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

import mixmae
from mixmae.experiment.stages import stages
from mixmae.files.records import SCHEMA, write_atomically
from mixmae.runs.folder import RunFolder
from results.cache import Cache
from results.cells import differing_fields
from results.reading import COLUMNS, OF_PRETRAINING, Broken, frame_of, look, read_run, read_settings

log = logging.getLogger(__name__)


@dataclass
class _Source:
    """A root, what a problem's name begins with there, and its rows: places of the cache's, what was read, and the
    settings of pretrainings of which no more could be read."""

    root: Path
    prefix: str
    cache: Cache
    known: list[int] = field(default_factory=list)
    read: list[dict[str, Any]] = field(default_factory=list)
    settings: list[dict[str, Any]] = field(default_factory=list)


def collect(*roots: Path) -> pd.DataFrame:
    """One row a run under any of `roots`, by stage and id, with `COLUMNS`.

    Of a run that lies in several roots the first folder is taken in which it is done, else the first; where others are
    done with other figures, that is a problem. An evaluation takes its method's columns from the config of its
    pretraining, in whatever root that lies and whatever else is damaged there; without it its method is "unknown".
    Without pretraining the method is "imported" (weights from a file), "supervised" (fine-tuned from scratch), "random
    init" (a frozen evaluation) or "raw pixels". The rows of runs that are done are kept in ROOT/.collected until their
    files change.

    Raises NewerSchema where a newer version wrote a file, FileNotFoundError where there is no such root.
    """
    sources = _sources(roots)
    problems: list[str] = []
    pretrainings: dict[str, str] = {}
    for source in sources:
        for id, state in _read("pretrain", source, {}, problems):
            if state == "done" or id not in pretrainings:
                pretrainings[id] = state
    for stage in stages.names():
        if stage != "pretrain":
            for source in sources:
                _read(stage, source, pretrainings, problems)
    settings = frame_of([row for source in sources for row in source.settings])
    frame = _with_pretrainings(_once(pd.concat(map(_rows, sources)), problems), settings, problems)
    for source in sources:
        source.cache.save()
    frame = frame[list(COLUMNS)].astype(COLUMNS)
    frame.attrs["problems"] = [_printable(problem) for problem in problems]
    for problem in frame.attrs["problems"]:
        log.warning("%s", problem)
    return frame


def write(frame: pd.DataFrame, folder: Path) -> None:
    """Writes `results.parquet`, with the schema's number and this version in its metadata, and `results.csv`, which
    leaves out `config`; neither says where the runs lie."""
    table = pa.Table.from_pandas(frame.drop(columns="root"), preserve_index=False)
    stamps = {b"mixmae_schema": str(SCHEMA).encode(), b"mixmae_version": mixmae.__version__.encode()}
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **stamps})
    write_atomically(folder / "results.parquet", lambda path: pq.write_table(table, path))
    plain = frame.drop(columns=["root", "config"])
    write_atomically(
        folder / "results.csv", lambda path: plain.to_csv(path, index=False, lineterminator="\n", encoding="utf-8")
    )


def keys_by_images(frame: pd.DataFrame) -> dict[str, set[tuple[str, str]]]:
    """(stage, id) of the runs on image folders, by the fingerprint of theirs."""
    runs = frame[frame["data"] == "image_folder"]
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


def _read(stage: str, source: _Source, pretrainings: Mapping[str, str], problems: list[str]) -> list[tuple[str, str]]:
    """Reads what is not known of a stage. The ids and states of its runs; `pretrainings` is that of pretrainings."""
    found = []
    for name in _folders(stage, source, problems):
        where = f"{source.prefix}{stage}/{name}"
        try:
            mark, youngest_ns = look(stage, f"{source.root}/{stage}/{name}")
            place = source.cache.place(stage, name, mark)
            if place is not None:
                source.known.append(place)
                found.append((name, "done"))
                continue
            row, wrong = read_run(RunFolder(source.root, stage, name), pretrainings)
        except Broken as error:
            problems.append(f"{where}: {error}; left out")
            if stage == "pretrain" and (row := read_settings(RunFolder(source.root, stage, name))):
                source.settings.append(row)
            continue
        source.read.append(row)
        found.append((name, row["state"]))
        problems += [f"{where}: {what}" for what in wrong]
        if row["state"] == "done" and not wrong:
            source.cache.add(row, mark, youngest_ns)
    return found


def _folders(stage: str, source: _Source, problems: list[str]) -> list[str]:
    """The names of what may be run folders. What else lies there is a problem, unless it is hidden."""
    where = f"{source.prefix}{stage}"
    try:
        with os.scandir(source.root / stage) as entries:
            found = {entry.name: _is_folder(entry) for entry in entries if not entry.name.startswith(".")}
    except FileNotFoundError:
        return []
    except OSError as error:
        problems.append(f"{where}: cannot be read ({error.strerror}); left out")
        return []
    problems += [f"{where}/{name}: not a folder; left out" for name in sorted(found) if not found[name]]
    return sorted(name for name in found if found[name])


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # such as a link to itself
        return False


# -------------------------------------------------------------------------------------------------------------- rows


def _rows(source: _Source) -> pd.DataFrame:
    """With the columns of `OWN`, `root`, and `where`, what a problem calls the run."""
    rows = source.cache.rows(source.known)
    if source.read:
        rows = pd.concat([rows, frame_of(source.read)])
    return rows.assign(root=str(source.root), where=source.prefix + rows["stage"] + "/" + rows["id"])


def _once(rows: pd.DataFrame, problems: list[str]) -> pd.DataFrame:
    """Each run once, by stage and id, of `rows`, those of the first root first."""
    order = rows["stage"].map({stage: number for number, stage in enumerate(stages.names())})
    rows = rows.assign(order=order, late=rows["state"] != "done")
    rows = rows.sort_values(["order", "id", "late"], kind="stable", ignore_index=True)
    again = rows.duplicated(["stage", "id"])
    if not again.any():
        return rows
    taken = rows[~again]
    firsts = taken[["stage", "id", "where", "figures"]]
    others = rows[again & ~rows["late"]].merge(firsts, on=["stage", "id"], suffixes=("", "_taken"))
    for other in others[others["figures"] != others["figures_taken"]].itertuples():
        fields = ", ".join(differing_fields(other.figures_taken, other.figures))
        problems.append(f"{other.where_taken} and {other.where} differ in {fields}; the first is taken")
    return taken


def _with_pretrainings(rows: pd.DataFrame, settings: pd.DataFrame, problems: list[str]) -> pd.DataFrame:
    """The pretrainings, then the evaluations with what they take from them, or from `settings` of such as are left
    out."""
    is_pretraining = rows["stage"] == "pretrain"
    pretrainings, evaluations = rows[is_pretraining], rows[~is_pretraining]
    described = pd.concat([pretrainings, settings]).drop_duplicates("id").set_index("id")
    of = described.reindex(evaluations["pretraining"]).set_axis(evaluations.index)
    has, known = evaluations["pretraining"].notna(), of["stage"].notna()
    for row in evaluations[has & ~known].itertuples():
        what = f"its pretraining {row.pretraining} is missing; its method is unknown, so that no grid shows it"
        problems.append(f"{row.where}: {what}")
    parts = zip(evaluations["config"], of["config"], known, strict=True)
    config = [f'{own[:-1]},"pretraining":{part}}}' if is_known else own for own, part, is_known in parts]
    taken = {name: of[name] for name in OF_PRETRAINING if name != "method"}
    method = evaluations["method"].mask(has, of["method"].where(known, "unknown"))
    evaluations = evaluations.assign(**taken, method=method, pretrain_loss=of["loss"], config=config)
    return pd.concat([pretrainings.assign(pretrain_loss=float("nan")), evaluations], ignore_index=True)


def _printable(text: str) -> str:
    """File names may hold anything."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
