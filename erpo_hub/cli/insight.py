"""The commands of the command line that look at what training did: transplant."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import UsageError

commands = typer.Typer()


@commands.command()
def transplant(
    base: Annotated[
        str, typer.Argument(help="Model before training: Hub id, folder, builtin:tiny-reasoner.")
    ],
    trained: Annotated[str, typer.Argument(help="Model after training; several runs with commas between.")],
    task: Annotated[str, typer.Argument(help="Task, such as builtin:expressions?operands=4.")],
    n: Annotated[int, typer.Option("-n", help="Held-out questions.")] = 300,
    swaps: Annotated[str, typer.Option(help="Numbers of swapped tokens an answer.")] = "1,2,4,8",
    max_new_tokens: Annotated[int | None, typer.Option(help="Default: as in training, else 256.")] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Answers at once; default what suits the model's size.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the random controls.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for transplant.json and recovery.png.")] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="Bundle of TRAINED, whose card and record get the result.")
    ] = None,
) -> None:
    """Which tokens did training change, and how many of them carry the gain? With controls.

    Example: `erpo-hub transplant builtin:tiny-reasoner runs/demo/erpo/model "builtin:expressions?operands=4"`
    """
    try:
        counts = sorted({int(count) for count in swaps.split(",")})
    except ValueError as error:
        raise UsageError(f"--swaps {swaps}: give numbers with commas between, such as 1,2,4") from error
    from ..publish.addition import add_transplant, check_addition

    if bundle:
        check_addition(bundle, trained)
    from rich.console import Console

    from ..run.quiet import quiet
    from ..study.transplant import transplant as run

    quiet()
    if out:
        out.mkdir(parents=True, exist_ok=True)
    console = Console(stderr=True)
    with console.status("decoding") as status:
        made = 0

        def advance(count: int) -> None:
            nonlocal made
            made += count
            status.update(f"{made:,} answers made or continued")

        found = run(
            base, trained.split(","), task, n=n, swaps=counts, max_new_tokens=max_new_tokens,
            batch_size=batch_size, seed=seed, advance=advance,
        )  # fmt: skip
    typer.echo(found.table())
    typer.echo("\n" + found.sentence())
    if out:
        typer.echo(f"wrote {found.to_json(out / 'transplant.json')} and {found.figure(out / 'recovery.png')}")
    if bundle:
        add_transplant(bundle, found.result(), found.figure)
        typer.echo(f"{bundle}: its card has a section on which tokens training changed")
