"""The commands of the command line that look into a model or a run: transplant, verify, doctor, decode."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import UsageError
from ..paths import expanded
from .hub import Token

commands = typer.Typer()


def _make(folder: Path) -> None:
    """Before the work, whose result would have no place otherwise."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError(f"--out: {error.filename or folder} is a file; choose another folder") from error


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
        _make(out)
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


@commands.command()
def verify(
    model: Annotated[str, typer.Argument(help="NAME/MODEL on the Hub, or the folder of a bundle.")],
    n: Annotated[int, typer.Option("-n", help="Questions to ask again.")] = 300,
    full: Annotated[bool, typer.Option("--full", help="Ask all of them.")] = False,
    seed: Annotated[
        int | None, typer.Option(help="Of the draw of questions; default: unforeseeable.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="The questions, where the author's are in a file.")] = None,
    base: Annotated[str | None, typer.Option(help="The model before training, where it was local.")] = None,
    paired: Annotated[str | None, typer.Option(help="The paired run's model.")] = None,
    revision: Annotated[str | None, typer.Option(help="Of the repository.")] = None,
    max_gb: Annotated[float, typer.Option(help="Of one repository that is fetched.")] = 40.0,
    batch_size: Annotated[int | None, typer.Option()] = None,
    out: Annotated[Path, typer.Option(help="File to write.")] = Path("verification.json"),
    report: Annotated[bool, typer.Option("--report", help="Open a discussion with the result.")] = False,
    create_pr: Annotated[bool, typer.Option("--create-pr", help="Report as a pull request.")] = False,
    token: Token = None,
) -> None:
    """Is this card true? Judge the model again; exit code 1 where something is contradicted.

    Example: `erpo-hub verify runs/demo/erpo/bundle`, or `erpo-hub verify someone/their-model --full --report`
    """
    from ..run.quiet import quiet
    from ..verification.report import report as tell
    from ..verification.verify import verify as run

    if out.is_dir():
        raise UsageError(f"--out {out}: a folder stands there; give the file to write")
    if (report or create_pr) and expanded(model).is_dir():
        raise UsageError("--report: a folder has no repository to tell; give NAME/MODEL")
    quiet()
    _make(out.parent)
    found = run(
        model, n=n, full=full, seed=seed, task=task, base=base, paired=paired, revision=revision, token=token,
        max_gb=max_gb, batch_size=batch_size,
    )  # fmt: skip
    typer.echo(found.table())
    typer.echo(f"wrote {found.to_json(out)}")
    if report or create_pr:
        typer.echo(f"reported: {tell(found, model, pull_request=create_pr, token=token)}")
    if found.contradicted:
        raise typer.Exit(1)


@commands.command()
def doctor(
    run: Annotated[
        Path, typer.Argument(help="Folder of a run or bundle, or of any trainer's checkpoints; or its file.")
    ],
) -> None:
    """Is this run healthy? What the run doctor found while it trained, or would have found in its log.

    Example: `erpo-hub doctor runs/demo/erpo`, or `erpo-hub doctor trl-run/checkpoint-500`
    """
    from ..record.format import FILE, read_record
    from ..record.trainer_state import STATE, read_state
    from ..train.history import Facts
    from ..train.replay import replay
    from ..verification.claims import shown

    found: list[Any] | None = None
    if run.name != STATE and (run.is_file() or (run / FILE).is_file()):
        record = read_record(run)
        log, found = record.history, record.findings
        limit = record.arguments.all.get("max_completion_length")
        facts = Facts(
            max_steps=record.cost.steps or len(log),
            lora=record.adapter is not None,
            half=record.prompt.dtype in ("bfloat16", "float16"),
            completion_limit=limit if type(limit) is int else None,  # anything may stand there
        )
    else:
        log, facts = read_state(run)
    watched = "while it trained" if found is not None else "in its log: no doctor was on"
    found = replay(log, facts) if found is None else found
    for one in found:
        since = f"since step {one.step}" if one.step else "from the start"
        # A run.json may be a stranger's; of our own findings none is cut off by this limit.
        kind, certainty, what, change = (
            shown(words, 600) for words in (one.kind, one.certainty, one.what, one.change)
        )
        typer.echo(f"{what} ({kind}, {since}, {certainty}): {change}")
    typer.echo(f"{len(found) or 'nothing'} found over {len(log):,} logged steps, {watched}")


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

    from ..publish.bundle import add_figure, check_place
    from ..record.format import Figure, load_record
    from ..run.quiet import quiet
    from ..study.decode import DEFAULT, compare_decoding

    quiet()
    if card:
        load_record(Path(model))  # no bundle should not cost a study
        check_place(Path(model), "figures/decode.png")
    if out:
        _make(out)
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
        alt = "Accuracy and coverage against tokens a question, and accuracy of the answered questions."
        add_figure(Path(model), Figure("decode", "figures/decode.png", alt, found.caption()), found.figure)
        typer.echo(f"put it on the card of {model}")
