# ruff: noqa: F811 (pytest fixtures are imported by name)
"""Training on Jobs, the script that runs anywhere, and `hf erpo` through the real hf command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest

from erpo_hub import __version__
from erpo_hub.errors import UsageError, UserError
from erpo_hub.publish import patience
from erpo_hub.publish.job import JobSettings, resume_command, submit_job, training_command
from tests.hub_server import HubServer
from tests.hub_server.fixtures import hub  # noqa: F401
from tests.hub_server.server import ALICE
from tests.publish.test_source import install

pytestmark = pytest.mark.filterwarnings("ignore:.*is experimental")
ROOT = Path(__file__).parents[2]
ARGUMENTS = ["Qwen/Qwen3-0.6B", "openai/gsm8k", "--max_steps", "500"]


@pytest.fixture(autouse=True)
def installed_from_the_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "site", monkeypatch, None)


def submit(hub: HubServer, **options: object) -> tuple[dict, list[str]]:
    said: list[str] = []
    settings = JobSettings("6h", **{key: options.pop(key) for key in ("package", "script") if key in options})
    job = submit_job(ARGUMENTS, "alice/qwen-erpo", settings, endpoint=hub.url, report=said.append, **options)
    return hub.state.jobs[job.id]["spec"], said


def test_a_job_runs_the_training_command_with_timeout_token_and_checkpoints(hub):
    spec, _ = submit(hub)
    command = " ".join(spec["command"])
    assert command.startswith(f"uv run --with erpo-hub[tasks]=={__version__} erpo-hub train Qwen/Qwen3-0.6B ")
    assert "--push-to alice/qwen-erpo --output-dir /runs/alice--qwen-erpo" in command
    assert "--push_to_hub true --hub_strategy checkpoint --hub_model_id alice/qwen-erpo-checkpoint" in command
    assert spec["timeoutSeconds"] == 6 * 3600
    assert spec["secrets"] == {"HF_TOKEN": ALICE}
    assert spec["flavor"] == "a10g-small"
    assert spec["volumes"] == [{"type": "bucket", "source": "alice/erpo-runs", "mountPath": "/runs"}]


def test_a_wheel_is_sent_to_the_bucket_and_installed_from_there(hub, tmp_path):
    wheel = tmp_path / "erpo_hub-0.1.0-py3-none-any.whl"
    wheel.write_bytes(b"PK")
    spec, _ = submit(hub, package=wheel, follow=False)
    assert spec["command"][3] == f"erpo-hub[tasks] @ file:///runs/wheels/{wheel.name}"
    assert hub.state.bucket_files == [f"alice/erpo-runs/wheels/{wheel.name}"]


def test_its_log_is_followed_and_the_resume_command_printed(hub):
    _, said = submit(hub)
    assert said[0].startswith("job job1 started on a10g-small, for at most 6h: ")
    assert said[1].endswith(
        "erpo-hub job alice/qwen-erpo --timeout 6h --flavor a10g-small --resume -- "
        "Qwen/Qwen3-0.6B openai/gsm8k --max_steps 500"
    )
    assert said[2:] == ["step 1/1", "done", "job job1 is done"]


def test_a_resumed_job_resumes(hub):
    spec, _ = submit(hub, resume=True, follow=False)
    assert spec["command"][-1] == "--resume"


def test_a_failed_job_says_how_to_go_on(hub):
    hub.state.job_stage = "ERROR"
    with pytest.raises(UserError, match=r"job job1 ended as ERROR: go on with: erpo-hub job .* --resume"):
        submit(hub)


@pytest.mark.parametrize("timeout", ["", "0", "six hours", "6 h", "-1h"])
def test_a_timeout_is_required_and_must_be_one(timeout):
    with pytest.raises(TypeError, match="timeout"):
        JobSettings()  # type: ignore[call-arg]
    with pytest.raises(UsageError, match="such as 6h"):
        submit_job(ARGUMENTS, "alice/m", JobSettings(timeout))


def test_a_token_is_required(hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(UserError, match="no Hub token"):
        submit(hub)


def test_what_the_job_sets_itself_is_refused():
    with pytest.raises(UsageError, match="--push-to is set by the job itself"):
        submit_job([*ARGUMENTS, "--push-to", "x/y"], "alice/m", JobSettings("1h"))


@pytest.mark.parametrize(("status", "said"), [(402, "paid plan"), (401, "hf auth login")])
def test_refusals_are_one_line(hub, monkeypatch, status, said):
    monkeypatch.setattr(patience, "WAITS", (0.0,))
    hub.fail("POST /api/jobs/", status=status, times=9)
    with pytest.raises(UserError, match=said) as error:
        submit(hub)
    assert "no job was started" in str(error.value)


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "WAITS", (0.0,))


START = "POST /api/jobs/"


@pytest.mark.parametrize(("action", "options"), [("lost", {}), ("landed", {"status": 502})])
def test_a_job_whose_answer_was_lost_is_found_and_no_second_one_paid_for(hub, no_waiting, action, options):
    submit(hub, follow=False)  # an earlier one of the same command
    hub.fail(START, action, **options)
    spec, said = submit(hub)
    assert len(hub.state.jobs) == 2
    assert spec is hub.state.jobs["job2"]["spec"]
    assert said[0].startswith("job job2 started")
    assert said[-1] == "job job2 is done"


@pytest.mark.parametrize("earlier", [False, True])
def test_a_job_that_was_not_started_is_said_not_to_be(hub, no_waiting, earlier):
    if earlier:  # of the same command, which is not taken for this one
        submit(hub, follow=False)
    hub.fail(START, "reset")
    with pytest.raises(UserError, match="no job was started; try again with: the same command"):
        submit(hub)
    assert len(hub.state.jobs) == earlier


def test_where_the_jobs_cannot_be_listed_the_user_is_told_to_look(hub, no_waiting):
    hub.fail(START, "lost")
    hub.fail("GET /api/jobs/alice$", status=520, times=99)  # the client itself waits at a 503
    with pytest.raises(UserError, match="may have been started: look with `hf jobs ps` before") as error:
        submit(hub)
    assert "no job was started" not in str(error.value)
    assert len(hub.state.jobs) == 1


def test_a_start_that_takes_too_long_may_still_come(hub, no_waiting, monkeypatch):
    monkeypatch.setattr(patience, "DEADLINE", 0.5)
    hub.fail(START, "stall", seconds=2.0)
    with pytest.raises(UserError, match="may have been started: look with `hf jobs ps` before"):
        submit(hub)


LOGS, STATUS = "GET /api/jobs/alice/job1/logs", "GET /api/jobs/alice/job1$"
EVENTS = {"content-type": "text/event-stream"}


@pytest.mark.parametrize(
    ("where", "action", "options", "said"),
    [
        (LOGS, "status", {"status": 404}, "does not show it to your token"),
        (LOGS, "status", {"status": 403}, "does not show it to your token"),
        (LOGS, "status", {"status": 401}, "hf auth login"),
        (LOGS, "status", {"status": 503}, "HTTP 503"),
        (LOGS, "status", {"status": 200, "body": b'data: {"data": "x\n\n', "headers": EVENTS}, "not the Hub"),
        (LOGS, "status", {"status": 200, "body": b'data: {"step": 1}\n\n', "headers": EVENTS}, "not the Hub"),
        (LOGS, "status", {"status": 200, "body": b'data: {"data": 1}\n\n', "headers": EVENTS}, "not the Hub"),
        (LOGS, "reset", {}, "the connection to the Hub failed"),
        (STATUS, "status", {"status": 404}, "does not show it to your token"),
        (STATUS, "status", {"status": 503}, "HTTP 503"),
        (STATUS, "status", {"status": 200, "body": b"<html>"}, "not the Hub"),
        (STATUS, "status", {"status": 200, "body": b'{"status": 7}'}, "not the Hub"),
        (STATUS, "reset", {}, "the connection to the Hub failed"),
    ],
)
def test_a_job_that_can_not_be_followed_goes_on_and_the_user_is_told_so_in_one_line(
    hub, no_waiting, monkeypatch, where, action, options, said
):
    monkeypatch.setattr("huggingface_hub.hf_api.time", SimpleNamespace(sleep=lambda seconds: None))
    hub.state.job_stage = "RUNNING" if where == LOGS else "COMPLETED"
    hub.fail(where, action, times=999, **options)
    with pytest.raises(UserError, match=r"^job job1 can't be followed: .*`hf jobs logs job1`") as error:
        submit(hub)
    assert said in str(error.value)
    assert "it goes on at the Hub" in str(error.value)
    assert "\n" not in str(error.value)


def test_what_breaks_while_the_log_is_shown_is_not_put_down_to_the_hub(hub):
    def closed(line: str) -> None:
        if line == "done":
            raise BrokenPipeError(32, "Broken pipe")

    with pytest.raises(BrokenPipeError):
        submit_job(ARGUMENTS, "alice/m", JobSettings("6h"), endpoint=hub.url, report=closed)


SECRET = "hf_" + "S" * 34


@pytest.mark.parametrize(
    "more",
    [
        *(["--token", "x"], ["--hub_token", "x"], ["--hub-token=x"], ["--token", SECRET]),
        *([SECRET], ["--run_name", SECRET], [f"--{SECRET}=1"], [f"file.jsonl?append={SECRET}"]),
        *(["--wandb_api_key", "0123456789abcdef01234"], ["--wandb_api_key=0123456789abcdef01234"]),
    ],
)
def test_a_secret_in_the_arguments_is_refused_and_not_shown(hub, more):
    """The Hub would keep it in the job's command, and the line that goes on with the job would print it."""
    said: list[str] = []
    with pytest.raises(UsageError, match="leave it out") as error:
        submit_job([*ARGUMENTS, *more], "alice/m", JobSettings("1h"), endpoint=hub.url, report=said.append)
    assert "SSS" not in str(error.value)
    assert "0123456789" not in str(error.value)
    assert said == hub.requests == []


@pytest.mark.parametrize("option", ["script", "package"])
def test_a_secret_in_an_address_is_refused(hub, option):
    with pytest.raises(UsageError, match=f"--{option} holds .*whoever sees the job could read it"):
        submit(hub, **{option: f"erpo-hub @ git+https://{SECRET}@example.com/train.git"})
    assert hub.requests == []


def test_a_script_takes_the_place_of_the_command(hub):
    url = "https://example.com/train_erpo.py"
    spec, said = submit(hub, script=url, follow=False)
    assert spec["command"][4:6] == [url, "Qwen/Qwen3-0.6B"]
    assert f"--script {url}" in said[1]


def test_the_flags_of_the_job_are_flags_of_the_trainer():
    from erpo_hub.train.config import ERPOConfig

    given = [flag for flag in training_command(ARGUMENTS, "alice/m") if flag.startswith("--") and "_" in flag]
    assert {flag.removeprefix("--") for flag in given} <= set(ERPOConfig.__dataclass_fields__)


def test_the_resume_command_survives_a_shell():
    import shlex

    words = shlex.split(resume_command(["m", "file name.jsonl?x=1 2"], "a/b", JobSettings("1h", "l4x1")))
    assert words[-2:] == ["m", "file name.jsonl?x=1 2"]


# --- the script that runs anywhere ---


def test_the_example_script_declares_what_it_needs():
    text = (ROOT / "examples" / "train_erpo.py").read_text()
    block = text.split("# /// script\n")[1].split("# ///")[0]
    header = tomllib.loads("\n".join(line.removeprefix("# ") for line in block.splitlines()))
    assert header["dependencies"] == []  # erpo-hub comes by --with
    assert header["requires-python"] == ">=3.11"


def test_the_example_script_runs_in_plain_python():
    done = subprocess.run(
        [sys.executable, "examples/train_erpo.py", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Train a model" in done.stdout


# --- hf erpo ---


needs_hub_2 = pytest.mark.skipif(
    huggingface_hub.__version__ < "2", reason="hf 1.x wants other keys in an installed extension's manifest"
)


@pytest.fixture
def extension(tmp_path: Path) -> dict[str, str]:
    """An environment in which `hf` finds the extension as `hf extensions install` would have left it."""
    folder = tmp_path / ".local" / "share" / "hf" / "extensions" / "hf-erpo"
    folder.mkdir(parents=True)
    executable = folder / "hf-erpo"
    shutil.copy(ROOT / "hf-erpo", executable)
    manifest = {
        "owner": "OWNER",
        "repo": "hf-erpo",
        "repo_id": "OWNER/hf-erpo",
        "short_name": "erpo",
        "executable_path": str(executable),
        "type": "binary",
        "installed_at": "2026-11-24T09:00:00+00:00",
        "description": json.loads((ROOT / "manifest.json").read_text())["description"],
        "commit_sha": "0" * 40,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    bin_folder = Path(sys.executable).parent
    path = f"{bin_folder}:/usr/bin:/bin"
    kept = {k: v for k, v in os.environ.items() if k not in {"VIRTUAL_ENV", "CONDA_PREFIX"}}
    return kept | {
        "HOME": str(tmp_path),
        "PATH": path,
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    }


@needs_hub_2
def test_hf_erpo_answers_through_the_real_hf_command(extension):
    done = subprocess.run(["hf", "erpo", "--help"], env=extension, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "publish the proof" in done.stdout
    failed = subprocess.run(["hf", "erpo", "no-such-command"], env=extension, capture_output=True, text=True)
    assert failed.returncode == 2


@needs_hub_2
def test_hf_lists_the_extension(extension):
    done = subprocess.run(["hf", "--help"], env=extension, capture_output=True, text=True)
    assert "OWNER/hf-erpo" in done.stdout


def test_without_erpo_hub_the_extension_says_what_to_do(tmp_path):
    done = subprocess.run([ROOT / "hf-erpo"], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True)
    assert done.returncode == 1
    assert "from its wheel or its checkout" in done.stderr
