"""The `mixmae` command: parses, calls, prints. Imports no torch until a command needs it."""

import sys
import traceback
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import mixmae
from ablations.commands import bench_grid, doctor, grid_app, planned, run_experiment, runs_app
from mixmae.cost.commands import bench_app, encoders
from mixmae.data.commands import data_app
from mixmae.evaluations.commands import evaluate_weights
from mixmae.experiment.commands import recipes
from mixmae.fields.documents import ConfigError
from mixmae.files.records import NewerSchema
from mixmae.runs.folder import default_root
from mixmae.runs.lease import Held
from mixmae.weights.commands import weights_app
from results.commands import results_app

if TYPE_CHECKING:
    from ablations.grid.file import Grid
    from ablations.plan.plan import Plan

BAD_INPUT, FAILED = 2, 1
GLOBAL_OPTIONS = {"--root": ("DIR",), "--debug": ()}
"""The options of all commands, with what follows each in a hint."""

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Benchmark and ablation suite for masked image modelling on hierarchical vision transformers.",
)
app.add_typer(grid_app, name="grid")
app.add_typer(runs_app, name="runs")
app.add_typer(results_app, name="results")
app.add_typer(data_app, name="data")
app.add_typer(bench_app, name="bench")
app.add_typer(weights_app, name="weights")


def _print_version(wanted: bool) -> None:
    if wanted:
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
    context.obj = (root_ or default_root()).resolve()


@app.command()
def demo(context: typer.Context, slots: Annotated[int, typer.Option(min=1, help="Jobs at once.")] = 2) -> None:
    """Run a small grid on real images and write its report, ROOT/demo-report/index.html."""
    from ablations.local.launching import launch

    with resources.as_file(resources.files("ablations") / "demo.yaml") as path:
        grid, plan = planned(path, context.obj)
    code = launch(plan, grid.spec.resources.model_copy(update={"slots": slots}))
    if code in (75, 130):
        raise typer.Exit(code)
    _report(grid, plan, plan.root / "demo-report")
    raise typer.Exit(code)


app.command("run")(run_experiment)
app.command("encoders")(encoders)
app.command("recipes")(recipes)
app.command("doctor")(doctor)
weights_app.command("evaluate")(evaluate_weights)
bench_app.command("grid")(bench_grid)


def _report(grid: "Grid", plan: "Plan", folder: Path) -> None:
    from ablations.plan.declaring import declare
    from results.report.writing import write_report
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


def _hint(error: Any) -> None:
    """Says where an option of all commands belongs, where it stands after the command: the parser then refuses it as
    unknown by `error`, which it has printed."""
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
