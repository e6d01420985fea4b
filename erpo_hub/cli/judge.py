"""The commands of the command line that judge models: evaluate, compare, average."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import UsageError
from ..record.typed import Misfit, check_limits, parse
from ..text import one_line
from .hub import FREE, Token

commands = typer.Typer()


@commands.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="Hub id, folder, or builtin:tiny-reasoner.")],
    dataset: Annotated[str, typer.Argument(help="Task, such as builtin:expressions?operands=4.")],
    n: Annotated[int | None, typer.Option("-n", help="Held-out questions; default all.")] = None,
    k: Annotated[int, typer.Option("-k", help="Completions a question.")] = 1,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    top_p: Annotated[float | None, typer.Option(help="Default: as in training, else 1.")] = None,
    max_new_tokens: Annotated[int | None, typer.Option(help="Default: as in training, else 256.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Completions at once.")] = None,
    seed: Annotated[int, typer.Option()] = 0,
    plain: Annotated[
        bool | None, typer.Option("--plain/--chat", help="Text prompts bare or as chat; default as trained.")
    ] = None,
    chat_template_kwargs: Annotated[
        str | None, typer.Option(help='JSON for the chat template, such as {"enable_thinking": false}.')
    ] = None,
    shaping: Annotated[
        str | None, typer.Option(help="JSON: top_k, min_p, repetition_penalty; default as trained.")
    ] = None,
    dtype: Annotated[str | None, typer.Option(help="Of the weights; default as trained.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for results.json, resumable.")] = None,
    against: Annotated[
        Path | None, typer.Option(help="results.json of another model on the same questions.")
    ] = None,
    robustness: Annotated[
        bool, typer.Option("--robustness", help="Also at T = 0, 0.6, 1, 1.3 and on rewritten questions.")
    ] = False,
) -> None:
    """Judge a model on held-out questions, with intervals.

    Example: `erpo-hub evaluate builtin:tiny-reasoner "builtin:expressions?operands=4" -k 4 --temperature 1`
    """
    from ..run.quiet import quiet

    quiet()
    from rich.console import Console

    from ..evaluation.results import Evaluation
    from ..evaluation.sampling import evaluate as run
    from ..evaluation.sampling import evaluate_robustness
    from ..evaluation.tables import comparison_table, robustness_table
    from ..lock import locked
    from ..text import write_json

    other = Evaluation.from_json(against) if against else None  # a wrong path should not cost an evaluation
    console = Console(highlight=False, soft_wrap=True, markup=False)  # names may hold brackets
    how: dict[str, Any] = {"n": n, "k": k, "top_p": top_p, "max_new_tokens": max_new_tokens}
    how |= {"batch_size": batch_size, "seed": seed, "plain": plain, "dtype": dtype}
    how |= {"chat_template_kwargs": _json_object("--chat-template-kwargs", chat_template_kwargs)}
    how |= {"shaping": _json_object("--shaping", shaping)}
    log = out / "questions.jsonl" if out else None
    with locked(out, "--out") if out else nullcontext():
        result = run(model, dataset, temperature=temperature, resume_path=log, **how)
        console.print(result.table())
        if out:
            result.to_json(out / "results.json")
            write_json(out / "lighteval.json", result.lighteval())
            typer.echo(f"wrote {out / 'results.json'} and, for lighteval's readers, lighteval.json")
        if other:
            console.print(comparison_table(result, other))
        if robustness:
            found = evaluate_robustness(model, dataset, known=result, resume_dir=out, **how)
            console.print(robustness_table(found))
            if out:
                write_json(out / "robustness.json", found)


def _json_object(option: str, text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    told = f"{option} {text if len(text) <= 80 else text[:77] + '...'}"
    try:
        value = parse(text)
        check_limits(value)
    except RecursionError:
        raise UsageError(f"{told}: is not JSON (nested too deeply)") from None
    except (ValueError, Misfit) as error:
        raise UsageError(f"{told}: is not JSON ({one_line(error)})") from error
    if not isinstance(value, dict):
        raise UsageError(f'{told}: give an object such as {{"enable_thinking": false}}')
    return value


@commands.command(context_settings=FREE)
def compare(
    context: typer.Context,
    presets: Annotated[str | None, typer.Option(help="Comma-separated, default grpo,erpo.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Training seeds a method.")] = None,
    model: Annotated[str | None, typer.Option()] = None,
    task: Annotated[str | None, typer.Option()] = None,
    steps: Annotated[int | None, typer.Option(help="Optimizer steps of a cell.")] = None,
    grid: Annotated[Path | None, typer.Option(help="YAML file with any of these settings.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of cells and report.")] = Path("comparison"),
    workers: Annotated[int | None, typer.Option(help="Cells at a time.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A small version, minutes on two cores.")] = False,
    plain: Annotated[bool, typer.Option("--plain", help="No chat template around text prompts.")] = False,
    report: Annotated[bool, typer.Option("--report", help="Train nothing: report what is finished.")] = False,
) -> None:
    """Train methods over seeds at equal completions and write one report. Resumable.

    Example: `erpo-hub compare --presets grpo,erpo,ep-grpo --seeds 8 --out runs/study`
    """
    from .flags import parse_flags

    overrides = parse_flags(context.args)
    from ..study.compare import compare as run

    run(
        presets.split(",") if presets else None,
        seeds,
        model=model,
        task=task,
        steps=steps,
        out_dir=out,
        workers=workers,
        quick=quick,
        grid=grid,
        plain=plain or None,
        train=not report,
        **overrides,
    )
    typer.echo((out / "report.md").read_text(encoding="utf-8"))


@commands.command()
def average(
    base: Annotated[
        str, typer.Argument(help="Model before training: Hub id, folder, builtin:tiny-reasoner.")
    ],
    trained: Annotated[str, typer.Argument(help="Run or bundle, NAME/MODEL, or a folder of weights.")],
    out: Annotated[Path, typer.Option(help="Folder for the model, its record and its bundle.")],
    alpha: Annotated[float, typer.Option(help="Share of the trained model, between 0 and 1.")] = 0.75,
    task: Annotated[str | None, typer.Option(help="The questions, where the author's are in a file.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Completions at once.")] = None,
    token: Token = None,
) -> None:
    """Weights between base and trained model, judged like both, with a card that says so.

    Greedily they were a little better than the trained ones, sampled worse: docs/evidence/averaging.md.

    Example: `erpo-hub average builtin:tiny-reasoner runs/demo/erpo --alpha 0.75 --out runs/averaged`
    """
    from ..card.words import describe, share
    from ..run.averaging import average as run
    from ..run.quiet import quiet

    quiet()
    record = run(base, trained, alpha=alpha, out=out, task=task, token=token, batch_size=batch_size)
    if record is None:
        typer.echo(
            f"wrote {out / 'model'}; {trained} has no record, so nothing was judged: erpo-hub evaluate"
        )
        return
    averaged, final = record.averaged, record.results.final
    assert averaged is not None
    assert final is not None
    typer.echo(f"alpha {alpha:g}: {share(final.accuracy)} of {final.n:,} questions")
    rows = [("trained", averaged.comparison), ("base", record.results.comparison)]
    for name, comparison in rows:
        if comparison is not None:
            typer.echo(f"against the {name} model: {describe(comparison)}")
    typer.echo(f"publish it with: erpo-hub push {out / 'bundle'} NAME/MODEL")
