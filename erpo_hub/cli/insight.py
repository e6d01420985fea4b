"""The commands of the command line that look into a model: transplant, decode."""

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
    swaps: Annotated[str, typer.Option(help="Numbers of swapped tokens an answer.")] = "1,2,4",
    max_new_tokens: Annotated[int | None, typer.Option(help="Default: as in training, else 256.")] = None,
    batch_size: Annotated[int, typer.Option()] = 128,
    seed: Annotated[int, typer.Option(help="Of the random controls.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for transplant.json and recovery.png.")] = None,
) -> None:
    """Which tokens did training change, and how many of them carry the gain? With controls.

    Example: `erpo-hub transplant builtin:tiny-reasoner runs/demo/erpo/model "builtin:expressions?operands=4"`
    """
    try:
        counts = sorted({int(count) for count in swaps.split(",")})
    except ValueError as error:
        raise UsageError(f"--swaps {swaps}: give numbers with commas between, such as 1,2,4") from error
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


@commands.command()
def decode(
    model: Annotated[str, typer.Argument(help="Hub id, folder, or builtin:tiny-reasoner.")],
    task: Annotated[str, typer.Argument(help="Task, such as builtin:expressions?operands=4.")],
    n: Annotated[int, typer.Option("-n", help="Held-out questions.")] = 300,
    strategies: Annotated[
        str | None,
        typer.Option(help="Of greedy, pivots, random, best-first, beam, votes, with widths: beam:4,votes:8."),
    ] = None,
    target: Annotated[float, typer.Option(help="Accuracy asked of the questions that are answered.")] = 0.9,
    temperature: Annotated[float, typer.Option(help="Of the votes.")] = 0.7,
    certain: Annotated[float, typer.Option(help="Best-first forks below this probability.")] = 0.9,
    stop: Annotated[bool, typer.Option(help="End a search once its answer cannot change.")] = True,
    max_new_tokens: Annotated[int | None, typer.Option(help="Of a branch; default as in training.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Texts read at once.")] = None,
    seed: Annotated[int, typer.Option(help="Of the votes and the random forks.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for decode.json and decode.png.")] = None,
    card: Annotated[
        bool, typer.Option("--card", help="MODEL is a bundle: put the figure on its card.")
    ] = False,
) -> None:
    """What does searching for the answer gain, and when should it be withheld? Beam search is always in it.

    Accuracy, coverage (any branch right) and calibrated abstention, each at its generated tokens a question.

    Example: `erpo-hub decode builtin:tiny-reasoner "builtin:expressions?operands=4" --out runs/decode`
    """
    from rich.console import Console

    from ..publish.bundle import add_figure
    from ..record.format import Figure, load_record
    from ..run.quiet import quiet
    from ..study.decode import DEFAULT, compare_decoding

    quiet()
    if card:
        load_record(Path(model))  # no bundle should not cost a study
    if out:
        out.mkdir(parents=True, exist_ok=True)
    with Console(stderr=True).status("decoding") as status:
        found = compare_decoding(
            model, task, DEFAULT if strategies is None else strategies, n=n, target=target, stop=stop,
            max_new_tokens=max_new_tokens, batch_size=batch_size, seed=seed, temperature=temperature,
            certain=certain, advance=lambda name: status.update(f"decoding: {name}"),
        )  # fmt: skip
    typer.echo(found.table())
    typer.echo(f"\n{found.sentence()}\n{found.advice()}")
    if out:
        typer.echo(f"wrote {found.to_json(out / 'decode.json')} and {found.figure(out / 'decode.png')}")
    if card:
        found.figure(Path(model) / "figures" / "decode.png")
        alt = "Accuracy and coverage against tokens a question, and accuracy of the answered questions."
        add_figure(Path(model), Figure("decode", "figures/decode.png", alt, found.caption()))
        typer.echo(f"put it on the card of {model}")
