"""What a report shows beside tables, figures and pictures: which runs there are, what they cost, what went wrong, and
where they ran (no torch)."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import fsum
from pathlib import Path
from typing import Any

import pandas as pd

from mixmae.experiment.metric import Metric
from mixmae.experiment.plugins import KINDS
from mixmae.experiment.stages import stages
from mixmae.fields.identity import Key
from mixmae.fields.texts import many, with_prefix
from mixmae.files.records import Damaged, whole_lines
from mixmae.presentation.columns import ALIASES, MISSING, label, position, shown, value
from mixmae.presentation.declaration import Declaration
from mixmae.presentation.row import stage_label
from mixmae.runs.folder import RunFolder
from mixmae.runs.state import STATES
from results.rows.machines import machine
from results.rows.reading import trains_encoder
from results.rows.shown import grouped, of_keys, pretrained

log = logging.getLogger(__name__)

NO_FOLDER = "not launched or not readable"
ENVIRONMENT = (
    "mixmae", "commit", "python", "torch", "timm", "numpy", "torchvision", "pillow", "pyarrow", "cuda", "cudnn",
    "driver", "cpu", "cpu_type", "variables", "device", "processes", "threads", "workers", "compile_blocks",
    "checkpoint_activations",
)  # fmt: skip
"""The versions and facts about the machine that are shown of environment.json; host names stay in the run folder."""
SETTINGS = ("method", "encoder", "data", "image_size", "pretrain_epochs", "seed")
"""The columns by whose values a grid is described."""
HOUR = 3600.0


@dataclass(frozen=True)
class Figure:
    """A number in a cell: as it is shown, and as it is sorted; `value` is None where there is none."""

    text: str
    value: float | None


@dataclass(frozen=True)
class Words:
    """Text of any length in a cell."""

    text: str


@dataclass(frozen=True)
class Listing:
    """A table of the page that no grid declares. Rows begin with what names them."""

    caption: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[str | Words | Figure]]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunRecord:
    """What is recorded of one run: its environment.json ({} where there is none), and the hours of its processes
    together at work (None where it is not done, or where they are not known)."""

    environment: dict[str, Any]
    hours: float | None

    @property
    def ran_in(self) -> list[dict[str, Any]]:
        """Its environments, the last one last."""
        return [*self.environment.get("earlier", []), self.environment]

    @property
    def device(self) -> str:
        """The GPU's name, or the CPU's with its type; all of them where it went on elsewhere."""
        return machine(self.environment) or MISSING


RunRecords = dict[Key, RunRecord]


def runs_of_grids(frame: pd.DataFrame, declarations: Sequence[Declaration]) -> pd.DataFrame:
    """The rows of the runs that the grids name, each once."""
    return of_keys(frame, set().union(*(declaration.ids() for declaration in declarations)))


def recorded_runs(runs: pd.DataFrame) -> RunRecords:
    records = {}
    for run in runs.itertuples():
        folder = RunFolder(Path(run.root), run.stage, run.id)
        record = RunRecord(_environment(folder), None)
        if trains_encoder(run.stage):
            hours = None if pd.isna(run.pretrain_hours) else run.pretrain_hours
        else:
            hours = _measured(folder, record, run.epochs) if run.state == "done" else None
        records[run.stage, run.id] = replace(record, hours=hours)
    return records


def _environment(run: RunFolder) -> dict[str, Any]:
    try:
        return run.read("environment") or {}
    except Damaged as error:
        log.warning("%s; the environment of %s/%s is not shown", error, run.stage, run.id)
        return {}


def _measured(run: RunFolder, record: RunRecord, epochs: int) -> float | None:
    """Hours of an evaluation's processes together. None where timing.jsonl does not hold each epoch once, or the number
    of processes was not always the same."""
    processes: set[Any] = {environment.get("processes") for environment in record.ran_in}
    lines, damaged = whole_lines(run.path / "timing.jsonl")
    if damaged or len(processes) != 1 or None in processes or pd.isna(epochs):
        return None
    if [line["epoch"] for line in lines] != list(range(1, epochs + 1)):
        return None
    return fsum(line["seconds"] for line in lines) * processes.pop() / HOUR


# ---------------------------------------------------------------------------------------------------- what was run


def state_counts(runs: pd.DataFrame, declaration: Declaration) -> dict[str, int]:
    """How many runs of the grid are in each state, done first."""
    counted = Counter(runs["state"])
    absent = len(declaration.ids()) - len(runs)
    order = ("done", *(state for state in STATES if state != "done"))
    counts = {state: counted[state] for state in order if counted[state]}
    return counts | ({NO_FOLDER: absent} if absent else {})


def ranges(runs: pd.DataFrame, declaration: Declaration) -> dict[str, str]:
    """What the runs of a grid range over: the values of each of `SETTINGS`, and of what else it sweeps."""
    texts = {}
    for column in SETTINGS:
        values = [value for (value,), _ in grouped(runs, [column]) if value not in (None, "-")]
        if values:
            texts[label(column)] = ", ".join(shown(column, value) for value in values)
    keys = list(zip(runs["stage"], runs["id"], strict=True))
    for column in (column for column in declaration.swept if column not in SETTINGS):
        rows = zip(keys, runs["row"], strict=True)
        swept = {value(row, column, declaration.called(key)) for key, row in rows} - {None}
        if swept:
            ordered = sorted(swept, key=lambda each: position(column, each))
            texts[label(column)] = ", ".join(shown(column, each) for each in ordered)
    return texts


# -------------------------------------------------------------------------------------------------------------- cost


def costs(runs: pd.DataFrame, records: RunRecords, macs: dict[Key, int]) -> list[Listing]:
    """What each pretraining cost, and all runs together. macs: multiply-adds of pretrainings for each image."""
    keys = list(zip(runs["stage"], runs["id"], strict=True))
    priced = runs.assign(
        macs=pd.array([macs.get(key) for key in keys], dtype="Int64") * runs["pretrain_images"],
        hours=pd.array([records[key].hours for key in keys], dtype="Float64"),
        device=[records[key].device for key in keys],
    )
    priced = priced[priced["state"] == "done"]
    return [listing for listing in (_cost_of_each(priced), _cost_of_all(priced)) if listing.rows]


def _cost_of_each(priced: pd.DataFrame) -> Listing:
    alike = ("method", "encoder", "image_size", "pretrain_epochs", "macs", "device")
    pretrainings = pretrained(priced)
    rows = []
    for (method, encoder, size, epochs, macs, device), group in grouped(pretrainings, alike):
        named = [shown("method", method), encoder, size]
        rows.append([*named, _whole(epochs), _macs(macs), device, _whole(len(group)), _mean(group["hours"])])
    columns = ("method", "encoder", "image size", "epochs", "multiply-adds", "device", "runs", "hours each")
    notes = (
        "Multiply-adds are counted from the settings: three times the forward pass of every image trained on; norms, "
        "activations, the loss and the optimiser are left out.",
        "Hours: mean ± std (n - 1), of its processes together, as measured epoch by epoch.",
    )
    return Listing("Each pretraining", columns, rows, notes)


def _cost_of_all(priced: pd.DataFrame) -> Listing:
    rows = []
    for stage in dict.fromkeys([*stages.names(), *priced["stage"]]):
        for (device,), group in grouped(priced[priced["stage"] == stage], ["device"]):
            timed = group["hours"].count()
            macs = group["macs"].sum(min_count=1)
            hours = group["hours"].sum(min_count=1)
            figures = [_whole(len(group)), _whole(timed), _hours(hours), _macs(macs)]
            rows.append([stage_label(stage), device, *figures])
    columns = ("stage", "device", "runs", "timed", "hours", "multiply-adds")
    notes = (
        "Each run that is done once, whichever grids share it; hours of its processes together, start-up and saving "
        "apart. Linear: of the classifier, without the features it is trained on; kNN keeps no time. Multiply-adds: of "
        "pretrainings only.",
    )
    return Listing("All runs together", columns, rows, notes)


# ----------------------------------------------------------------------------------------------------- what went wrong


def unfinished(runs: pd.DataFrame) -> Listing:
    """The runs that are not done, what needs a look first."""
    order = ("failed", "blocked", "cancelled", "stopped", *STATES)
    rows = []
    for run in sorted(runs[runs["state"] != "done"].itertuples(), key=lambda run: order.index(run.state)):
        reason = Words(MISSING if pd.isna(run.reason) else run.reason.replace(f"{run.root}/", ""))
        named = (run.id, stage_label(run.stage), shown("method", run.method), shown("encoder", run.encoder))
        rows.append([*named, _whole(run.seed), run.state, reason])
    return Listing("Runs that are not done", ("id", "stage", "method", "encoder", "seed", "state", "reason"), rows)


def absent(runs: pd.DataFrame, declarations: Sequence[Declaration]) -> list[str]:
    """The runs that the grids name and of which no folder was read."""
    named = set().union(*(declaration.ids() for declaration in declarations))
    return ["/".join(key) for key in sorted(named - set(zip(runs["stage"], runs["id"], strict=True)))]


# --------------------------------------------------------------------------------------------------------- every run


def every_run(runs: pd.DataFrame, records: RunRecords, declarations: Sequence[Declaration]) -> Listing:
    """A row a run, with the columns in which runs differ, short names and those that grids sweep, and the main figures
    of their stages."""
    fixed, metrics = ("method", "encoder"), _main_figures(runs)
    names = {key: grid.called(key) for grid in declarations for key in grid.ids()}
    swept = [column for grid in declarations for column in grid.swept]
    keys = list(zip(runs["stage"], runs["id"], strict=True))
    values = {
        column: [value(row, column, names.get(key, ())) for key, row in zip(keys, runs["row"], strict=True)]
        for column in dict.fromkeys([*fixed, *ALIASES, *swept])
    }
    varying = [column for column in values if column not in fixed and len(set(values[column])) > 1]
    columns = {column: _column(column, values[column]) for column in (*fixed, *varying)}
    columns["seed"] = _column("seed", list(runs["seed"]))
    rows = []
    for run, *values_of_run in zip(runs.itertuples(), *columns.values(), strict=True):
        named = [run.id, stage_label(run.stage), run.state]
        measured = [_number(getattr(run, metric.name), metric.format) for metric in metrics]
        rows.append([*named, *values_of_run, *measured, _hours(records[run.stage, run.id].hours)])
    axes = [metric.axis for metric in metrics]
    return Listing("Every run", ("id", "stage", "state", *map(label, columns), *axes, "hours"), rows)


def _main_figures(runs: pd.DataFrame) -> list[Metric]:
    """The main figures of the evaluations there are, then those of the stage that pretrains."""
    specs = [spec for spec in stages if spec.name in set(runs["stage"])]
    ordered = sorted(specs, key=lambda spec: not spec.measures)
    return list(dict.fromkeys(spec.main for spec in ordered))


# ---------------------------------------------------------------------------------------------------- where they ran


def environments(runs: pd.DataFrame, records: RunRecords) -> Listing:
    """A column for each environment, and how many runs it had."""
    runs_in: Counter[tuple[Any, ...]] = Counter()
    moved = 0
    for key in zip(runs["stage"], runs["id"], strict=True):
        environment = records[key].environment
        if environment:
            runs_in[tuple(_recorded(environment.get(name)) for name in ENVIRONMENT)] += 1
            moved += len(records[key].ran_in) > 1
    kinds = sorted(runs_in, key=lambda values: (-runs_in[values], str(values)))
    rows = [
        [name.replace("_", " "), *(_plain(values[place]) for values in kinds)]
        for place, name in enumerate(ENVIRONMENT)
        if any(values[place] is not None for values in kinds)
    ]
    silent = len(runs) - runs_in.total()
    notes = [f"{many(silent, 'run')} without environment.json."] * bool(silent)
    notes += [f"{many(moved, 'run')} began in another environment and went on in this."] * bool(moved)
    return Listing("Versions and machines", ("", *(many(runs_in[kind], "run") for kind in kinds)), rows, tuple(notes))


def _recorded(value: Any) -> Any:
    """What is recorded, variables as text."""
    if isinstance(value, dict):
        return ", ".join(f"{name}={setting}" for name, setting in value.items()) or None
    return value


def plug_ins(records: RunRecords) -> Listing:
    """The plug-ins that runs last used: a row for each of a plug-in's files."""
    runs_of = Counter(
        (name, str(origin))
        for record in records.values()
        for name, origin in record.environment.items()
        if name.split(" ")[0] in KINDS
    )
    rows: list[list[str | Words | Figure]] = [
        [name, Words(origin), _whole(runs)] for (name, origin), runs in sorted(runs_of.items())
    ]
    return Listing("Plug-ins", ("plug-in", "from", "runs"), rows)


def commits(records: RunRecords) -> list[str]:
    """The commits that the runs were made with, where they ran from a checkout."""
    named = {record.environment.get("commit") for record in records.values()}
    return sorted(commit for commit in named if commit)


def data_sets(runs: pd.DataFrame) -> Listing:
    rows: list[list[str | Figure]] = []
    for (data, fingerprint), group in grouped(runs, ["data", "data_fingerprint"]):
        rows.append([_plain(data), _plain(fingerprint), _whole(len(group))])
    notes = ("A fingerprint is of all images' relative paths, sizes and classes.",)
    return Listing("Data", ("data", "fingerprint", "runs"), rows, notes)


# ------------------------------------------------------------------------------------------------------------- cells


def _column(column: str, values: Sequence[Any]) -> list[str | Figure]:
    """The values of a column as cells; numbers are sorted as such, and missing values with them."""
    if any(_is_number(value) for value in values):
        return [Figure(shown(column, value), float(value) if _is_number(value) else None) for value in values]
    return [shown(column, value) for value in values]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _plain(value) -> str:
    if value is None:
        return MISSING
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)


def _number(value, form: str) -> Figure:
    return Figure(MISSING, None) if pd.isna(value) else Figure(format(value, form), float(value))


def _whole(value) -> Figure:
    return _number(value, "d")


def _hours(value) -> Figure:
    return _number(value, ".3g")


def _mean(values: pd.Series) -> Figure:
    known = values.dropna()
    if known.empty:
        return Figure(MISSING, None)
    spread = f" ± {known.std(ddof=1):.2g}" if len(known) > 1 else ""
    return Figure(f"{known.mean():.3g}{spread}", float(known.mean()))


def _macs(value) -> Figure:
    return Figure(MISSING, None) if pd.isna(value) else Figure(with_prefix(value), float(value))
