"""The `mixmae grid` commands. Imports no torch."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from cli_weights import AsJson, print_json
from mixmae.fields.documents import ConfigError, mark_of

GridPath = Annotated[
    Path, typer.Argument(metavar="FILE", help="The grid's YAML file, or one that comes with mixmae, as paper/methods.")
]
GridPaths = Annotated[
    list[Path],
    typer.Argument(metavar="FILE", help="Grid files, or grids that come with mixmae, as paper/methods; run as one."),
]
AtScale = Annotated[str | None, typer.Option("--scale", help="Shrink every experiment; laptop: to what runs on a CPU.")]
Executor = Annotated[
    Literal["local", "slurm"] | None, typer.Option(help="Where it would run; default: what the file says, else local.")
]
Slots = Annotated[int | None, typer.Option(min=1, help="Jobs at once; default: what the file says.")]
Every = Annotated[float, typer.Option(min=1, help="Seconds between two looks.")]
RunId = Annotated[str, typer.Argument(metavar="ID", help="The beginning of a run's id.")]
OfStage = Annotated[str | None, typer.Option("--stage", help="Only this stage, such as finetune.")]
OfMethod = Annotated[str | None, typer.Option("--method", help="Only this method.")]
OfEncoder = Annotated[str | None, typer.Option("--encoder", help="Only encoders that match, such as 'swin_*'.")]
OfSeed = Annotated[int | None, typer.Option("--seed", help="Only this seed.")]

ROWS = 200
"""Of a table of states."""

grid_app = typer.Typer(no_args_is_help=True, help="Plan, run and follow the experiments of a grid file.")


@grid_app.command("list")
def grid_list(as_json: AsJson = False) -> None:
    """List the grids that come with mixmae, for use in place of a FILE."""
    from ablations.grid.file import shipped
    from mixmae.experiment.recipes import header_of

    found = [{"name": name, **header_of(path.read_text("utf-8"))} for name, path in shipped().items()]
    if as_json:
        print_json(grids=found)
        return
    table = Table("grid", "about", "cost at full scale")
    for grid in found:
        table.add_row(grid["name"], grid["title"], grid.get("cost", "").partition(" in float16")[0])
    show(table)


@grid_app.command("plan")
def grid_plan(
    context: typer.Context, files: GridPaths, scale: AtScale = None, executor: Executor = None, as_json: AsJson = False
) -> None:
    """Show what the grid would run and what is done already; for slurm also what it asks for and costs there."""
    from ablations.control.steering import as_text, plan_document
    from ablations.plan.plan import states
    from ablations.plan.showing import plan_summary, plan_table

    grids, plan = planned_together(files, context.obj, scale)
    gained = _check_shown(_each(grids, plan))
    found = states(plan.entries)
    quoted, grid = None, grids[0]
    if (executor or grid.spec.resources.executor) == "slurm":
        from ablations.cost.prices import quote, quote_document, quote_lines, quote_table

        quoted = quote(_alone(grids, "--executor slurm"), plan, found)
    if as_json:
        print(as_text({**plan_document(plan, found), **(quote_document(quoted) if quoted else {})}))
        return
    show(plan_table(plan, found))
    print(*plan_summary(plan, found), *gained, sep="\n")
    if quoted:
        show(quote_table(quoted))
        print(*quote_lines(quoted), sep="\n")


@grid_app.command("run")
def grid_run(
    context: typer.Context, files: GridPaths, scale: AtScale = None, slots: Slots = None, executor: Executor = None
) -> None:
    """Run what of the grids is not done: here, several jobs at once, or submitted to Slurm, which returns at once.

    Ctrl-C lets jobs that run here save and stop. Several grids share pretrainings and processes.
    """
    from ablations.local.launching import launch
    from ablations.plan.showing import submitted

    grids, plan = planned_together(files, context.obj, scale)
    apart = _each(grids, plan)
    _check_shown(apart)
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
    scale: AtScale = None,
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
    found = seen(plan)
    if as_json:
        print(as_text(status_document(plan, found)))
        return
    shown = most_telling(plan.entries, found, ROWS)
    show(status_table(shown, found))
    if len(shown) < len(plan.entries):
        print(f"{len(plan.entries) - len(shown)} more jobs are not shown; --json lists all")
    print(plan_summary(plan, found)[0])


@grid_app.command("watch")
def grid_watch(context: typer.Context, file: GridPath, scale: AtScale = None, every: Every = 60.0) -> None:
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
    scale: AtScale = None,
    stage: OfStage = None,
    method: OfMethod = None,
    encoder: OfEncoder = None,
    seed: OfSeed = None,
) -> None:
    """Cancel what is not done, or what of it the options name; running jobs save and stop.

    Grids that were run together are cancelled together.
    """
    from ablations.control.steering import Chosen, cancel_grid
    from mixmae.fields.texts import many

    _, plan = planned_together(files, context.obj, scale)
    found = cancel_grid(plan, Chosen(stage, method, encoder, seed))
    out = f", {many(found.tasks, 'task')} taken out of Slurm's queue" if found.tasks else ""
    still = f", {found.still} of them still running" if found.still else ""
    print(f"{many(found.runs, 'job')} cancelled{out}{still}")


@grid_app.command("retry")
def grid_retry(
    context: typer.Context,
    file: GridPath,
    scale: AtScale = None,
    failed: Annotated[bool, typer.Option("--failed", help="What it does anyway: only failed runs.")] = False,
    stage: OfStage = None,
    method: OfMethod = None,
    encoder: OfEncoder = None,
    seed: OfSeed = None,
) -> None:
    """Queue the failed runs again, or those of them that the options name."""
    from ablations.control.steering import Chosen, retry_failed
    from mixmae.fields.texts import many

    _, plan = planned(file, context.obj, scale)
    failed, cancelled = retry_failed(plan, Chosen(stage, method, encoder, seed))
    also = f", {many(cancelled, 'cancelled run')} would start anyway" if cancelled else ""
    start = f"; start them with: mixmae grid run {command_line(file, scale)}" if failed or cancelled else ""
    print(f"{many(failed, 'failed run')} queued{also}{start}")


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

    found = find_run(context.obj, run_id)
    if follow:
        try:
            follow_log(found, _write)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        return
    log = found.path / "log.txt"
    if not log.exists():
        raise ConfigError([f"{found.stage}/{found.id} has written no log yet; mixmae grid why {found.id[:8]} says why"])
    _write(log.read_bytes())


@grid_app.command("why")
def grid_why(context: typer.Context, run_id: RunId, as_json: AsJson = False) -> None:
    """Say what became of a run: its error, its Slurm task, what it waits for, and what to do next."""
    from ablations.control.explaining import explain, lines
    from ablations.control.steering import as_text
    from mixmae.runs.find import find_run

    document = explain(context.obj, find_run(context.obj, run_id))
    print(*([as_text(document)] if as_json else lines(document)), sep="\n")


# ------------------------------------------------------------------------------------------------------------- shared


def planned(file: Path, root: Path, scale: str | None = None):
    """The grid in `file` and its plan under the root."""
    from ablations.grid.file import grid_path, read_grid
    from ablations.plan.plan import plan

    grid = read_grid(grid_path(file), scale)
    return grid, plan(grid.name, grid.cases, root)


def planned_together(files: list[Path], root: Path, scale: str | None = None):
    """The grids in `files`, and one plan of all: a job that several of them name is in it once."""
    from ablations.grid.file import grid_path, read_grid
    from ablations.plan.plan import plan

    grids = [read_grid(grid_path(file), scale) for file in files]
    return grids, plan("+".join(grid.name for grid in grids), [case for grid in grids for case in grid.cases], root)


def _each(grids: list, together) -> list[tuple]:
    """Each grid with its own plan; `together` is the plan of all."""
    from ablations.plan.plan import plan

    if len(grids) == 1:
        return [(grids[0], together)]
    return [(grid, plan(grid.name, grid.cases, together.root)) for grid in grids]


def _check_shown(apart: list[tuple]) -> list[str]:
    """Which columns the grids' tables gain. Raises ConfigError where a grid names what could never be shown of it:
    better now than when all has run. apart: grids, each with its plan."""
    from ablations.plan.declaring import declare
    from mixmae.presentation.checks import additions, mistakes

    gained: list[str] = []
    for grid, own in apart:
        if grid.spec.tables or grid.spec.plots or grid.spec.expected:
            declaration = declare(grid, own)
            wrong = [mark_of(grid.document, path).complaint(what, path) for path, what in mistakes(declaration)]
            if wrong:
                raise ConfigError(wrong)
            gained += additions(declaration)
    return gained


def command_line(file: Path, scale: str | None) -> str:
    """How a command names the grid."""
    return f"{file} --scale {scale}" if scale else f"{file}"


def _alone(grids: list, what: str):
    if len(grids) > 1:
        raise ValueError(f"{what} is for one grid file at a time; name one")
    return grids[0]


def _write(text: bytes) -> None:
    sys.stdout.buffer.write(text)
    sys.stdout.buffer.flush()


def show(table: Table) -> None:
    console = Console()
    console.width = console.width if console.is_terminal else 200
    console.print(table)
