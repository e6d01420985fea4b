"""The commands of the command line that publish: card, push, space, job."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from ..errors import UsageError, UserError
from ..text import write_text

commands = typer.Typer()
FREE = {"allow_extra_args": True, "ignore_unknown_options": True}

Token = Annotated[str | None, typer.Option(envvar="HF_TOKEN", show_envvar=True, help="Hub access token.")]
Private = Annotated[bool | None, typer.Option("--private/--public", help="For a repository that is made.")]


@commands.command()
def card(
    run: Annotated[Path, typer.Argument(help="Folder of a run or a bundle.")],
    out: Annotated[Path | None, typer.Option(help="File to write; default: print.")] = None,
    section: Annotated[
        list[str] | None,
        typer.Option(help="NAME=FILE.md adds or replaces a section, NAME= removes it. Repeatable."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite edits inside generated blocks.")] = False,
) -> None:
    """Render a run's model card from its run.json. Edits outside the generated blocks are kept.

    Example: `erpo-hub card runs/demo/erpo --section notes=notes.md --out README.md`
    """
    from ..card.card import render_card, update_card

    sections = _sections(section or [])
    if out is None:
        typer.echo(render_card(run, sections=sections))
        return
    try:
        if out.is_file():
            text = update_card(out.read_text(encoding="utf-8"), run, sections=sections, force=force)
        else:
            text = render_card(run, sections=sections)
        write_text(out, text)
    except UnicodeDecodeError as error:
        raise UserError(f"{out} is not UTF-8 text: mend it, or give another --out") from error
    except OSError as error:
        raise UserError(f"can't write {out} ({error.strerror}): give another --out") from error
    typer.echo(f"wrote {out}")


def _sections(given: list[str]) -> dict[str, str | None]:
    sections: dict[str, str | None] = {}
    for item in given:
        name, separator, path = item.partition("=")
        if not separator or not name:
            raise UsageError(f"--section {item}: write NAME=FILE.md, or NAME= to leave it out")
        try:
            sections[name] = Path(path).read_text(encoding="utf-8") if path else None
        except OSError as error:
            raise UsageError(f"--section {item}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise UsageError(f"--section {item}: not UTF-8 text") from error
    return sections


@commands.command()
def push(
    bundle: Annotated[Path, typer.Argument(help="Folder of a bundle.")],
    repo_id: Annotated[str | None, typer.Argument(help="NAME/MODEL.")] = None,
    private: Private = None,
    token: Token = None,
    create_pr: Annotated[bool, typer.Option("--create-pr", help="Propose a pull request.")] = False,
    revision: Annotated[str | None, typer.Option(help="Branch.")] = None,
    message: Annotated[str | None, typer.Option(help="Commit message.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a hand-edited card.")] = False,
    check_only: Annotated[bool, typer.Option("--check-only", help="Say what is wrong.")] = False,
    traces: Annotated[str | None, typer.Option(help="Publish its traces as this dataset instead.")] = None,
    space: Annotated[str | None, typer.Option(help="A Space that shows it, for a link in the card.")] = None,
    base_model: Annotated[
        str | None, typer.Option(help="An adapter's base on the Hub, where it was trained on a local one.")
    ] = None,
    include: Annotated[
        list[str] | None, typer.Option(help="A file that erpo-hub did not make, by its name. Repeatable.")
    ] = None,
    evidence: Annotated[
        str | None, typer.Option(help="A dataset of traces, named as the source of the results.")
    ] = None,
    collection: Annotated[
        str | None, typer.Option(help="Title of a collection that gets the model, its traces and its Space.")
    ] = None,
) -> None:
    """Publish a bundle as exactly one commit.

    Example: `erpo-hub push runs/demo/erpo/bundle me/my-first-erpo`

    An adapter of a local model: `erpo-hub push runs/a/bundle me/adapter --base-model me/base`
    """
    from ..publish.base import rebased
    from ..publish.bundle import check_bundle
    from ..publish.hub import Publishing, check_repo_id, push_bundle
    from ..publish.traces_dataset import push_traces

    if check_only:
        for name in filter(None, (repo_id, traces, space, evidence)):
            check_repo_id(name)
        problems = check_bundle(bundle, token=token, include=include or [])
        if problems:
            raise UserError(f"{bundle}: " + "; ".join(problems))
        rebased(bundle, base_model, force=force)
        typer.echo(f"{bundle} can be published")
        return
    if traces:
        if base_model:
            raise UsageError("--base-model: traces have no base model; leave it out")
        made = push_traces(
            bundle,
            traces,
            model=repo_id,
            private=private,
            token=token,
            create_pr=create_pr,
            revision=revision,
            force=force,
        )
        typer.echo(made.pr_url or made.commit_url)
        return
    if repo_id is None:
        raise UsageError("where to? erpo-hub push BUNDLE NAME/MODEL")
    how = Publishing(revision, message, force, base_model, include or [], space, evidence, collection)
    commit = push_bundle(bundle, repo_id, private=private, token=token, create_pr=create_pr, publishing=how)
    typer.echo(commit.pr_url or commit.commit_url)


@commands.command()
def space(
    repo_id: Annotated[str, typer.Argument(help="The Space, NAME/SPACE.")],
    models: Annotated[list[str], typer.Argument(help="One or two model repositories to show.")],
    traces: Annotated[str | None, typer.Option(help="Dataset of traces.")] = None,
    hardware: Annotated[str | None, typer.Option(help="Flavor; default ZeroGPU.")] = None,
    variable: Annotated[list[str] | None, typer.Option(help="NAME=VALUE, repeatable.")] = None,
    secret: Annotated[list[str] | None, typer.Option(help="NAME=VALUE, repeatable.")] = None,
    package: Annotated[str | None, typer.Option(help="How it installs erpo-hub.")] = None,
    private: Private = None,
    token: Token = None,
    dry_run: Annotated[Path | None, typer.Option(help="Write the folder here, send nothing.")] = None,
) -> None:
    """Deploy the inspector as a Space for your models, in one commit.

    Example: `erpo-hub space me/inspector me/qwen-erpo me/qwen-grpo --traces me/qwen-traces`
    """
    from ..publish.space import ZERO_GPU, SpaceSettings, deploy_space

    settings = SpaceSettings(
        hardware or ZERO_GPU, _pairs("--variable", variable), _pairs("--secret", secret), package
    )
    made = deploy_space(
        repo_id,
        models=models,
        traces=traces,
        settings=settings,
        private=private,
        token=token,
        dry_run=dry_run,
    )
    typer.echo(f"wrote {made}" if isinstance(made, Path) else made.commit_url)


def _pairs(option: str, given: list[str] | None) -> dict[str, str]:
    pairs = [item.partition("=") for item in given or []]
    for name, separator, _ in pairs:
        if not separator or not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
            raise UsageError(f"{option} {name}: write NAME=VALUE, the name of letters, digits and _")
    return {name: value for name, _, value in pairs}


@commands.command(context_settings=FREE)
def job(
    context: typer.Context,
    repo_id: Annotated[str, typer.Argument(help="Where the job publishes, NAME/MODEL.")],
    timeout: Annotated[str, typer.Option(help="After which the Hub ends it, such as 6h.")],
    flavor: Annotated[str, typer.Option(help="Hardware flavor.")] = "a10g-small",
    script: Annotated[str | None, typer.Option(help="A PEP 723 script instead of `train`.")] = None,
    package: Annotated[str | None, typer.Option(help="How the job installs erpo-hub.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an earlier job's run.")] = False,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Show the log.")] = True,
    token: Token = None,
) -> None:
    """Train on the Hub's machines: the arguments of `train` stand behind `--`.

    Example: `erpo-hub job me/qwen-erpo --timeout 6h -- Qwen/Qwen2.5-0.5B-Instruct openai/gsm8k`
    """
    from ..publish.job import JobSettings, submit_job

    settings = JobSettings(timeout, flavor, script, package)
    submit_job(context.args, repo_id, settings, resume=resume, follow=follow, token=token)
