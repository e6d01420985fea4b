"""The command line, one thin function a subcommand. Work and its imports happen elsewhere."""

from __future__ import annotations

import io
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import UsageError, UserError
from ..methods.catalog import METHODS
from ..text import percent, printable
from ..traces.pivots import MIN_ENTROPY, QUANTILE
from .environment import commands as environment
from .hub import FREE, Private, Token, commands
from .insight import commands as insight
from .judge import commands as judge

_KEPT = "\n\t\u00a0"  # signs in what is printed of an error
_METHODS = "; ".join(f"{name}: {row.summary}" for name, row in METHODS.items())
app = typer.Typer(
    name="erpo-hub",
    help="Train with ERPO, see where the model decides, publish the proof.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


@app.callback()
def _common(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    if debug:
        os.environ["ERPO_HUB_DEBUG"] = "1"


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder of the two runs.")] = Path("runs/demo"),
    quick: Annotated[bool, typer.Option("--quick", help="A fifth of the steps.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of both runs.")] = 0,
) -> None:
    """Train GRPO and ERPO offline on the embedded model, and compare them.

    Example: `erpo-hub demo --quick`
    """
    from .demo import run_demo

    run_demo(out, quick=quick, seed=seed)


@app.command(context_settings=FREE)
def train(
    context: typer.Context,
    model: Annotated[str | None, typer.Argument(help="Hub id, folder, or builtin:tiny-reasoner.")] = None,
    dataset: Annotated[str | None, typer.Argument(help="Task, such as reasoning-gym:chain_sum.")] = None,
    algorithm: Annotated[str | None, typer.Option(help=f"Default erpo. {_METHODS}.")] = None,
    output_dir: Annotated[Path | None, typer.Option(help="The run's folder.")] = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML file of ERPOConfig fields; MODEL and DATASET may stand in it.")
    ] = None,
    push_to: Annotated[str | None, typer.Option(help="Repository to publish to, NAME/MODEL.")] = None,
    private: Private = None,
    token: Token = None,
    eval_dataset: Annotated[str | None, typer.Option(help="Another task to judge on.")] = None,
    eval_questions: Annotated[int | None, typer.Option(help="Held-out questions to judge on.")] = None,
    lora_r: Annotated[int | None, typer.Option(help="Train a LoRA adapter of this rank.")] = None,
    paired_run: Annotated[Path | None, typer.Option(help="Run to compare with, usually GRPO's.")] = None,
    plain: Annotated[bool, typer.Option("--plain", help="No chat template around text prompts.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")] = False,
    doctor: Annotated[
        bool, typer.Option("--doctor/--no-doctor", help="Say what is wrong with the run.")
    ] = True,
    flags: Annotated[bool, typer.Option("--flags", help="List every ERPOConfig flag and exit.")] = False,
    dry: Annotated[bool, typer.Option("--dry-run", help="One step on a tiny random model, offline.")] = False,
) -> None:
    """Train a model and, with --push-to, publish it. Takes every field of ERPOConfig as a flag.

    Example: `erpo-hub train Qwen/Qwen2.5-0.5B-Instruct openai/gsm8k --max-steps 500 --learning-rate 1e-6
    --push-to me/qwen-erpo`
    """
    from .flags import flags_help, parse_flags

    if flags:
        typer.echo(flags_help())
        return
    from ..run.dry_run import RECIPE_KEYS, check_processes, dry_run, read_launch, take_recipe

    names, arguments = _names_and_flags([model, dataset, *context.args])
    fields = parse_flags(arguments, config, own=RECIPE_KEYS)
    fields.pop("output_dir", None)
    recipe = take_recipe(fields, config)
    model = names[0] if names else recipe["model"]
    dataset = names[1] if len(names) > 1 else recipe["dataset"]
    if model is None or dataset is None:
        raise UsageError("give a model and a dataset: erpo-hub train MODEL DATASET")
    algorithm = algorithm or recipe["algorithm"] or "erpo"
    eval_dataset = eval_dataset or recipe["eval_dataset"]
    eval_questions = recipe["eval_questions"] if eval_questions is None else eval_questions
    peft_config = _lora(recipe["lora_r"] if lora_r is None else lora_r)
    plain = plain or bool(recipe["plain"])
    launch = read_launch(recipe["accelerate"], config)
    _quiet()
    if dry:
        found = dry_run(
            model,
            dataset,
            algorithm=algorithm,
            overrides=fields,
            peft_config=peft_config,
            eval_dataset=eval_dataset,
            plain=plain,
            launch=launch,
        )
        typer.echo("\n  ".join(["dry run: it works so far", *found]))
        return
    check_processes(launch, config)
    from ..run.conductor import train_and_push

    result = train_and_push(
        model,
        dataset,
        push_to,
        algorithm=algorithm,
        peft_config=peft_config,
        eval_dataset=eval_dataset,
        push=push_to is not None,
        private=private,
        token=token,
        output_dir=output_dir,
        resume=resume,
        paired_run=paired_run,
        evaluation=None if eval_questions is None else {"n": eval_questions},
        plain=plain,
        doctor=doctor,
        **fields,
    )
    if result.metrics.get("final") is None:  # a process beside the first one, which judged the model
        return
    final, low_high = result.metrics["final"], result.metrics["final"]["interval"]
    typer.echo(
        f"accuracy {percent(result.metrics['baseline']['accuracy'])} -> {percent(final['accuracy'])} "
        f"(95 % {percent(low_high[0])} to {percent(low_high[1])}, {final['n']} questions)"
    )
    typer.echo(result.commit_url or f"push it with: erpo-hub push {result.bundle_dir} NAME/MODEL")


def _names_and_flags(given: list[str | None]) -> tuple[list[str], list[str]]:
    """MODEL and DATASET apart from ERPOConfig's flags, which typer takes for them where they are left out."""
    rest = [text for text in given if text is not None]
    names: list[str] = []
    while rest and len(names) < 2 and not rest[0].startswith("--"):
        names.append(rest.pop(0))
    return names, rest


def _lora(rank: int | None) -> Any:
    if rank is None:
        return None
    if rank < 1:
        raise UsageError(f"--lora-r {rank}: give a rank of at least 1")
    from peft import LoraConfig

    return LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")


@app.command()
def trace(
    model: Annotated[str, typer.Argument(help="Hub id, folder, GGUF file, or builtin:tiny-reasoner.")],
    question: Annotated[str, typer.Argument(help="With -n: a task, or a file of prompts and completions.")],
    n: Annotated[int | None, typer.Option("-n", min=1, help="Trace so many, into --parquet.")] = None,
    gold: Annotated[str | None, typer.Option(help="The right answer, to grade against.")] = None,
    max_new_tokens: Annotated[int, typer.Option()] = 256,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.7,
    top_p: Annotated[float, typer.Option()] = 1.0,
    top_k: Annotated[int | None, typer.Option()] = None,
    seed: Annotated[int, typer.Option()] = 0,
    completion: Annotated[str | None, typer.Option(help="Score this text, sample nothing.")] = None,
    chat: Annotated[bool | None, typer.Option("--chat/--plain", help="Use the chat template.")] = None,
    adapter: Annotated[str | None, typer.Option(help="PEFT adapter on MODEL as its base.")] = None,
    revision: Annotated[str | None, typer.Option()] = None,
    quantile: Annotated[float, typer.Option(help="Of the pivot rule.")] = QUANTILE,
    min_entropy: Annotated[float, typer.Option(help="Floor of the pivot rule, nats.")] = MIN_ENTROPY,
    sensitivity: Annotated[bool, typer.Option("--sensitivity", help="Measure that too.")] = False,
    audit: Annotated[int, typer.Option(help="Continuations of each choice at the pivots.")] = 0,
    json: Annotated[Path | None, typer.Option(help="Write the trace as JSON.")] = None,
    parquet: Annotated[Path | None, typer.Option(help="Write the trace as Parquet.")] = None,
    png: Annotated[Path | None, typer.Option(help="Draw its entropy curve.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write one self-contained page.")] = None,
) -> None:
    """Solve a question, shade every token by its entropy, mark the decision pivots.

    Example: `erpo-hub trace builtin:tiny-reasoner "3+4*2-1=" --html trace.html`

    Many: `erpo-hub trace builtin:tiny-reasoner "builtin:expressions?operands=4" -n 200`, into traces.parquet
    """
    _quiet()
    from ..tasks.grading import Grader, read_answer
    from ..traces.decoding import Sampling
    from ..traces.engine import Engine
    from ..traces.pivots import PivotRule
    from .trace import Grading, Outputs, Request, run_trace

    request = Request(
        question, completion, chat, sensitivity, audit,
        Sampling(max_new_tokens, temperature, top_p, top_k, seed), PivotRule(quantile, min_entropy),
    )  # fmt: skip
    if n is not None:
        from .trace_many import trace_many

        if gold or completion or audit or json or png or html:
            raise UsageError(
                "-n writes --parquet alone: leave out --gold, --completion, --audit and other files"
            )
        out = parquet or Path("traces.parquet")
        load = partial(Engine.load, model, revision, adapter=adapter)
        trace_many(load, model, question, n, request, out)
        return
    with Grader("math") as grader:
        grade = (lambda text: grader.grade([text], [gold])[0] or 0.0) if gold else None
        run_trace(
            lambda: Engine.load(model, revision, adapter=adapter),
            request,
            grading=Grading(gold, grade, partial(read_answer, gold=gold)),
            outputs=Outputs(json, parquet, png, html),
        )


@app.command("app")
def open_app(
    paths: Annotated[list[str] | None, typer.Argument(help="Runs, models or traces to open.")] = None,
    host: Annotated[str, typer.Option()] = "127.0.0.1",
    port: Annotated[int | None, typer.Option()] = None,
    share: Annotated[bool, typer.Option("--share", help="A public link through Gradio.")] = False,
    browser: Annotated[bool, typer.Option("--browser/--no-browser")] = True,
) -> None:
    """Look inside: tokens and their entropy, forks, GRPO beside ERPO, runs, cards.

    Example: `erpo-hub app runs/demo`
    """
    from .app import run_app

    run_app(paths or [], host=host, port=port, share=share, open_browser=browser)


app.add_typer(judge)
app.add_typer(commands)
app.add_typer(insight)
app.add_typer(environment)


def _quiet() -> None:
    from ..run.quiet import quiet

    quiet()


_stopped_by: list[int] = []  # signals that asked this process to stop


def _stop(number: int, frame: Any) -> None:
    _stopped_by.append(number)
    raise KeyboardInterrupt


def _refuse_empty(arguments: list[str]) -> None:
    """What a shell makes of an unset variable. As a path it would be the current folder."""
    if "" in arguments:
        before = " ".join(["erpo-hub", *arguments[: arguments.index("")]][-2:])
        raise UsageError(f"the argument after `{before}` is empty: give it, or leave it out")


def _print_whatever() -> None:
    """What the terminal's encoding lacks is spelled out: a card must not end in a traceback there."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def main() -> None:
    """Console entry point. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 Ctrl-C, 143 SIGTERM."""
    for number in (signal.SIGINT, signal.SIGTERM):  # a cluster sends the second
        signal.signal(number, _stop)
    _print_whatever()
    try:
        _refuse_empty(sys.argv[1:])
        app()
    except UserError as error:
        if os.environ.get("ERPO_HUB_DEBUG"):
            raise
        if difference := getattr(error, "diff", None):  # a card edited inside a generated block
            print(printable(difference, also=_KEPT), file=sys.stderr)
        print(f"error: {printable(str(error), also=_KEPT)}", file=sys.stderr)  # it may quote a stranger
        sys.exit(128 + _stopped_by[0] if error.exit_code == 130 and _stopped_by else error.exit_code)
    except OSError as error:  # a full disk, a place that cannot be written: whatever the command was doing
        if os.environ.get("ERPO_HUB_DEBUG"):
            raise
        place = f"{error.filename}: " if error.filename else ""
        print(f"error: {place}{error.strerror or error}", file=sys.stderr)
        sys.exit(1)
    except SystemExit as exit_:
        if exit_.code != 130 and not _stopped_by:
            raise
        print("stopped; what was finished is kept", file=sys.stderr)
        sys.exit(128 + (_stopped_by or [signal.SIGINT])[0])
