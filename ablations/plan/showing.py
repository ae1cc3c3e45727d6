"""Plans and states as tables for the terminal (no torch)."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from rich.table import Table

from ablations.control.watching import remaining, span
from ablations.plan.plan import Entry, Plan
from ablations.slurm.submissions import Submission
from mixmae.data.sources import DataModel, sources
from mixmae.experiment.experiment import Experiment
from mixmae.fields.identity import Key, canonical
from mixmae.fields.texts import many
from mixmae.methods.methods import MethodModel, methods
from mixmae.presentation.columns import canonical as canonical_column
from mixmae.presentation.columns import label, shown
from mixmae.runs.state import STATES, RunState

TELLING = ("running", "failed", "blocked", "stopped", "pending", "waiting", "cancelled", "planned", "done")
DECODER = ("decoder_depth", "decoder_width", "decoder_heads")
"""Shown together."""


def plan_table(plan: Plan, run_states: dict[Key, RunState]) -> Table:
    """One row for jobs that differ in nothing but their seed."""
    groups: dict[str, list[Entry]] = {}
    texts: dict[Key | None, str] = {None: ""}
    for entry in plan.entries:
        texts[entry.key] = _but_for_the_seed(entry) + texts[entry.needs]
        groups.setdefault(texts[entry.key], []).append(entry)
    row_of = {entry.key: number for number, group in enumerate(groups.values(), start=1) for entry in group}
    table = Table("#", "stage", "method", "encoder", "settings", "seeds", "needs", "state")
    words = all_settings(plan.entries)
    for number, group in enumerate(groups.values(), start=1):
        first = group[0]
        needs = f"#{row_of[first.needs]}" if first.needs else ""
        seeds = ", ".join(str(entry.job.seed) for entry in group)
        names = (first.stage, first.method, first.encoder or "-")
        counts = _counts(run_states[entry.key] for entry in group)
        table.add_row(str(number), *names, words[first.key], seeds, needs, counts)
    return table


def plan_summary(plan: Plan, run_states: dict[Key, RunState]) -> list[str]:
    stages = Counter(entry.planned.stage for entry in plan.entries)
    shared = Counter(entry.needs for entry in plan.entries if entry.needs)
    jobs = ", ".join(f"{count} {stage}" for stage, count in stages.items())
    counts = _counts(run_states.values())
    lines = [f"{many(plan.experiments, 'experiment')}, {many(len(plan.entries), 'job')} ({jobs}): {counts}"]
    if several := sum(count > 1 for count in shared.values()):
        lines.append(f"{many(several, 'job')} run once and serve several others")
    lines += _images(plan)
    if plan.outside:
        lines.append(f"{many(len(plan.outside), 'run')} launched by this grid before, no longer part of it and kept:")
        lines += [f"  {run.stage}/{run.id}" for run in plan.outside]
    return lines


def _images(plan: Plan) -> list[str]:
    """The images that are meant, a line each, where they are not those that an experiment has which names none."""
    default = Experiment.model_fields["data"].get_default(call_default_factory=True)
    data = [entry.job.data for entry in plan.entries]
    return list(dict.fromkeys(map(_of_images, data))) if any(one != default for one in data) else []


def _of_images(data: DataModel) -> str:
    words = [f"images: {sources[data.name].title(data)}"]
    if data.tuning:
        words.append(f"{100 * data.tuning:g} % of each class set aside for tuning")
    return "; ".join(words)


def most_telling(entries: Sequence[Entry], run_states: dict[Key, RunState], most: int) -> list[Entry]:
    """All of them in their order, or the `most` that say most: what runs, then what needs a look, then what waits."""
    if len(entries) <= most:
        return list(entries)
    order = {name: place for place, name in enumerate(TELLING)}
    return sorted(entries, key=lambda entry: order[run_states[entry.key].state])[:most]


def status_table(entries: Sequence[Entry], run_states: dict[Key, RunState]) -> Table:
    """A row a job, in columns that say something of at least one of them."""
    columns: dict[str, list[str]] = {}
    words = all_settings(entries)
    for entry in entries:
        for name, value in _status_row(entry, run_states[entry.key], words[entry.key]).items():
            columns.setdefault(name, []).append(value)
    columns = {name: values for name, values in columns.items() if any(values)}
    table = Table()
    for name in columns:
        is_text = name in ("settings", "reason")
        table.add_column(name, no_wrap=not is_text, min_width=16 if is_text else None)
    for row in zip(*columns.values(), strict=True):
        table.add_row(*row)
    return table


def _status_row(entry: Entry, state: RunState, settings: str) -> dict[str, str]:
    after = f", after {entry.needs[1][:8]}" if entry.needs else ""
    return {
        "id": entry.planned.id[:8],
        "stage": entry.stage,
        "method": entry.method,
        "encoder": entry.encoder or "-",
        "settings": settings + after,
        "seed": str(entry.job.seed),
        "state": state.state,
        "epoch": f"{state.epoch}/{state.epochs}" if state.epochs else "",
        "ETA": span(remaining(entry, state)) if state.state == "running" else "",
        "loss": "" if state.loss is None else f"{state.loss:.4g}",
        "metric": "" if state.metric is None else f"{state.metric:.4g}",
        "node": state.node or "" if state.state == "running" else "",
        "tries": str(state.tries or ""),
        "reason": state.reason or "",
    }


def all_settings(entries: Sequence[Entry]) -> dict[Key, str]:
    """The settings of each job in a few words: those that every grid has, and those by which alone jobs differ."""
    alike: dict[tuple[str, ...], list[Entry]] = {}
    for entry in entries:
        names = (entry.planned.stage, entry.method, entry.encoder or "", settings(entry))
        alike.setdefault(names, []).append(entry)
    return {
        entry.key: ", ".join([names[-1], *_differing(entry, columns)])
        for names, group in alike.items()
        for columns in [_varying(group)]
        for entry in group
    }


def _varying(entries: Sequence[Entry]) -> list[str]:
    """The columns in which jobs differ that read alike, but for the seed."""
    own = "evaluation." if entries[0].job.trained_by is not None else ""  # the same as pretrain.*
    paths = dict.fromkeys(path for entry in entries for path in entry.row)
    varying = (path for path in paths if len({entry.row.get(path) for entry in entries}) > 1)
    return [path for path in varying if path != "seed" and not (own and path.startswith(own))]


def _differing(entry: Entry, columns: Sequence[str]) -> Iterator[str]:
    for column in columns:
        if column in entry.row:
            yield f"{label(canonical_column(column))} {shown(column, entry.row[column])}"


def settings(entry: Entry) -> str:
    """The settings that jobs of most grids differ in, in a few words."""
    job, row = entry.job, entry.row
    words = [f"{job.image_size[0]}x{job.image_size[1]} px"]
    if epochs := row.get("evaluation.epochs"):
        words.append(many(epochs, "epoch"))
    if job.trained_by is not None:
        words += [f"batch {row['evaluation.batch']}", *_of_method(job.trained_by)]
    if fraction := row.get("evaluation.subset.fraction"):
        words.append(f"{fraction:.3g} of the images")
    if labels := row.get("evaluation.subset.labels_per_class"):
        words.append(f"{labels} labels a class")
    return ", ".join(words)


def _of_method(method: MethodModel) -> Iterator[str]:
    """The ratio, and every other setting of a pretraining method that is not its default: "no masked attention"."""
    ratio, fields = methods[method.name].hidden_by, type(method).model_fields
    yield f"{ratio} {dict(method)[ratio]:.3g}"
    given = {name: value for name, value in method if name not in ("name", ratio) and value != fields[name].default}
    if given.get("fill"):  # which mixes no images: these two cannot be on
        given = {name: value for name, value in given.items() if name not in ("dual", "masked_attention")}
    if given.keys() & {*DECODER}:
        depth, width, heads = (dict(method)[name] for name in DECODER)
        yield f"decoder {depth} x {width} ({heads} heads)"
    for name, value in given.items():
        words = name.replace("_", " ")
        if isinstance(value, bool):
            yield words if value else f"no {words}"
        elif name not in DECODER:
            yield f"{value} {words}" if name == "images" else f"{words} {value}"


def _but_for_the_seed(entry: Entry) -> str:
    return canonical({**entry.job.model_dump(mode="json"), "seed": 0, "pretraining": None})


def _counts(run_states: Iterable[RunState]) -> str:
    counts = Counter(state.state for state in run_states)
    if len(counts) == 1 and counts.total() == 1:
        return next(iter(counts))
    return ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])


def submitted(made: list[Submission], named: str) -> list[str]:
    """What a launch has submitted, and how to follow it."""
    if not made:
        return [f"nothing to submit; mixmae grid status {named}"]
    lines = [f"job {array.job}: {many(len(array.tasks), 'task')}, {_stages(array)}" for array in made]
    return [*lines, f"follow them with: mixmae grid status {named}"]


def _stages(array: Submission) -> str:
    counts = Counter(stage for runs in array.tasks for stage, _ in runs)
    return ", ".join(f"{count} {stage}" for stage, count in counts.items())
