"""The same training command on Hugging Face Jobs.

A job's disk is gone when it ends, so the run's folder lives in a bucket that is mounted at /runs (`--resume`
goes on from there), and the trainer keeps its last checkpoint in a private repository
(`hub_strategy="checkpoint"`). Left out: preparing data, choosing hardware. Imports no torch.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError, UserError
from .failures import no_commit_on_failure
from .hub import check_repo_id, hub_api, to_stderr
from .patience import call_hub, pause, retried
from .source import install_source

if TYPE_CHECKING:
    from huggingface_hub import HfApi, JobInfo

RUNS = "/runs"
_TIMEOUT = re.compile(r"[1-9]\d*(\.\d+)?[smhd]?")


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

    Raises UsageError for a wrong timeout, UserError when the Hub refuses or the job fails.
    """
    report = report or to_stderr
    check_repo_id(repo_id)
    if not _TIMEOUT.fullmatch(str(settings.timeout)):
        raise UsageError(
            f"timeout {settings.timeout!r}: write seconds, or a number with s, m, h or d, such as 6h"
        )
    if taken := sorted({"--push-to", "--output-dir", "--output_dir", "--resume"} & set(arguments)):
        raise UsageError(f"{taken[0]} is set by the job itself: leave it out")
    api = hub_api(token, endpoint)
    again = resume_command(arguments, repo_id, settings)
    with no_commit_on_failure(
        repo_id, kept="no job was started", again="the same command", hardware=settings.flavor
    ):
        namespace = retried(lambda: str(api.whoami()["name"]))
        job = _start(api, namespace, arguments, repo_id, settings, resume)
    report(f"job {job.id} started on {settings.flavor}, for at most {settings.timeout}: {job.url}")
    report(f"if it ends too early, go on with: {again}")
    if follow:
        _follow(api, job, namespace, again, report)
    return job


def _start(
    api: HfApi,
    namespace: str,
    arguments: Sequence[str],
    repo_id: str,
    settings: JobSettings,
    resume: bool,
) -> JobInfo:
    from huggingface_hub import Volume

    found = install_source("tasks", settings.package)
    bucket = call_hub(lambda: api.create_bucket(f"{namespace}/erpo-runs", private=True, exist_ok=True))
    requirement = found if isinstance(found, str) else f"erpo-hub[tasks] @ file://{RUNS}/wheels/{found.name}"
    if isinstance(found, Path):
        wheel: Any = [(found, f"wheels/{found.name}")]
        call_hub(lambda: api.batch_bucket_files(bucket.bucket_id, add=wheel))
    run = partial(
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
    )
    return call_hub(run)


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


def _end(api: HfApi, job: JobInfo, namespace: str) -> Any:
    """The status of a job that has ended; its log may end some seconds before it."""
    while True:
        status = retried(lambda: api.inspect_job(job_id=job.id, namespace=namespace)).status
        if status.stage not in ("SCHEDULING", "RUNNING"):
            return status
        pause(5.0)


def _follow(api: HfApi, job: JobInfo, namespace: str, again: str, report: Callable[[str], None]) -> None:
    """Shows the log until the job ends. Raises UserError when it did not complete."""
    try:
        for line in api.fetch_job_logs(job_id=job.id, namespace=namespace, follow=True):
            report(line.rstrip("\n"))
    except KeyboardInterrupt:
        report(f"the job goes on: `hf jobs logs {job.id}` shows it again, `hf jobs cancel {job.id}` ends it")
        raise
    status = _end(api, job, namespace)
    if status.stage != "COMPLETED":
        said = f" ({status.message})" if status.message else ""
        raise UserError(f"job {job.id} ended as {status.stage}{said}: go on with: {again}")
    report(f"job {job.id} is done")
