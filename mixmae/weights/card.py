"""Model cards: what exported weights are, how to load them, where they come from, under which terms (no torch here).

A card holds what the run folder or the file holds; what is not known there is "unknown".
"""

import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import yaml

from mixmae.encoders.kinds import Licence
from mixmae.weights.description import Description
from mixmae.weights.kinds import kinds

UNKNOWN = "unknown"
VERSIONS = ("mixmae", "commit", "python", "torch", "timm", "numpy", "device")
"""The fields of environment.json in a card; hosts and CPUs stay in the run folder."""


@dataclass(frozen=True)
class Facts:
    """What is known of weights; None: not known.

    run: id. job: the stage job of its config.json. pretraining: the job of the pretraining it started from.
    fingerprint: of its data. result, environment: those files. origin: of the imported weights that these are or that
    the job started from, `Origin` as plain data.
    """

    run: str | None = None
    job: dict[str, Any] | None = None
    pretraining: dict[str, Any] | None = None
    fingerprint: str | None = None
    result: dict[str, Any] | None = None
    environment: dict[str, Any] | None = None
    origin: dict[str, str] | None = None


# ------------------------------------------------------------------------------------------------------------- cards


def card(description: Description, facts: Facts, loading: str, notes: list[str]) -> str:
    """Writes the card as Markdown. loading: the Python that loads the file. notes: what else its reader must know."""
    sections = [
        f"# {title(description, facts)}",
        f"{_sentence(description)} {_came_from(facts)}",
        "## Loading",
        fenced(loading, "python"),
    ]
    if notes:
        sections += ["## To know", "\n".join(f"* {note}" for note in notes)]
    sections += ["## Result", _result(facts), "## Data", _data(facts)]
    sections += ["## Recipe", *_recipes(description, facts), "## Versions", _versions(facts)]
    sections += ["## Licence", _licence(facts)]
    return "\n\n".join(sections) + "\n"


def hub_card(text: str, description: Description, facts: Facts, library: str) -> str:
    """Puts the card under the front matter that the Hugging Face Hub reads. library: "timm" or "mixmae"."""
    return f"---\n{_yaml(_front_matter(description, facts, library))}---\n\n{text}"


def title(description: Description, facts: Facts) -> str:
    """Returns encoder and part, as Markdown."""
    encoder = description.encoder
    name = encoder.label
    pretrained = f", pretrained with {_method(facts)}" if description.method is None and _method(facts) else ""
    return f"{escaped(name)}: {escaped(description.part)}{pretrained}"


def _sentence(description: Description) -> str:
    height, width = description.image_size
    encoder = description.encoder
    article = "An" if description.part == "encoder" else "A"
    return f"{article} {description.part}: encoder family {encoder.family}, for images of {height} × {width} px."


def _came_from(facts: Facts) -> str:
    parts = []
    if facts.run and facts.job:
        parts.append(f"Trained by mixmae: {facts.job['stage']} run {code(facts.run)}.")
    if facts.origin:
        file, kind, digest = (code(facts.origin[key]) for key in ("file", "kind", "sha256"))
        what = "It started from weights imported" if parts else "Imported by mixmae"
        parts.append(f"{what} from {file} as {kind}; the SHA-256 of that file is {digest}.")
    elif started := (facts.job or {}).get("weights"):
        file, digest = code(PurePath(started["path"]).name), code(started["sha256"])
        parts.append(f"It started from the weights in {file} (SHA-256 {digest}), whose origin is unknown.")
    return " ".join(parts) or "How it was trained is unknown."


def _method(facts: Facts) -> str | None:
    job = facts.pretraining or facts.job or {}
    return (job.get("method") or {}).get("name")


def _result(facts: Facts) -> str:
    figures = {name: value for name, value in (facts.result or {}).items() if name != "schema"}
    if not figures:
        return UNKNOWN
    rows = [f"| {escaped(name)} | {escaped(value)} |" for name, value in figures.items()]
    unit = ["", "top1 and top5 are in percent, on the val split after the last epoch."] if "top1" in figures else []
    return "\n".join(["| figure | value |", "|---|---|", *rows, *unit])


def _data(facts: Facts) -> str:
    return f"{code(_data_name(facts) or UNKNOWN)}, fingerprint {code(facts.fingerprint or UNKNOWN)}"


def _data_name(facts: Facts) -> str | None:
    """Returns the data set's name on one line; of a folder of images the folder's."""
    data = (facts.job or {}).get("data")
    if not data:
        return None
    name = PurePath(data["path"]).name if "path" in data else ""
    return " ".join((name or data["name"]).split())


def _recipes(description: Description, facts: Facts) -> list[str]:
    """Writes whole jobs, without the folders of the machine that trained."""
    if facts.job is None:
        return [
            f"How it was trained: {UNKNOWN}. What it is:",
            fenced(_yaml(description.model_dump(mode="json")), "yaml"),
        ]
    parts = [fenced(_yaml(_public(facts.job)), "yaml")]
    if facts.pretraining:
        parts += ["Its pretraining:", fenced(_yaml(_public(facts.pretraining)), "yaml")]
    elif facts.job.get("pretraining"):
        parts.append(f"Its pretraining {code(facts.job['pretraining'])}: {UNKNOWN}")
    return parts


def _public(job: dict[str, Any]) -> dict[str, Any]:
    parts = {name: part for name, part in job.items() if isinstance(part, dict) and "path" in part}
    return {**job, **{name: {**part, "path": PurePath(part["path"]).name} for name, part in parts.items()}}


def _versions(facts: Facts) -> str:
    environment = facts.environment or {}
    return "\n".join(f"* {name}: {escaped(environment.get(name) or UNKNOWN)}" for name in VERSIONS)


def _licence(facts: Facts) -> str:
    if facts.job is None and facts.origin:
        return f"These weights were published by others, under the terms of their repository: {_terms(facts)}."
    own = (
        "The code of mixmae is under the MIT licence. These weights carry the licence that whoever trained them gives "
        f"them: {UNKNOWN} as long as nothing is written here."
    )
    if facts.origin:
        own += f" The weights they started from were published under the terms of their repository: {_terms(facts)}."
    return own


def _licence_of(kind: str) -> Licence | None:
    """Returns the terms of the repository that published the weights of a kind."""
    return kinds()[kind].licence if kind in kinds() else None


def _terms(facts: Facts) -> str:
    assert facts.origin is not None
    licence = _licence_of(facts.origin["kind"])
    return f"{licence.terms} ({licence.repository})" if licence else UNKNOWN


# ------------------------------------------------------------------------------------------------------ front matter


def _front_matter(description: Description, facts: Facts, library: str) -> dict[str, Any]:
    licence = _licence_of(facts.origin["kind"]) if facts.origin and facts.job is None else None
    tags = ["mixmae", "masked-image-modeling", description.encoder.family]
    if method := description.method.name if description.method else _method(facts):
        tags.append(method)
    matter = {
        "license": licence.hub if licence else UNKNOWN,
        "library_name": library,
        "tags": list(dict.fromkeys(tags)),
        "pipeline_tag": "image-classification" if description.classes else "image-feature-extraction",
    }
    job, top1, data = facts.job, (facts.result or {}).get("top1"), _data_name(facts)
    if job is None or top1 is None or data is None or description.classes is None:
        return matter
    result = {
        "task": {"type": "image-classification"},
        "dataset": {"name": data, "type": job["data"]["name"], "split": "val"},
        "metrics": [{"type": "accuracy", "name": "top-1 (%)", "value": top1}],
    }
    return {**matter, "metrics": ["accuracy"], "model-index": [{"name": facts.run, "results": [result]}]}


# ----------------------------------------------------------------------------------------------------------- escaping


def _yaml(data: dict[str, Any]) -> str:
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120)


def escaped(text: Any) -> str:
    """Returns one line of Markdown that shows `text` as it is."""
    line = " ".join(str(text).split())
    return re.sub(r"([\\`*_{}\[\]<>#|!~&])", r"\\\1", line)


def code(text: Any) -> str:
    """Returns `text` as a code span of one line, whatever backticks are in it."""
    line = " ".join(str(text).split())
    fence = "`" * (_longest_run_of_backticks(line) + 1)
    space = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{space}{line}{space}{fence}"


def fenced(text: str, language: str) -> str:
    """Returns `text` as a block of code that no line in it can end."""
    fence = "`" * max(3, _longest_run_of_backticks(text) + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def _longest_run_of_backticks(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)
