"""What an image folder holds and whether it can be trained on: every file is read again, nothing is taken from a cache
(no torch)."""

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from statistics import median_low
from typing import Any

from rich.console import Console
from rich.progress import track

from mixmae.data.image_folder.fingerprint import of_index
from mixmae.data.image_folder.index import class_names, folders, images_below, walk
from mixmae.data.image_folder.spec import ImageFolderConfig, data_root
from mixmae.data.reading import describe
from mixmae.data.sources import SPLITS

ALONE_UP_TO = 500
"""Files read in this process; more are spread over one process a core."""
PORTION = 32
"""Files a process takes at once."""
LISTED = 10
"""Files named in a list for people; the report holds all."""


def check(config: ImageFolderConfig) -> dict:
    """Reads every file of an image folder and returns plain data, ready for JSON:

    path, trainable (bool), problems (what forbids training, in words), fingerprint (None where the layout forbids it),
    duplicates (lists of files, as SPLIT/CLASS/FILE, of the same bytes) and splits: by name {images, unreadable ({file:
    why}), classes ({class: files}), formats, modes ({name: files}), width and height ({min, median, max} in px of the
    upright images, None where there is none), others (files that are no image by their suffix)}.

    Raises FileNotFoundError where there is no such folder, RuntimeError where the process that reads a file dies.
    """
    folder = data_root(config)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; write the one that holds train/ and val/")
    problems: list[str] = []
    listed = {split: _listed(folder, split, problems) for split in SPLITS}
    files = [f"{split}/{name}/{file}" for split in SPLITS for name, of in listed[split][0].items() for file in of]
    looks = dict(zip(files, _looks(folder, files), strict=True))
    splits = {split: _split(*listed[split], split, looks, config.bad_files, problems) for split in SPLITS}
    fingerprint = _fingerprint(folder, problems)
    return {
        "path": str(folder),
        "trainable": not problems,
        "problems": problems,
        "fingerprint": fingerprint,
        "splits": splits,
        "duplicates": _duplicates(looks),
    }


def lines(report: dict) -> list[str]:
    """Returns the report of `check` as lines for people."""
    text = [f"{report['path']}: {'can' if report['trainable'] else 'cannot'} be trained on"]
    text += [f"  problem: {problem}" for problem in report["problems"]]
    for name, split in report["splits"].items():
        text.append(
            f"{name}: {split['images']} images of {len(split['classes'])} classes{_per_class(split['classes'])}"
        )
        for what in ("formats", "modes"):
            if split[what]:
                text.append(f"  {what}: " + ", ".join(f"{kind} {count}" for kind, count in split[what].items()))
        for what in ("width", "height"):
            if split[what]:
                text.append(
                    f"  {what}: {split[what]['min']} to {split[what]['max']} px, median {split[what]['median']}"
                )
        text += _named(f"{len(split['unreadable'])} unreadable", list(split["unreadable"].items()), ": ")
        text += _named(f"{len(split['others'])} files passed over", [(file,) for file in split["others"]], "")
    text += _named(f"{len(report['duplicates'])} images more than once", report["duplicates"], " = ")
    return [*text, f"fingerprint: {report['fingerprint'] or 'none, the layout is not right'}"]


# ------------------------------------------------------------------------------------------------------------- listing


def _listed(folder: Path, split: str, problems: list[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Returns (sorted files by class, files that are no images) of a split, as far as it can be walked."""
    classes, others = {}, []
    try:
        names = folders(folder / split)
        others += [
            f"{split}/{entry.name}"
            for entry in sorted(os.scandir(folder / split), key=lambda entry: entry.name)
            if entry.name not in names and not entry.name.startswith(".")
        ]
    except (FileNotFoundError, ValueError) as error:
        problems.append(str(error))
        return {}, []
    for name in names:
        path = f"{split}/{name}"
        try:
            classes[name] = sorted(file[len(path) + 1 :] for file in images_below(folder, path, {}, others))
        except ValueError as error:
            classes[name] = []
            problems.append(str(error))
            continue
        if not classes[name]:
            problems.append(f"{folder / path}: no images; add some or remove the class from both splits")
    return classes, others


def _fingerprint(folder: Path, problems: list[str]) -> str | None:
    """Returns the fingerprint, or None and adds what is wrong with the layout as a whole to `problems`."""
    try:
        class_names(folder)
        return of_index(folder, walk(folder))
    except (FileNotFoundError, ValueError) as error:
        place = str(error).split(": ")[0]
        if not any(problem.split(": ")[0] == place for problem in problems):
            problems.append(str(error))
        return None


# ------------------------------------------------------------------------------------------------------------- reading


def _looks(folder: Path, files: list[str]) -> Iterator[dict]:
    """Yields what `look` returns for each file, in order, with a progress bar where standard error is a terminal."""
    paths = [folder / file for file in files]
    console = Console(stderr=True)
    bar: dict[str, Any] = {"total": len(paths), "console": console, "disable": not console.is_terminal}
    if len(paths) <= ALONE_UP_TO:
        yield from track(map(look, paths), "reading", **bar)
        return
    number = 0
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), get_context("spawn")) as pool:
        try:
            for seen in track(pool.map(look, paths, chunksize=PORTION), "reading", **bar):
                yield seen
                number += 1
        except BrokenProcessPool as error:
            what = "reading ended its process; read these one by one to find the file"
            raise RuntimeError(f"{paths[number]} or one of the files after it: {what}") from error


def look(path: Path) -> dict:
    """Returns {format, mode, size, digest} of an image, {reason} of a file that cannot be read as one."""
    try:
        kind, mode, size = describe(path)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "blake2b").hexdigest()[:32]
    except (ValueError, OSError, MemoryError) as error:
        return {"reason": str(error).removeprefix(f"{path}: ") or type(error).__name__}
    return {"format": kind, "mode": mode, "size": size, "digest": digest}


# ----------------------------------------------------------------------------------------------------------- summaries


def _split(
    classes: dict[str, list[str]], others: list[str], split: str, looks: dict, limit: int, problems: list[str]
) -> dict:
    paths = {name: [f"{split}/{name}/{file}" for file in files] for name, files in classes.items()}
    unreadable = {path: looks[path]["reason"] for of in paths.values() for path in of if "reason" in looks[path]}
    good = [looks[path] for of in paths.values() for path in of if path not in unreadable]
    if len(unreadable) > limit:
        problems.append(f"{split}: {len(unreadable)} unreadable images, more than data.bad_files: {limit} allows")
    for name, of in paths.items():
        if of and all(path in unreadable for path in of):
            problems.append(f"{split}/{name}: none of its {len(of)} images can be read")
    return {
        "images": len(good),
        "unreadable": unreadable,
        "classes": {name: len(files) for name, files in classes.items()},
        "formats": dict(Counter(look["format"] for look in good).most_common()),
        "modes": dict(Counter(look["mode"] for look in good).most_common()),
        "width": _spread([look["size"][0] for look in good]),
        "height": _spread([look["size"][1] for look in good]),
        "others": others,
    }


def _spread(sides: list[int]) -> dict[str, int] | None:
    return {"min": min(sides), "median": median_low(sides), "max": max(sides)} if sides else None


def _duplicates(looks: dict[str, dict]) -> list[list[str]]:
    same = defaultdict(list)
    for path, seen in looks.items():
        if "digest" in seen:
            same[seen["digest"]].append(path)
    return [paths for paths in same.values() if len(paths) > 1]


def _per_class(classes: dict[str, int]) -> str:
    counts = classes.values()
    return f", {min(counts)} to {max(counts)} files a class" if classes else ""


def _named(title: str, rows: list, between: str) -> list[str]:
    """Returns the title and the first rows, or nothing where there are none."""
    if not rows:
        return []
    shown = [f"    {between.join(row)}" for row in rows[:LISTED]]
    more = [f"    and {len(rows) - LISTED} more"] if len(rows) > LISTED else []
    return [f"  {title}:", *shown, *more]
