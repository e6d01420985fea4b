# ruff: noqa: F811 (pytest fixtures are imported by name)
"""deploy_space: a staged folder, one commit, settings, and one clear line for every refusal."""

from __future__ import annotations

import zipfile
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from erpo_hub import __version__
from erpo_hub.card.merge import split_front_matter
from erpo_hub.errors import UsageError, UserError
from erpo_hub.publish import patience, space
from erpo_hub.publish.check import folder_problems
from erpo_hub.publish.space import SpaceSettings, deploy_space
from tests.hub_server import HubServer
from tests.hub_server.fixtures import hub  # noqa: F401
from tests.hub_server.server import BOB
from tests.publish.test_source import install

SPACE = "alice/inspector"
MODELS = ["alice/erpo", "alice/grpo"]
SETTINGS = {field.name for field in fields(SpaceSettings)}


@pytest.fixture
def template(tmp_path: Path) -> Path:
    folder = tmp_path / "template"
    (folder / "traces").mkdir(parents=True)
    front = "title: Inspector\nemoji: 🔎\ncolorFrom: gray\ncolorTo: red\nsdk: gradio\napp_file: app.py"
    (folder / "README.md").write_text(f"---\n{front}\n---\n# Inspector\n")
    (folder / "app.py").write_text("print('hello')\n")
    (folder / "requirements.txt").write_text("erpo-hub[app]\nspaces\n")
    (folder / "traces" / "0001.json").write_text("{}")
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "app.pyc").write_bytes(b"")
    return folder


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "WAITS", (0.0, 0.0))
    monkeypatch.setattr(space, "POLL", 0.01)


@pytest.fixture(autouse=True)
def installed_from_the_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "site", monkeypatch, None)


def deploy(hub: HubServer, template: Path, **options: object) -> list[str]:
    said: list[str] = []
    own = {key: options.pop(key) for key in SETTINGS if key in options}
    settings = SpaceSettings(source=template, **own)
    deploy_space(SPACE, models=MODELS, settings=settings, endpoint=hub.url, report=said.append, **options)
    return said


def front_matter(folder: Path) -> dict:
    return yaml.safe_load(split_front_matter((folder / "README.md").read_text())[0])


def test_a_dry_run_writes_the_folder_and_sends_nothing(template, tmp_path):
    folder = deploy_space(
        SPACE,
        models=MODELS,
        traces="alice/traces",
        settings=SpaceSettings(source=template),
        dry_run=tmp_path / "out",
    )
    assert {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} == {
        "README.md",
        "app.py",
        "requirements.txt",
        "traces/0001.json",
    }
    data = front_matter(folder)
    from importlib.metadata import version

    assert data["sdk_version"] == version("gradio")
    assert data["python_version"] == "3.12"
    assert data["suggested_hardware"] == "zero-a10g"
    assert (data["models"], data["datasets"]) == (MODELS, ["alice/traces"])
    assert data["title"] == "Inspector"
    assert "hardware" not in data
    assert (folder / "requirements.txt").read_text() == f"spaces\nerpo-hub[app]=={__version__}\n"


def test_a_dry_run_into_a_folder_in_use_is_refused(template, tmp_path):
    with pytest.raises(UserError, match="is not empty"):
        deploy_space(SPACE, models=MODELS, settings=SpaceSettings(source=template), dry_run=template)


def test_a_space_is_made_in_one_commit_with_its_settings(hub, template):
    said = deploy(
        hub, template, traces="alice/t", variables={"A": "1"}, secrets={"HF_TOKEN": "s"}, private=True
    )
    assert len(hub.commits(SPACE, "spaces")) == 1
    repo = hub.state.repos["spaces", SPACE]
    assert repo.private
    assert repo.space["hardware"] == "zero-a10g"
    assert repo.space["secrets"] == {"HF_TOKEN": "s"}
    expected = {"ERPO_MODELS": "alice/erpo,alice/grpo", "ERPO_TRACES": "alice/t", "A": "1"}
    assert repo.space["variables"] == expected
    assert said[-1] == f"{SPACE} is RUNNING: {hub.url}/spaces/{SPACE}"


def test_an_existing_space_is_brought_up_to_date(hub, template):
    deploy(hub, template)
    (template / "app.py").write_text("print('new')\n")
    deploy(hub, template, hardware="cpu-basic", variables={"B": "2"}, secrets={"KEY": "v"})
    repo = hub.state.repos["spaces", SPACE]
    assert len(hub.commits(SPACE, "spaces")) == 2
    assert repo.space["hardware"] == "cpu-basic"
    assert repo.space["variables"]["B"] == "2"
    assert repo.space["secrets"] == {"KEY": "v"}
    assert "unchanged" in deploy(hub, template, hardware="cpu-basic")[0]
    assert len(hub.commits(SPACE, "spaces")) == 2


@pytest.mark.parametrize("status", [402, 403])
def test_refused_hardware_is_one_clear_line(hub, template, status):
    hub.state.denied_spaces = {"zero-a10g": status}
    said = "paid plan to run alice/inspector on zero-a10g" if status == 402 else "may not run alice/inspector"
    with pytest.raises(UserError, match=said):
        deploy(hub, template)
    assert ("spaces", SPACE) not in hub.state.repos


def test_somebody_elses_name_is_refused(hub, template):
    with pytest.raises(UserError, match="may not run"):
        deploy(hub, template, token=BOB)


def test_a_failed_build_shows_its_log(hub, template):
    hub.state.space_stage = "BUILD_ERROR"
    hub.state.space_log = [f"line {i}\n" for i in range(50)] + ["ERROR: no matching distribution\n"]
    said: list[str] = []
    settings = SpaceSettings(source=template)
    with pytest.raises(UserError, match="failed with BUILD_ERROR: its log is above"):
        deploy_space(SPACE, models=MODELS, settings=settings, endpoint=hub.url, report=said.append)
    assert said[-1] == "ERROR: no matching distribution"
    assert len(said) == 41


def test_a_build_that_takes_too_long_is_told(hub, template):
    hub.state.space_stage = "BUILDING"
    with pytest.raises(UserError, match="is still BUILDING after"):
        deploy(hub, template, wait=0.1)


def test_a_lost_answer_gives_one_commit(hub, template):
    hub.fail("POST .*/commit/", "lost")
    deploy(hub, template)
    assert len(hub.commits(SPACE, "spaces")) == 1


def test_a_wheel_is_staged_and_named_by_its_address(hub, template, tmp_path):
    wheel = tmp_path / "erpo_hub-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("erpo_hub/__init__.py", "")
    deploy(hub, template, package=wheel)
    files = hub.files(SPACE, "spaces")
    assert wheel.name in files
    line = f"erpo-hub[app] @ {hub.url}/spaces/{SPACE}/resolve/main/{wheel.name}"
    assert line in files["requirements.txt"].data.decode()
    with pytest.raises(UserError, match="a private Space can't install a wheel"):
        deploy(hub, template, package=wheel, private=True)
    with pytest.raises(UserError, match="no such wheel"):
        deploy(hub, template, package="missing.whl")


def test_a_requirement_by_commit_is_taken_as_it_is(template, tmp_path):
    pinned = "erpo-hub[app] @ git+https://github.com/OWNER/erpo-hub@0123456789abcdef"
    settings = SpaceSettings(source=template, package=pinned)
    folder = deploy_space(SPACE, models=MODELS, settings=settings, dry_run=tmp_path / "out")
    assert pinned in (folder / "requirements.txt").read_text()


def test_a_token_in_the_template_is_refused(hub, template):
    (template / "app.py").write_text(f"TOKEN = 'hf_{'Z' * 34}'\n")
    with pytest.raises(UserError, match=r"can't be published: app.py:1: holds a Hugging Face access"):
        deploy(hub, template)
    assert hub.requests == []


@pytest.mark.parametrize("name", ["app.py", "README.md", "notes.md", "traces/more", "traces/0002.json"])
def test_a_link_in_the_template_is_refused_and_nothing_written(template, tmp_path, name):
    """What a link leads to would be published as if it were the template's own."""
    private = tmp_path / "private"
    private.mkdir()
    (private / "diary.md").write_text("not for others")
    (template / name).unlink(missing_ok=True)
    (template / name).symlink_to(private if name == "traces/more" else private / "diary.md")
    settings = SpaceSettings(source=template)
    with pytest.raises(UserError, match=f"{name} in .* is a link, which can't be published"):
        deploy_space(SPACE, models=MODELS, settings=settings, dry_run=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_link_among_what_is_never_copied_does_no_harm(template, tmp_path):
    (template / ".venv").symlink_to(tmp_path)
    (template / "__pycache__" / "b.pyc").symlink_to(template / "app.py")
    folder = deploy_space(
        SPACE, models=MODELS, settings=SpaceSettings(source=template), dry_run=tmp_path / "out"
    )
    assert not (folder / ".venv").exists()


@pytest.mark.parametrize("models", [[], ["a/b", "c/d", "e/f"]])
def test_one_or_two_models(template, models):
    with pytest.raises(UsageError, match="one or two models"):
        deploy_space(SPACE, models=models, settings=SpaceSettings(source=template))


def test_a_missing_template_is_one_line(tmp_path):
    with pytest.raises(UserError, match="it needs README.md and app.py"):
        deploy_space(SPACE, models=MODELS, settings=SpaceSettings(source=tmp_path), dry_run=tmp_path / "out")


def test_the_template_that_ships_can_be_published(tmp_path):
    folder = deploy_space(SPACE, models=MODELS, dry_run=tmp_path / "out")
    assert folder_problems(folder) == []
    data = front_matter(folder)
    assert (data["sdk"], data["app_file"], data["models"]) == ("gradio", "app.py", MODELS)
    assert len(data["short_description"]) <= 60
    assert f"erpo-hub[app]=={__version__}" in (folder / "requirements.txt").read_text()
