"""A Gradio Space on the Hub that shows one or two models and their traces.

`stage_space` writes the folder from the template `spaces/inspector`; `deploy_space` sends it as one commit,
waits for the build, and shows its log where it failed. Models and traces reach the app as the variables
ERPO_MODELS and ERPO_TRACES. Left out: the app itself (ui/).
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..card.merge import read_metadata, split_front_matter
from ..card.metadata import to_yaml
from ..errors import UsageError, UserError
from ..version import __version__
from . import commit
from .check import folder_problems
from .failures import no_commit_on_failure
from .hub import check_repo_id, hub_api, prepare_repo, to_stderr, what_happened
from .patience import call_hub, retried
from .secrets import refuse_secrets
from .source import install_source

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo, HfApi

ZERO_GPU = "zero-a10g"
PYTHON = "3.12"  # of the two that ZeroGPU offers, the newer
POLL = 2.0  # seconds between two looks at a build
FAILED = {"BUILD_ERROR", "RUNTIME_ERROR", "CONFIG_ERROR", "NO_APP_FILE"}
LEFT_OUT = ("__pycache__", "*.pyc", ".*")  # of a template
STARTING = {"BUILDING", "RUNNING_BUILDING", "APP_STARTING", "RUNNING_APP_STARTING"}


@dataclass(frozen=True)
class SpaceSettings:
    """What a Space runs on and how it is built.

    hardware: a flavor of the Hub; ZeroGPU by default. variables, secrets: of the Space, by name.
    package: how the Space installs erpo-hub: a requirement ("erpo-hub[app]==0.1.0", "erpo-hub[app] @
        git+https://...@commit") or a wheel, which is staged beside the app. Default: what is installed here
        (see source.py).
    source: the template's folder; default the one that comes with erpo-hub.
    wait: seconds to wait for the build; 0 doesn't.
    """

    hardware: str = ZERO_GPU
    variables: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    package: str | Path | None = None
    source: str | Path | None = None
    wait: float = 900.0


def deploy_space(
    repo_id: str,
    *,
    models: Sequence[str],
    traces: str | None = None,
    settings: SpaceSettings | None = None,
    private: bool | None = None,
    token: str | None = None,
    dry_run: str | Path | None = None,
    endpoint: str | None = None,
    report: Callable[[str], None] | None = None,
) -> CommitInfo | Path:
    """Creates or updates a Space; returns its commit, or the staged folder with `dry_run`.

    Args:
        models: one or two model repositories to show. traces: a dataset of traces.
        dry_run: write the folder here and send nothing.

    Raises UserError in one line: refused hardware (402, 403), a build that failed, a template that is not
    there.
    """
    report, settings = report or to_stderr, settings or SpaceSettings()
    check_repo_id(repo_id)
    _check_shown(models, traces)
    given = {f"--variable {name}": value for name, value in settings.variables.items()}
    refuse_secrets(given, token, "give it with --secret")
    if dry_run is not None:
        return stage_space(Path(dry_run), repo_id, models, traces, settings, private, endpoint)
    with no_commit_on_failure(repo_id, kept="nothing was committed", again="the same command"):
        api = hub_api(token, endpoint)
    with tempfile.TemporaryDirectory() as scratch:
        folder = stage_space(
            Path(scratch) / "space", repo_id, models, traces, settings, private, api.endpoint
        )
        if problems := folder_problems(folder, token=token):
            raise UserError(f"the Space can't be published: {problems[0]}")
        content = commit.Content(
            {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if p.is_file()}
        )
        variables = {"ERPO_MODELS": ",".join(models), "ERPO_TRACES": traces or "", **settings.variables}
        with no_commit_on_failure(
            repo_id, kept="nothing was committed", again="the same command", hardware=settings.hardware
        ):
            _prepare(api, repo_id, settings.hardware, variables, dict(settings.secrets), private)
            outcome = commit.commit_once(
                api,
                repo_id,
                content,
                head=commit.head_of(api, repo_id, repo_type="space"),
                message=f"Show {' and '.join(models)} (erpo-hub {__version__})",
                repo_type="space",
            )
    report(what_happened(outcome, repo_id))
    if settings.wait:
        with no_commit_on_failure(repo_id, kept="the Space was published", again="the same command"):
            _wait(api, repo_id, outcome.info.oid, settings.wait, report)
    return outcome.info


def _check_shown(models: Sequence[str], traces: str | None) -> None:
    if not 1 <= len(models) <= 2:
        raise UsageError(f"a Space shows one or two models, not {len(models)}")
    if len(set(models)) < len(models):
        raise UsageError(f"{models[0]} is named twice: give it once, or another model beside it")
    for name in [*models, *([traces] if traces else [])]:
        check_repo_id(name)


def _prepare(
    api: HfApi,
    repo_id: str,
    hardware: str,
    variables: dict[str, str],
    secrets: dict[str, str],
    private: bool | None,
) -> None:
    """Makes the Space with its settings, or brings those of an existing one up to date."""
    existed = retried(lambda: api.repo_exists(repo_id, repo_type="space"))
    prepare_repo(
        api,
        repo_id,
        repo_type="space",
        private=private,
        space_sdk="gradio",
        space_hardware=hardware,
        space_variables=[{"key": key, "value": value} for key, value in variables.items()],
        space_secrets=[{"key": key, "value": value} for key, value in secrets.items()],
    )
    if not existed:
        return
    for key, value in variables.items():
        retried(partial(api.add_space_variable, repo_id, key, value))
    for key, value in secrets.items():
        retried(partial(api.add_space_secret, repo_id, key, value))
    if retried(lambda: api.get_space_runtime(repo_id)).requested_hardware != hardware:
        retried(lambda: api.request_space_hardware(repo_id, hardware))  # type: ignore[arg-type]


# --- the folder ---


def stage_space(
    folder: Path,
    repo_id: str,
    models: Sequence[str],
    traces: str | None,
    settings: SpaceSettings,
    private: bool | None = None,
    endpoint: str | None = None,
) -> Path:
    """Writes the files of the Space into a new folder and returns it. Raises UserError."""
    template = template_folder(settings.source)
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty: choose another folder for the Space")
    _refuse_links(template)
    source = install_source("app", settings.package)  # whatever can fail comes before the first file
    if private and not isinstance(source, str):
        raise UserError("a private Space can't install a wheel staged in it: give package a requirement")
    front, text = split_front_matter((template / "README.md").read_text(encoding="utf-8"))
    front = to_yaml(_front_matter(front, models, traces, settings.hardware))
    shutil.copytree(template, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*LEFT_OUT))
    (folder / "README.md").write_text(f"---\n{front}\n---\n{text}", encoding="utf-8")
    _pin(folder / "requirements.txt", _requirement(folder, repo_id, source, endpoint))
    return folder


def template_folder(source: str | Path | None = None) -> Path:
    """The Space's template: given, in the installed package, or in a checkout. Raises UserError."""
    package = Path(__file__).parents[1]
    places = (
        [Path(source)] if source else [package / "inspector_space", package.parent / "spaces" / "inspector"]
    )
    for place in places:
        if (place / "app.py").is_file() and (place / "README.md").is_file():
            return place
    raise UserError(f"no template of a Space in {places[-1]}: it needs README.md and app.py")


def _refuse_links(template: Path) -> None:
    """Raises UserError for a link in it: a copy would publish the contents of the file that it leads to.

    A hard link passes: an installer may well have made the package's own files of such.
    """
    for root, folders, files in os.walk(template):
        folders[:] = [name for name in folders if not _left_out(name)]
        for name in sorted(folders + [name for name in files if not _left_out(name)]):
            path = Path(root, name)
            if path.is_symlink():
                where = path.relative_to(template).as_posix()
                raise UserError(
                    f"{where} in {template} is a link, which can't be published: copy the file itself"
                )


def _left_out(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in LEFT_OUT)


def _front_matter(front: str, models: Sequence[str], traces: str | None, hardware: str) -> dict[str, Any]:
    """The template's metadata with the versions pinned and what the Space shows linked."""
    data = read_metadata(front)
    data |= {
        "sdk": "gradio",
        "python_version": PYTHON,
        "suggested_hardware": hardware,
        "models": list(models),
    }
    data["sdk_version"] = _installed("gradio") or data.get("sdk_version")
    if not data["sdk_version"]:
        raise UserError(
            "which Gradio? install erpo-hub with its extra `app`, or set sdk_version in README.md"
        )
    if traces:
        data["datasets"] = [traces]
    return data


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _requirement(folder: Path, repo_id: str, wheel: str | Path, endpoint: str | None) -> str:
    """The line of requirements.txt that installs erpo-hub; stages a wheel where one is given."""
    if isinstance(wheel, str):
        return wheel
    shutil.copyfile(wheel, folder / wheel.name)
    base = (endpoint or "https://huggingface.co").rstrip("/")
    return f"erpo-hub[app] @ {base}/spaces/{repo_id}/resolve/main/{wheel.name}"


def _pin(requirements: Path, requirement: str) -> None:
    """Replaces the template's own line for erpo-hub, or adds one."""
    lines = requirements.read_text(encoding="utf-8").splitlines() if requirements.is_file() else []
    others = [line for line in lines if not re.match(r"\s*erpo[-_]hub\b", line)]
    requirements.write_text("\n".join([*others, requirement]) + "\n", encoding="utf-8")


# --- the build ---


def _wait(api: HfApi, repo_id: str, oid: str, seconds: float, report: Callable[[str], None]) -> None:
    """Until this commit runs. Raises UserError after showing the log of a build or a start that failed."""
    deadline = time.monotonic() + seconds
    while True:
        runtime = retried(lambda: api.get_space_runtime(repo_id))
        stage, running = str(runtime.stage), runtime.raw.get("sha")
        if running in (None, oid) and stage not in STARTING:
            break
        if time.monotonic() > deadline:
            raise UserError(f"{repo_id} is still {stage} after {seconds:.0f} s: look at its page on the Hub")
        time.sleep(POLL)
    if stage in FAILED:
        lines = call_hub(
            lambda: list(islice(api.fetch_space_logs(repo_id, build=stage == "BUILD_ERROR"), 10_000))
        )
        for line in lines[-40:]:
            report(line.rstrip("\n"))
        raise UserError(
            f"{repo_id} failed with {stage}: its log is above; correct it and run the same command again"
        )
    report(f"{repo_id} is {stage}: {api.endpoint}/spaces/{repo_id}")
