"""The commands `mixmae grid`, `runs`, `run`, `doctor` and `bench grid`. Imports no torch until a command needs it."""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from mixmae.cost.step_records import LEAST_ROUNDS
from mixmae.fields.console import AsJson, print_json, show
from mixmae.fields.documents import ConfigError, mark_of

if TYPE_CHECKING:
    from ablations.grid.file import Grid
    from ablations.plan.plan import Plan

GridPath = Annotated[
    Path,
    typer.Argument(metavar="FILE", help="The grid's YAML file, or one of mixmae's, such as paper/methods."),
]
GridPaths = Annotated[
    list[Path],
    typer.Argument(metavar="FILE", help="Grid files, or mixmae's own, such as paper/methods; several count as one."),
]
ScaleName = Annotated[
    str | None, typer.Option("--scale", help="Run every experiment smaller: laptop makes it fit a CPU.")
]
Executor = Annotated[
    Literal["local", "slurm"] | None, typer.Option(help="Where jobs run; default: what the file says, else local.")
]
Slots = Annotated[int | None, typer.Option(min=1, help="Jobs at once; default: what the file says, else 1.")]
Every = Annotated[float, typer.Option(min=1, help="Seconds between two looks.")]
RunId = Annotated[str, typer.Argument(metavar="ID", help="The beginning of a run's id.")]
OfStage = Annotated[str | None, typer.Option("--stage", help="Only this stage, such as finetune.")]
OfMethod = Annotated[str | None, typer.Option("--method", help="Only this method.")]
OfEncoder = Annotated[str | None, typer.Option("--encoder", help="Only encoders that match, such as 'swin_*'.")]
OfSeed = Annotated[int | None, typer.Option("--seed", help="Only this seed.")]

Grids = Annotated[
    list[Path] | None, typer.Option("--grid", metavar="FILE", help="Only runs of this grid; may be given again.")
]

ROWS = 200
"""The most rows that a table of states shows."""

grid_app = typer.Typer(no_args_is_help=True, help="Plan, run and follow the experiments of a grid file.")
runs_app = typer.Typer(no_args_is_help=True, help="Look after the run folders under ROOT.")


@grid_app.command("list")
def grid_list(as_json: AsJson = False) -> None:
    """List the grids that come with mixmae, for use in place of a FILE."""
    from ablations.grid.file import shipped
    from mixmae.experiment.recipes.headers import header_of

    grids = [{"name": name, **header_of(path.read_text("utf-8"))} for name, path in shipped().items()]
    if as_json:
        print_json(grids=grids)
        return
    table = Table("grid", "about", "cost at full scale")
    for grid in grids:
        table.add_row(grid["name"], grid["title"], grid.get("cost", "").partition(" in float16")[0])
    show(table)


@grid_app.command("reference")
def grid_reference(
    schema: Annotated[
        Literal["grid", "experiment"] | None, typer.Option(help="Print the JSON schema of such a file instead.")
    ] = None,
) -> None:
    """Print every key of grid and experiment files, with what it means, as Markdown."""
    from ablations.grid.reference import reference, schemas

    print(json.dumps(schemas()[schema], indent=1, ensure_ascii=False) if schema else reference(), end="")


@grid_app.command("plan")
def grid_plan(
    context: typer.Context,
    files: GridPaths,
    scale: ScaleName = None,
    executor: Executor = None,
    as_json: AsJson = False,
) -> None:
    """Show what the grid would run and what is done already; for slurm also what it asks for and costs there."""
    from ablations.control.steering import as_text, plan_document
    from ablations.plan.plan import states
    from ablations.plan.showing import plan_summary, plan_table

    grids, plan = planned_together(files, context.obj, scale)
    notes = [*_untuned(files, grids, scale), *_budgets(plan), *_check_shown(_apart(grids, plan))]
    run_states = states(plan.entries)
    quoted, grid = None, grids[0]
    if (executor or grid.spec.resources.executor) == "slurm":
        from ablations.cost.prices import quote, quote_document, quote_lines, quote_table

        quoted = quote(_alone(grids, "--executor slurm"), plan, run_states)
    if as_json:
        told = {"untuned": _untuned(files, grids, scale)}
        print(as_text({**plan_document(plan, run_states), **told, **(quote_document(quoted) if quoted else {})}))
        return
    show(plan_table(plan, run_states))
    print(*plan_summary(plan, run_states), *notes, *_computed_by_others(plan), sep="\n")
    if quoted:
        show(quote_table(quoted))
        print(*quote_lines(quoted), sep="\n")


@grid_app.command("run")
def grid_run(
    context: typer.Context, files: GridPaths, scale: ScaleName = None, slots: Slots = None, executor: Executor = None
) -> None:
    """Run what of the grids is not done: here, several jobs at once, or submitted to Slurm, which returns at once.

    Ctrl-C lets jobs that run here save and stop. Several grids share pretrainings and processes.
    """
    from ablations.local.launching import launch
    from ablations.plan.showing import submitted

    grids, plan = planned_together(files, context.obj, scale)
    apart = _apart(grids, plan)
    _check_shown(apart)
    for line in _computed_by_others(plan):
        print(line, file=sys.stderr)
    shared = grids[0].spec.resources
    if (executor or shared.executor) == "slurm":
        from ablations.slurm.submitting import submit

        for file, (grid, own) in zip(files, apart, strict=True):
            print(*submitted(submit(grid, own, cancelled=True), command_line(file, scale)), sep="\n")
        return
    raise typer.Exit(launch(plan, shared.model_copy(update={"slots": slots or shared.slots})))


@grid_app.command("status")
def grid_status(
    context: typer.Context,
    files: GridPaths,
    scale: ScaleName = None,
    as_json: AsJson = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show it anew until nothing waits or runs.")] = False,
    every: Every = 10.0,
) -> None:
    """Show how the grid's runs stand, by their folders and at most one call of squeue."""
    from ablations.control.following import follow
    from ablations.control.steering import as_text, status_document
    from ablations.plan.showing import most_telling, plan_summary, status_table
    from ablations.slurm.policy import seen

    grids, plan = planned_together(files, context.obj, scale)
    if watch:
        raise typer.Exit(follow(grids[0], plan, every, submits=False))
    run_states = seen(plan)
    if as_json:
        print(as_text(status_document(plan, run_states)))
        return
    shown = most_telling(plan.entries, run_states, ROWS)
    show(status_table(shown, run_states))
    if len(shown) < len(plan.entries):
        print(f"{len(plan.entries) - len(shown)} more jobs are not shown; --json lists all")
    print(plan_summary(plan, run_states)[0])


@grid_app.command("watch")
def grid_watch(context: typer.Context, file: GridPath, scale: ScaleName = None, every: Every = 60.0) -> None:
    """See a grid on Slurm through: submit what is not done, and again what ended early, as its `retries` say."""
    from ablations.control.following import follow

    grid, plan = planned(file, context.obj, scale)
    try:
        raise typer.Exit(follow(grid, plan, every, submits=True))
    except KeyboardInterrupt:
        print("no longer watched; what was submitted goes on", file=sys.stderr)
        raise typer.Exit(130) from None


@grid_app.command("cancel")
def grid_cancel(
    context: typer.Context,
    files: GridPaths,
    scale: ScaleName = None,
    stage: OfStage = None,
    method: OfMethod = None,
    encoder: OfEncoder = None,
    seed: OfSeed = None,
) -> None:
    """Cancel what is not done, or what of it the options name; running jobs save and stop.

    Grids that were run together are cancelled together.
    """
    from ablations.control.steering import ChosenRuns, cancel_grid
    from mixmae.fields.texts import many

    _, plan = planned_together(files, context.obj, scale)
    cancelled = cancel_grid(plan, ChosenRuns(stage, method, encoder, seed))
    out = f", {many(cancelled.tasks, 'task')} taken out of Slurm's queue" if cancelled.tasks else ""
    still = f", {cancelled.still} of them still running" if cancelled.still else ""
    print(f"{many(cancelled.runs, 'job')} cancelled{out}{still}")


@grid_app.command("retry")
def grid_retry(
    context: typer.Context,
    file: GridPath,
    scale: ScaleName = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only failed runs, which is the default.")] = False,
    stage: OfStage = None,
    method: OfMethod = None,
    encoder: OfEncoder = None,
    seed: OfSeed = None,
) -> None:
    """Queue the failed runs again, or those of them that the options name."""
    from ablations.control.steering import ChosenRuns, retry_failed
    from mixmae.fields.texts import many

    _, plan = planned(file, context.obj, scale)
    queued, cancelled = retry_failed(plan, ChosenRuns(stage, method, encoder, seed))
    also = f", {many(cancelled, 'cancelled run')} would start anyway" if cancelled else ""
    start = f"; start them with: mixmae grid run {command_line(file, scale)}" if queued or cancelled else ""
    print(f"{many(queued, 'failed run')} queued{also}{start}")


@grid_app.command("logs")
def grid_logs(
    context: typer.Context,
    run_id: RunId,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on until the run neither runs nor waits; Ctrl-C leaves.")
    ] = False,
) -> None:
    """Print the log of a run."""
    from ablations.control.explaining import follow_log
    from mixmae.runs.find import find_run

    run = find_run(context.obj, run_id)
    if follow:
        try:
            follow_log(run, _write)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        return
    log = run.path / "log.txt"
    if not log.exists():
        raise ConfigError([f"{run.stage}/{run.id} has written no log yet; mixmae grid why {run.id[:8]} says why"])
    _write(log.read_bytes())


@grid_app.command("why")
def grid_why(context: typer.Context, run_id: RunId, as_json: AsJson = False) -> None:
    """Say what became of a run: its error, its Slurm task, what it waits for, and what to do next."""
    from ablations.control.explaining import explain, lines
    from ablations.control.steering import as_text
    from mixmae.runs.find import find_run

    document = explain(context.obj, find_run(context.obj, run_id))
    print(*([as_text(document)] if as_json else lines(document)), sep="\n")


# ---------------------------------------------------------------------------------------------------------- run folders


@runs_app.callback()
def _runs() -> None:
    """A group, though it has one command."""


@runs_app.command("prune")
def runs_prune(
    context: typer.Context,
    grid: Grids = None,
    no_grid: Annotated[
        bool, typer.Option("--no-grid", help="Also whole runs that no grid under ROOT has launched.")
    ] = False,
    apply: Annotated[bool, typer.Option("--apply", help="Delete it; else it is only shown.")] = False,
) -> None:
    """Show, or delete, what is no longer needed: optimizer state of done runs, features that were extracted more than
    a day ago, what dead processes and jobs left.

    A done run keeps its weights, result, metrics and config; a run that a process holds is left alone.
    """
    from ablations.control.pruning import delete, find, lines

    found = find(context.obj, [planned(file, context.obj)[1] for file in grid] if grid else None, no_grid)
    print(*lines(delete(found) if apply else found, apply), sep="\n")


# ------------------------------------------------------------------------------------------------------- one experiment


def run_experiment(
    context: typer.Context,
    experiment: Annotated[Path, typer.Argument(metavar="EXPERIMENT", help="The experiment's YAML file.")],
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of each process.")] = 1,
    workers: Annotated[int, typer.Option(min=0, help="Data loading processes of each process.")] = 0,
    checkpoint_activations: Annotated[bool, typer.Option(help="Less memory, more time.")] = False,
    compile_blocks: Annotated[bool, typer.Option(help="torch.compile the transformer blocks.")] = False,
    save_minutes: Annotated[float, typer.Option(min=0.01, help="Save every so many minutes of an epoch, too.")] = 10.0,
    save_steps: Annotated[int | None, typer.Option(min=1, help="Save every so many steps, too.")] = None,
    track: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Report to tensorboard, wandb, mlflow or trackio; may be given again."),
    ] = None,
    start_over: Annotated[
        bool, typer.Option(help="Set the checkpoints of what is not done aside and begin anew.")
    ] = False,
) -> None:
    """Run one experiment: its pretraining, then its evaluations.

    In this process, or on all that torchrun or srun started: torchrun --nproc-per-node 8 --no-python mixmae run FILE.
    """
    from ablations.control.steering import set_aside
    from ablations.grid.file import Case
    from ablations.local.running import follow_here, run_here
    from ablations.plan.inherited import untuned
    from ablations.plan.plan import plan
    from mixmae.experiment.reading import read_experiment, read_reference
    from mixmae.tracking.asked import check_installed, known
    from mixmae.training.places import place
    from mixmae.training.resources import Resources

    tracked = known(tuple(track or ()))
    check_installed(tracked)
    shared = Resources(
        threads=threads,
        workers=workers,
        track=tracked,
        checkpoint_activations=checkpoint_activations,
        compile_blocks=compile_blocks,
        save_minutes=save_minutes,
        save_steps=save_steps,
    )
    parsed, document = read_experiment(experiment)
    processes = None
    if own := place():
        # Else torch warns of what `Processes.synchronised` does on purpose.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
        from mixmae.training.processes import join

        processes = join(own)
        if own.rank:
            raise typer.Exit(follow_here(shared, processes))
    case = Case(experiment.stem, parsed, document, reference=read_reference(experiment), resources=shared)
    made = plan(experiment.stem, [case], context.obj)
    for line in (*untuned(experiment, [case]), *_budgets(made)):
        print(line, file=sys.stderr)
    if start_over:
        for path in set_aside(made):
            print(f"set aside: {path}", file=sys.stderr)
    raise typer.Exit(run_here(made, shared, processes))


# --------------------------------------------------------------------------------------------------------- this machine


def bench_grid(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The grid's YAML file.")],
    output: Annotated[
        Path, typer.Option(metavar="RECORD", help="The JSON file that pretrain.budget.measured_on names.")
    ],
    rounds: Annotated[int, typer.Option(min=LEAST_ROUNDS, help="Of all pretrainings, by turns.")] = LEAST_ROUNDS,
    steps: Annotated[int, typer.Option(min=1, help="Timed steps of each pretraining in a round.")] = 10,
) -> None:
    """Time the steps of a grid's pretrainings, by turns, for budgets in hours, and count their memory. The machine has
    to be idle."""
    from ablations.grid.file import grid_path, read_grid
    from ablations.plan.steps import to_measure, told_apart
    from mixmae.cost.step_records import idle_load, write_step_record
    from mixmae.fields.texts import bytes_of

    load = idle_load()
    grid = read_grid(grid_path(file))
    shared = grid.spec.resources.of_jobs()
    jobs = to_measure(grid.cases, context.obj)
    os.environ["OMP_NUM_THREADS"] = str(shared.threads)
    from mixmae.training.pretrain.timing import measured_steps

    found = measured_steps(jobs, shared, rounds, steps, lambda line: print(line, file=sys.stderr, flush=True))
    write_step_record(output, {**found, "load": load})
    for what, step in zip(told_apart(jobs), found["steps"], strict=True):
        spread = f"{min(step['rounds']):.4g} to {max(step['rounds']):.4g} over {rounds} rounds"
        print(f"{what}: {step['seconds']:.4g} s a step, {spread}; {bytes_of(step['peak_memory'])} of memory")


def doctor(
    context: typer.Context,
    site: Annotated[str | None, typer.Option(help="Check the cluster, and this site profile against it.")] = None,
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="A folder of images to look at, too.")] = None,
    submit: Annotated[bool, typer.Option("--submit", help="Run a small job, to see the root and a GPU there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check this machine, the root and the cluster for what grids need, and say what to do. Exits with 1 on a fail."""
    from ablations.doctor.examine import examine

    findings = []
    for finding in examine(context.obj, site, data, submit):
        findings.append(finding)
        if not as_json:
            print(finding.line(), flush=True)
    if as_json:
        print_json(findings=[finding.document() for finding in findings])
    raise typer.Exit(int(any(finding.level == "fail" for finding in findings)))


# ------------------------------------------------------------------------------------------------------------- shared


def planned(file: Path, root: Path, scale: str | None = None) -> tuple["Grid", "Plan"]:
    """The grid in `file` and its plan under the root."""
    from ablations.grid.file import grid_path, read_grid
    from ablations.plan.plan import plan

    grid = read_grid(grid_path(file), scale)
    return grid, plan(grid.name, grid.cases, root)


def planned_together(files: list[Path], root: Path, scale: str | None = None) -> tuple[list["Grid"], "Plan"]:
    """The grids in `files`, and one plan of all: a job that several of them name is in it once."""
    from ablations.grid.file import grid_path, read_grid
    from ablations.plan.plan import plan

    grids = [read_grid(grid_path(file), scale) for file in files]
    return grids, plan("+".join(grid.name for grid in grids), [case for grid in grids for case in grid.cases], root)


def _apart(grids: "list[Grid]", together: "Plan") -> "list[tuple[Grid, Plan]]":
    """Each grid with its own plan; `together` is the plan of all."""
    from ablations.plan.plan import plan

    if len(grids) == 1:
        return [(grids[0], together)]
    return [(grid, plan(grid.name, grid.cases, together.root)) for grid in grids]


def _check_shown(apart: "list[tuple[Grid, Plan]]") -> list[str]:
    """What to know of the grids' tables and plots: the columns that they gain, and what stays empty. Raises ConfigError
    where a grid names what could never be shown of it: better now than when all has run. apart: grids, each with its
    plan."""
    from ablations.plan.declaring import declare
    from mixmae.presentation.checks import additions, mistakes, unmeasured

    notes: list[str] = []
    for grid, own in apart:
        if grid.spec.tables or grid.spec.plots or grid.spec.expected:
            declaration = declare(grid, own)
            wrong = [mark_of(grid.document, path).complaint(what, path) for path, what in mistakes(declaration)]
            if wrong:
                raise ConfigError(wrong)
            notes += [*additions(declaration), *unmeasured(declaration)]
    return notes


def _untuned(files: list[Path], grids: "list[Grid]", scale: str | None) -> list[str]:
    """What methods of the grids take from recipes that were made for others."""
    from ablations.grid.file import grid_path
    from ablations.plan.inherited import untuned

    lines: dict[str, None] = {}
    for file, grid in zip(files, grids, strict=True):
        lines |= dict.fromkeys(untuned(grid_path(file), grid.cases, scale))
    return list(lines)


def _budgets(plan: "Plan") -> list[str]:
    from ablations.plan.budgets import lines

    return lines(arm for entry in plan.entries for arm in entry.arms)


def _computed_by_others(plan: "Plan") -> list[str]:
    from ablations.plan.queueing import computed_by_others

    return computed_by_others(plan.root, [entry.planned for entry in plan.entries])


def command_line(file: Path, scale: str | None) -> str:
    """The arguments by which a command names the grid."""
    return f"{file} --scale {scale}" if scale else f"{file}"


def _alone(grids: "list[Grid]", what: str) -> "Grid":
    """The one grid. Raises ValueError where there are several, which `what` cannot take."""
    if len(grids) > 1:
        raise ValueError(f"{what} is for one grid file at a time; name one")
    return grids[0]


def _write(text: bytes) -> None:
    sys.stdout.buffer.write(text)
    sys.stdout.buffer.flush()
