"""The commands `mixmae encoders` and `mixmae bench`. Imports no torch until a command needs it."""

import os
import sys
from typing import Annotated

import typer
from rich.table import Table

from mixmae.fields.console import AsJson, print_json, show

bench_app = typer.Typer(no_args_is_help=True, help="Measure what a training step costs.")


@bench_app.callback()
def _bench() -> None:
    """A group, to which the grids' rooms add a command."""


@bench_app.command("step")
def bench_step(
    context: typer.Context,
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
    from mixmae.cost.step import Benchmark, step

    result = step(Benchmark(method, encoder, image_size, batch, ratio, repeats, threads, compare))
    if record:
        print(f"kept: {keep(context.obj, result)}", file=sys.stderr)
    print_json(**result)


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
