"""The same training command on Hugging Face Jobs.

A job's disk is gone when it ends, so the run's folder lives in a bucket that is mounted at /runs (`--resume`
goes on from there), and the trainer keeps its last checkpoint in a private repository
(`hub_strategy="checkpoint"`). Left out: preparing data, choosing hardware. Imports no torch.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from ..client_http import httpx
from ..errors import UsageError, UserError
from . import patience
from .failures import explain, no_commit_on_failure
from .hub import check_repo_id, hub_api, to_stderr
from .patience import FAILURES, TOLD, TooSlow, call_hub, odd, pause, retried, status_of
from .secrets import refuse_secrets
from .source import install_source

if TYPE_CHECKING:
    from huggingface_hub import HfApi, JobInfo

RUNS = "/runs"
LABEL = "erpo-hub"  # of a job, with a value of its own, by which it is found where the answer was lost
MOST_JOBS = 1000  # of a list that is looked through for it
SET_BY_THE_JOB = {"--push-to", "--output-dir", "--output_dir", "--resume"}
TOKENS = {"--token", "--hub-token", "--hub_token"}
_TIMEOUT = re.compile(r"[1-9]\d*(\.\d+)?[smhd]?")


class MayRun(UserError):
    """A job may have been started: the answer to its request was lost, and no list of jobs tells."""


@dataclass(frozen=True)
class JobSettings:
    """What a job runs on and what it runs.

    timeout: after which the Hub ends the job: seconds, or "90m", "6h", "2d". The Hub's own is 30 min.
    script: a PEP 723 script or its URL in place of the `erpo-hub train` command, given the same arguments.
    package: how the job installs erpo-hub: a requirement, or a wheel, which is sent to the bucket. Default:
        what is installed here (see source.py).
    env: variables of the job.
    """

    timeout: str | int
    flavor: str = "a10g-small"
    script: str | None = None
    package: str | Path | None = None
    env: Mapping[str, str] = field(default_factory=dict)


def submit_job(
    arguments: Sequence[str],
    repo_id: str,
    settings: JobSettings,
    *,
    resume: bool = False,
    follow: bool = True,
    token: str | None = None,
    endpoint: str | None = None,
    report: Callable[[str], None] | None = None,
) -> JobInfo:
    """Trains on the Hub's machines and publishes to `repo_id` from there.

    Args:
        arguments: those of `erpo-hub train`, model and dataset first, without --push-to and --output-dir.
        resume: go on with the run that an earlier job to the same `repo_id` left.
        follow: show the job's log until it ends. Ctrl-C stops the showing, not the job.
        token: becomes the job's secret HF_TOKEN; default: the saved one. Required one way or the other.

    Raises UsageError for a wrong timeout or a secret in the arguments, UserError when the Hub refuses or the
    job fails, MayRun where it can't be told whether the job was started.
    """
    report = report or to_stderr
    check_repo_id(repo_id)
    if not _TIMEOUT.fullmatch(str(settings.timeout)):
        raise UsageError(
            f"timeout {settings.timeout!r}: write seconds, or a number with s, m, h or d, such as 6h"
        )
    _check_command(arguments, settings, token)
    api = hub_api(token, endpoint)
    again = resume_command(arguments, repo_id, settings)
    with no_commit_on_failure(
        repo_id, kept="no job was started", again="the same command", hardware=settings.flavor
    ):
        namespace = retried(lambda: str(api.whoami()["name"]))
        mark = token_hex(8)
        run = _prepared(api, namespace, arguments, repo_id, settings, resume, mark)
        try:
            job = call_hub(run)
        except TOLD as error:
            job = _landed(api, namespace, repo_id, mark, error)
    report(f"job {job.id} started on {settings.flavor}, for at most {settings.timeout}: {job.url}")
    report(f"if it ends too early, go on with: {again}")
    if follow:
        _follow(api, job, namespace, again, report)
    return job


def _check_command(arguments: Sequence[str], settings: JobSettings, token: str | None) -> None:
    """Raises UsageError for what the job sets itself, and for a secret: the Hub shows the command."""
    flags = {word.partition("=")[0] for word in arguments}
    if taken := sorted(SET_BY_THE_JOB & flags):
        raise UsageError(f"{taken[0]} is set by the job itself: leave it out")
    if given := sorted(TOKENS & flags):
        raise UsageError(
            f"{given[0]} would stand in the job's command: leave it out, the job has your token as a secret"
        )
    texts: dict[str, str | None] = {f"argument {n}": word for n, word in enumerate(arguments, 1)}
    texts |= {word: value for word, value in pairwise(arguments) if word.startswith("--")}
    texts |= {word.partition("=")[0]: word.partition("=")[2] for word in arguments if re.match("--.*=", word)}
    texts |= {"--script": settings.script, "--package": str(settings.package or "")}
    refuse_secrets(texts, token, "leave it out", "whoever sees the job")


def _prepared(
    api: HfApi,
    namespace: str,
    arguments: Sequence[str],
    repo_id: str,
    settings: JobSettings,
    resume: bool,
    mark: str,
) -> Callable[[], JobInfo]:
    """The request that starts the job, after all that it needs was sent."""
    from huggingface_hub import Volume

    found = install_source("tasks", settings.package)
    bucket = call_hub(lambda: api.create_bucket(f"{namespace}/erpo-runs", private=True, exist_ok=True))
    requirement = found if isinstance(found, str) else f"erpo-hub[tasks] @ file://{RUNS}/wheels/{found.name}"
    if isinstance(found, Path):
        wheel: Any = [(found, f"wheels/{found.name}")]
        call_hub(lambda: api.batch_bucket_files(bucket.bucket_id, add=wheel))
    return partial(
        api.run_uv_job,
        settings.script or "erpo-hub",
        script_args=training_command(arguments, repo_id, resume=resume, script=settings.script is not None),
        dependencies=[requirement],
        env=dict(settings.env),
        secrets={"HF_TOKEN": api.token},
        flavor=settings.flavor,
        timeout=settings.timeout,
        volumes=[Volume(type="bucket", source=bucket.bucket_id, mount_path=RUNS)],
        namespace=namespace,
        labels={LABEL: mark},
    )


def _landed(api: HfApi, namespace: str, repo_id: str, mark: str, error: Exception) -> JobInfo:
    """The job that a failed request started after all: a second one would be paid for too.

    Raises the failure itself where none was started, MayRun where that can't be told.
    """
    status = status_of(error)
    refused = status is not None and 400 <= status < 500 and status != 408
    if refused or isinstance(error, httpx.ConnectError | FileNotFoundError):  # or never sent
        raise error
    unknown = MayRun(
        f"{explain(error, repo_id)}; the job may have been started:"
        " look with `hf jobs ps` before you try again"
    )
    for wait in (0.0, *patience.WAITS[:3]):  # a list may lag behind
        pause(wait)
        try:
            jobs = retried(lambda: list(islice(api.list_jobs(namespace=namespace), MOST_JOBS)))
        except TOLD:
            raise unknown from error
        for job in jobs:
            if (job.labels or {}).get(LABEL) == mark:
                return job
    if isinstance(error, TooSlow):  # the Hub may still be at it
        raise unknown from error
    raise error


def training_command(
    arguments: Sequence[str], repo_id: str, *, resume: bool = False, script: bool = False
) -> list[str]:
    """What the job runs behind `erpo-hub`, or behind the script."""
    where = ["--push-to", repo_id, "--output-dir", f"{RUNS}/{repo_id.replace('/', '--')}"]
    checkpoints = ["--push_to_hub", "true", "--hub_strategy", "checkpoint"]
    checkpoints += ["--hub_model_id", f"{repo_id}-checkpoint", "--hub_private_repo", "true"]
    command = [] if script else ["train"]
    return [*command, *arguments, *where, *checkpoints, *(["--resume"] if resume else [])]


def resume_command(arguments: Sequence[str], repo_id: str, settings: JobSettings) -> str:
    """The command that goes on with a job's run in another job."""
    options = ["--timeout", str(settings.timeout), "--flavor", settings.flavor]
    options += ["--script", settings.script] if settings.script else []
    return shlex.join(["erpo-hub", "job", repo_id, *options, "--resume", "--", *arguments])


def _end(api: HfApi, job: JobInfo, namespace: str) -> tuple[Any, str]:
    """Stage and message of a job that has ended; its log may end some seconds before it."""

    def asked() -> tuple[Any, str]:
        status = api.inspect_job(job_id=job.id, namespace=namespace).status
        return status.stage, " ".join(str(status.message or "").split())

    while True:
        stage, message = retried(asked)
        if stage not in ("SCHEDULING", "RUNNING"):
            return stage, message
        pause(5.0)


def _log(api: HfApi, job: JobInfo, namespace: str) -> Iterator[str]:
    """Its lines, without a deadline: a job may be silent for hours."""
    with _told(job):  # what the reader of the lines raises does not come by here
        for line in api.fetch_job_logs(job_id=job.id, namespace=namespace, follow=True):
            yield str(line).rstrip("\n")


@contextmanager
def _told(job: JobInfo) -> Iterator[None]:
    """Turns the client's errors into UserError: a job that can't be seen goes on, and is paid for."""
    try:
        yield
    except FAILURES as error:
        status = status_of(error)
        reason = f"the Hub does not show it to your token (HTTP {status})"
        if status not in (403, 404):
            reason = explain(error if isinstance(error, TOLD) else odd(error), job.id)
        raise UserError(
            f"job {job.id} can't be followed: {reason}; it goes on at the Hub:"
            f" `hf jobs logs {job.id}` shows its log, `hf jobs inspect {job.id}` whether it has ended"
        ) from error


def _follow(api: HfApi, job: JobInfo, namespace: str, again: str, report: Callable[[str], None]) -> None:
    """Shows the log until the job ends. Raises UserError when it did not complete, or can't be seen to."""
    try:
        for line in _log(api, job, namespace):
            report(line)
        with _told(job):
            stage, message = _end(api, job, namespace)
    except KeyboardInterrupt:
        report(f"the job goes on: `hf jobs logs {job.id}` shows it again, `hf jobs cancel {job.id}` ends it")
        raise
    if stage != "COMPLETED":
        said = f" ({message})" if message else ""
        raise UserError(f"job {job.id} ended as {stage}{said}: go on with: {again}")
    report(f"job {job.id} is done")
