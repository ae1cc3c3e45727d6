"""The `mixmae` command: parses, calls, prints. Imports no torch until a command needs it."""

import os
import sys
import traceback
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

import mixmae
from cli_grid import grid_app, planned, show
from cli_results import results_app
from cli_runs import runs_app
from cli_weights import AsJson, print_json, weights_app
from mixmae.fields.documents import ConfigError
from mixmae.files.records import NewerSchema
from mixmae.runs.folder import default_root
from mixmae.runs.lease import Held

BAD_INPUT, FAILED = 2, 1
GLOBAL_OPTIONS = {"--root": ("DIR",), "--debug": ()}
"""With what follows them."""

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Benchmark and ablation suite for masked image modelling on hierarchical vision transformers.",
)
data_app = typer.Typer(no_args_is_help=True, help="Look at data sets.")
bench_app = typer.Typer(no_args_is_help=True, help="Measure what a training step costs, and collecting.")
app.add_typer(grid_app, name="grid")
app.add_typer(runs_app, name="runs")
app.add_typer(results_app, name="results")
app.add_typer(data_app, name="data")
app.add_typer(bench_app, name="bench")
app.add_typer(weights_app, name="weights")


root = Path()
"""Where the runs lie: set by the global options before any command."""


def _print_version(asked: bool) -> None:
    if asked:
        print(f"mixmae {mixmae.__version__}")
        raise typer.Exit


@app.callback()
def _global_options(
    context: typer.Context,
    root_: Annotated[
        Path | None, typer.Option("--root", help="Where the runs lie; default: MIXMAE_ROOT, else runs/.")
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True)] = False,
) -> None:
    global root
    context.obj = root = (root_ or default_root()).resolve()


# --------------------------------------------------------------------------------------------------------------- runs


@app.command()
def demo(slots: Annotated[int, typer.Option(min=1, help="Jobs at once.")] = 2) -> None:
    """Run a small grid on real images and write its report, ROOT/demo-report/index.html."""
    from ablations.local.launching import launch

    with resources.as_file(resources.files("ablations") / "demo.yaml") as path:
        grid, plan = planned(path, root)
    code = launch(plan, grid.spec.resources.model_copy(update={"slots": slots}))
    if code in (75, 130):
        raise typer.Exit(code)
    _report(grid, plan, plan.root / "demo-report")
    raise typer.Exit(code)


@app.command()
def run(
    experiment: Annotated[Path, typer.Argument(metavar="EXPERIMENT", help="The experiment's YAML file.")],
    threads: Annotated[int, typer.Option(min=1, help="CPU threads a process.")] = 1,
    workers: Annotated[int, typer.Option(min=0, help="Data loading processes a process.")] = 0,
    checkpoint_activations: Annotated[bool, typer.Option(help="Less memory, more time.")] = False,
    compile_blocks: Annotated[bool, typer.Option(help="torch.compile the transformer blocks.")] = False,
    save_minutes: Annotated[float, typer.Option(min=0.01, help="Save so often within an epoch too.")] = 10.0,
    save_steps: Annotated[int | None, typer.Option(min=1, help="And every so many steps.")] = None,
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
    from ablations.plan.plan import plan
    from mixmae.experiment.reading import read_experiment
    from mixmae.tracking.asked import check_installed, known
    from mixmae.training.resources import Resources
    from mixmae.work.places import place

    tracked = known(tuple(track or ()))
    check_installed(tracked)
    how = {"checkpoint_activations": checkpoint_activations, "compile_blocks": compile_blocks}
    saving = {"save_minutes": save_minutes, "save_steps": save_steps}
    shared = Resources(threads=threads, workers=workers, track=tracked, **how, **saving)
    parsed, document = read_experiment(experiment)
    processes = None
    if found := place():
        # Else torch warns of what `Processes.synchronised` does on purpose.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
        from mixmae.training.processes import join

        processes = join(found)
        if found.rank:
            raise typer.Exit(follow_here(shared, processes))
    planned = plan(experiment.stem, [Case(experiment.stem, parsed, document)], root)
    if start_over:
        for path in set_aside(planned):
            print(f"set aside: {path}", file=sys.stderr)
    raise typer.Exit(run_here(planned, shared, processes))


# --------------------------------------------------------------------------------------------------- what there is


@app.command()
def encoders(as_json: AsJson = False) -> None:
    """List the encoder variants with their parameters and multiply-adds."""
    from mixmae.cost.encoders import rows

    if as_json:
        print_json(encoders=rows())
        return
    table = Table("variant", "family", "parameters, M", "image, px", "multiply-adds, G")
    for row in rows():
        costs = (f"{row['params'] / 1e6:.2f}", str(row["image_size"]), f"{row['macs'] / 1e9:.2f}")
        table.add_row(row["name"], row["family"], *costs)
    show(table)


@app.command()
def recipes(as_json: AsJson = False) -> None:
    """List the recipes that a file can name as its base."""
    from mixmae.experiment.recipes import header, names

    found = [header(name) for name in names()]
    if as_json:
        print_json(recipes=found)
        return
    table = Table("recipe", "about", "accuracy")
    for recipe in found:
        table.add_row(recipe["name"], recipe["title"], recipe["accuracy"])
    show(table)


@data_app.command("check")
def data_check(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of images: DIR/train/CLASS/… and DIR/val/….")],
    as_json: AsJson = False,
) -> None:
    """Read every image of a folder and say what is there and what cannot be read."""
    from mixmae.data.image_folder.check import check, lines
    from mixmae.data.sources import folder_of_images

    found = check(folder_of_images(folder))
    if as_json:
        print_json(**found)
    else:
        print(*lines(found), sep="\n")
    raise typer.Exit(0 if found["trainable"] else FAILED)


@app.command()
def doctor(
    site: Annotated[str | None, typer.Option(help="Check the cluster, and this site profile against it.")] = None,
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="A folder of images to look at, too.")] = None,
    submit: Annotated[bool, typer.Option("--submit", help="Run a small job, to see the root and a GPU there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check this machine, the root and the cluster for what grids need, and say what to do. Exits with 1 on a fail."""
    from ablations.doctor.examine import examine

    found = []
    for finding in examine(root, site, data, submit):
        found.append(finding)
        if not as_json:
            print(finding.line(), flush=True)
    if as_json:
        print_json(findings=[finding.document() for finding in found])
    raise typer.Exit(FAILED if any(finding.level == "fail" for finding in found) else 0)


@bench_app.command("step")
def bench_step(
    method: Annotated[str, typer.Argument(metavar="METHOD", help="mixmae, simmim, mae or supervised.")],
    encoder: Annotated[str, typer.Argument(metavar="ENCODER", help="A variant; see mixmae encoders.")],
    image_size: Annotated[int, typer.Option(min=1, help="Side in pixels.")] = 224,
    batch: Annotated[int, typer.Option(min=1, help="Images a step.")] = 4,
    ratio: Annotated[float | None, typer.Option(help="Mask ratio; default: the method's.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Timed steps.")] = 5,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    compare: Annotated[str | None, typer.Option(help="dense: against the plain encoder.")] = None,
    record: Annotated[bool, typer.Option("--record", help="Keep it in ROOT/bench, for mixmae grid plan.")] = False,
) -> None:
    """Measure images/s, multiply-adds and peak memory of one training step; prints JSON."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    from mixmae.cost.measured import keep
    from mixmae.cost.step import step

    result = step(method, encoder, image_size, batch, ratio, repeats, threads, compare)
    if record:
        print(f"kept: {keep(root, result)}", file=sys.stderr)
    print_json(**result)


@bench_app.command("collect")
def bench_collect(
    runs: Annotated[int, typer.Option(min=1, help="Run folders.")] = 10_000,
    epochs: Annotated[int, typer.Option(min=1, help="Lines of each run's metrics.")] = 300,
) -> None:
    """Measure seconds and peak memory of collecting made-up runs, at first and again; prints JSON."""
    from results.bench import collecting

    print_json(**collecting(runs, epochs))


# ------------------------------------------------------------------------------------------------------------- shared


def _report(grid, plan, folder: Path) -> None:
    from ablations.plan.declaring import declare
    from results.report import write_report
    from results.rows.collect import collect

    declaration = declare(grid, plan, ("mixmae demo",))
    write_report(collect(plan.root), [declaration], folder)
    for table in grid.spec.tables:
        print((folder / "tables" / f"{table.name}.md").read_text(encoding="utf-8"))
    print(f"The report is {folder / 'index.html'}: open it in a browser")


def main() -> None:
    """Runs the command line and turns errors into a message and an exit code: 2 bad input, 1 a failure."""
    try:
        app()
    except SystemExit as ended:
        _hint(ended.__context__)
        raise
    except (ConfigError, NewerSchema, FileNotFoundError, ValueError) as error:
        _leave(error, BAD_INPUT)
    except (Held, RuntimeError, OSError) as error:
        _leave(error, FAILED)
    except Exception as error:
        _leave(error, FAILED, f"a fault of this program ({type(error).__name__}), --debug shows where: ")


def _hint(error: BaseException | None) -> None:
    """Where an option of all commands stands after the command, which the parser refuses as unknown (`error`, which it
    has printed): says where it belongs."""
    option = getattr(error, "option_name", None)
    if type(error).__name__ == "NoSuchOption" and option in GLOBAL_OPTIONS:
        command = error.ctx.command_path.partition(" ")[2]
        given = " ".join(["mixmae", option, *GLOBAL_OPTIONS[option], command])
        print(f"{option} goes before the command: {given} …", file=sys.stderr)


def _leave(error: Exception, code: int, before: str = "") -> None:
    if "--debug" in sys.argv:
        traceback.print_exc()
    else:
        print(f"{before}{error}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
