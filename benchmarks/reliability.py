"""Every fault on the way to the Hub, what it came to, and how many commits it left: docs/reliability.md.

    python benchmarks/reliability.py            # prints the table
    python benchmarks/reliability.py --write    # and writes docs/reliability.md

The client is the real one of huggingface_hub; the Hub is the test Hub of tests/hub_server over real HTTP.
Waiting between retries is counted, not slept. A killed push is a process of its own that gets SIGKILL at the
named moment. Not covered: the real Hub's own faults, and networks slower than loopback.
"""

from __future__ import annotations

import argparse
import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("HF_XET_CLIENT_RETRY_MAX_ATTEMPTS", "2")  # by itself hf_xet insists for four minutes
ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from erpo_hub.errors import UserError  # noqa: E402
from erpo_hub.publish import bundle as bundle_module  # noqa: E402
from erpo_hub.publish import commit  # noqa: E402
from erpo_hub.publish.bundle import build_bundle, check_bundle  # noqa: E402
from erpo_hub.publish.hub import push_bundle  # noqa: E402
from tests.hub_server import HubServer  # noqa: E402
from tests.hub_server.sample_run import example_run, example_trace, fake_weights  # noqa: E402
from tests.hub_server.server import ALICE, BOB  # noqa: E402

REPO = "alice/erpo"
XET = {
    "create repository": "POST /api/repos/create",
    "head of the branch": "GET /api/models/alice/erpo",
    "list files": "GET .*/tree/",
    "validate card": "POST /api/validate-yaml",
    "preupload": "POST .*/preupload/",
    "Xet token": "GET .*/xet-write-token/",
    "commit": "POST .*/commit/",
}
LFS = {"LFS batch": "POST .*/objects/batch", "LFS PUT": "PUT /lfs-store/", "LFS verify": "POST /lfs-verify/"}
EVERY = {name: (pattern, True) for name, pattern in XET.items()} | {
    name: (pattern, False) for name, pattern in LFS.items()
}


@dataclass
class Scene:
    """A fresh Hub, a fresh bundle, and the time that retries would have slept."""

    hub: HubServer
    folder: Path
    bundle: Path
    slept: list[float] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)  # of the push, also when it is run again
    before: int = 0  # commits of an earlier version

    def push(self, **options: Any) -> str:
        """The line that the user sees."""
        said: list[str] = []
        try:
            push_bundle(
                self.bundle, REPO, endpoint=self.hub.url, report=said.append, **(self.options | options)
            )
        except UserError as error:
            return f"error: {error}"
        return said[-1]

    def commits(self) -> int:
        """Commits on main and pull requests that the push under test has left."""
        repo = self.hub.state.repos.get(("models", REPO))
        pulls = len(repo.pulls) if repo else 0
        return sum(c.author != "carol" for c in self.hub.commits(REPO)) + pulls - self.before

    def publish_earlier_version(self) -> None:
        """Puts another version on the Hub, so that the push under test is the second."""
        self.push()
        self.before = self.commits()
        change(self)


@dataclass
class Row:
    fault: str
    outcome: str
    commits: int
    waited: float
    again: str
    commits_again: int

    @property
    def sound(self) -> bool:
        """No loss, no double commit: 0 or 1 after the fault, exactly 1 after running the command again."""
        return self.commits in (0, 1) and self.commits_again == 1


@contextmanager
def scene(xet: bool = True) -> Iterator[Scene]:
    from huggingface_hub import constants
    from huggingface_hub.utils import _http

    folder = Path(tempfile.mkdtemp(prefix="erpo-reliability-"))
    environment = {"HF_TOKEN": ALICE, "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    try:
        made = build_bundle(
            example_run(),
            fake_weights(folder / "weights"),
            folder / "bundle",
            traces=[example_trace()],
            figures=False,
        ).folder
        with HubServer(folder / "hub") as hub:
            stage = Scene(hub, folder, made)
            clock = types.SimpleNamespace(sleep=stage.slept.append)
            with (
                mock.patch.dict(os.environ, environment),
                mock.patch.object(_http, "time", clock),
                mock.patch.object(commit, "time", clock),
                mock.patch.object(commit, "SILENCE", 1.0),
                mock.patch.object(constants, "HF_HUB_OFFLINE", False),
                mock.patch.object(constants, "HF_HUB_DISABLE_XET", not xet),
                mock.patch.object(constants, "HF_HUB_CACHE", str(folder / "cache")),
            ):
                yield stage
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def observe(name: str, act: Callable[[Scene], str], *, xet: bool = True) -> Row:
    """One row: the fault, then the same command again without it."""
    with scene(xet) as stage:
        outcome = act(stage)
        commits, waited = stage.commits(), sum(stage.slept)
        stage.hub.middleware.faults.clear()
        stage.hub.middleware.before.clear()
        again = stage.push()
        return Row(name, _public(outcome, stage), commits, waited, _public(again, stage), stage.commits())


def _public(line: str, stage: Scene) -> str:
    """The line without addresses and ids of this run."""
    line = re.sub(r"\b[0-9a-f]{12}\b", "COMMIT", line)
    line = (
        line.replace(str(stage.folder), "").replace(stage.hub.url, "https://hub").replace("/bundle", "BUNDLE")
    )
    return line.partition(": https://hub")[0] if line.startswith("published") else line


# --- the faults ---


def failing(pattern: str, action: str = "status", **options: Any) -> Callable[[Scene], str]:
    def act(stage: Scene) -> str:
        stage.hub.fail(pattern, action, **options)
        return stage.push()

    return act


def somebody_elses_push(stage: Scene) -> str:
    stage.publish_earlier_version()
    done: list[Any] = []

    def meanwhile(method: str, path: str) -> None:
        if "/preupload/" in path and not done:
            done.append(stage.hub.push_as_someone_else(REPO, "notes.txt", b"theirs"))

    stage.hub.middleware.before.append(meanwhile)
    return stage.push()


def change(stage: Scene) -> None:
    weights = fake_weights(stage.folder / "weights", value=2)
    build_bundle(example_run(), weights, stage.bundle, traces=[example_trace()], figures=False)


def lost_pull_request(stage: Scene) -> str:
    stage.publish_earlier_version()
    stage.options = {"create_pr": True, "token": BOB}
    stage.hub.fail(COMMIT, "lost")
    return stage.push()


def forbidden(stage: Scene) -> str:
    stage.publish_earlier_version()
    return stage.push(token=BOB)


def disk_full(stage: Scene) -> str:
    def full(source: Any, target: Any) -> None:
        Path(target).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with mock.patch.object(bundle_module.shutil, "copyfile", full):
        try:
            change(stage)
        except UserError as error:
            left = sorted(p.name for p in stage.folder.iterdir() if "bundle" in p.name)
            whole = not check_bundle(stage.bundle)
            return f"error: {error}; left: {', '.join(left)}, which passes its check: {whole}"
    return "nothing happened"


def killed_while_bundling(stage: Scene) -> str:
    program = f"""
        import time
        from erpo_hub.publish import bundle
        from tests.hub_server.sample_run import example_run
        bundle._move_into_place = lambda *a: (print("here", flush=True), time.sleep(60))
        run, weights = example_run(seed=1), {str(stage.folder / "weights")!r}
        bundle.build_bundle(run, weights, {str(stage.bundle)!r}, figures=False)
    """
    process = start(program, stage)
    process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    left = [p for p in stage.folder.iterdir() if "building" in p.name]
    whole = not check_bundle(stage.bundle)
    change(stage)
    cleaned = not [p for p in stage.folder.iterdir() if "building" in p.name]
    return f"killed; old bundle whole: {whole}; leftovers: {len(left)}, gone after the next build: {cleaned}"


def killed_at(pattern: str, *, applied: bool) -> Callable[[Scene], str]:
    """Kills the pushing process when a request arrives, or (`applied`) when the Hub has done what it asks."""

    def act(stage: Scene) -> str:
        killed: list[int] = []

        def kill(method: str = "", path: str = "") -> None:
            if not killed and (applied or re.search(pattern, f"{method} {path}")):
                killed.append(process.pid)
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)

        middleware = stage.hub.middleware
        (middleware.when_lost if applied else middleware.before).append(kill)
        stage.hub.fail(pattern, "lost" if applied else "reset")
        program = f"""
            from erpo_hub.publish.hub import push_bundle
            push_bundle({str(stage.bundle)!r}, {REPO!r})
        """
        process = start(program, stage)
        process.wait(timeout=60)
        return f"killed by signal {-process.returncode}" if killed else f"exit {process.returncode}"

    return act


def start(program: str, stage: Scene) -> subprocess.Popen:
    from huggingface_hub import constants

    environment = dict(os.environ) | {
        "HF_ENDPOINT": stage.hub.url,
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1" if constants.HF_HUB_DISABLE_XET else "0",
        "HF_HOME": str(stage.folder / "home"),
    }
    code = textwrap.dedent(program)
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def offline(stage: Scene) -> str:
    from huggingface_hub import constants

    with mock.patch.object(constants, "HF_HUB_OFFLINE", True):
        return stage.push()


def no_token(stage: Scene) -> str:
    with mock.patch.dict(os.environ), mock.patch("huggingface_hub.get_token", return_value=None):
        os.environ.pop("HF_TOKEN")
        return stage.push()


COMMIT = XET["commit"]
CASES: dict[str, tuple[Callable[[Scene], str], bool]] = {
    **{f"503 once: {name}": (failing(pattern), xet) for name, (pattern, xet) in EVERY.items()},
    **{f"503 that lasts: {name}": (failing(p, times=10_000), x) for name, (p, x) in EVERY.items()},
    "forbidden (403): Xet token": (failing(XET["Xet token"], status=403, times=10_000), True),
    "429, Retry-After 17 s: commit": (failing(COMMIT, status=429, headers={"Retry-After": "17"}), True),
    "429, Retry-After 17 s: preupload": (
        failing(XET["preupload"], status=429, headers={"Retry-After": "17"}),
        True,
    ),
    "connection reset: commit": (failing(COMMIT, "reset"), True),
    "connection reset: LFS PUT": (failing(LFS["LFS PUT"], "reset"), False),
    "connection reset that lasts: LFS PUT": (failing(LFS["LFS PUT"], "reset", times=10_000), False),
    "stall: commit": (failing(COMMIT, "stall", seconds=20), True),
    "stall: LFS PUT": (failing(LFS["LFS PUT"], "stall", seconds=20), False),
    "commit landed, answer lost": (failing(COMMIT, "lost"), True),
    "commit landed, every answer lost": (failing(COMMIT, "lost", times=10_000), True),
    "pull request opened, answer lost": (lost_pull_request, True),
    "somebody else pushes meanwhile": (somebody_elses_push, True),
    "expired token (401)": (lambda s: s.push(token="hf_" + "x" * 34), True),
    "forbidden (403)": (forbidden, True),
    "disk full while bundling": (disk_full, True),
    "SIGKILL while bundling": (killed_while_bundling, True),
    "SIGKILL during the upload (LFS)": (killed_at(LFS["LFS PUT"], applied=False), False),
    "SIGKILL during the upload (Xet)": (killed_at(XET["Xet token"], applied=True), True),
    "SIGKILL between upload and commit": (killed_at(COMMIT, applied=False), True),
    "SIGKILL after the commit was sent": (killed_at(COMMIT, applied=True), True),
    "offline mode": (offline, True),
    "no token": (no_token, True),
}


def run_case(name: str) -> Row:
    act, xet = CASES[name]
    return observe(name, act, xet=xet)


def table(rows: list[Row]) -> str:
    lines = [
        "| Fault | What the user sees | Commits | Waited | Run again | Commits then |",
        "|:--|:--|--:|--:|:--|--:|",
    ]
    for row in rows:
        seen, again = (text.replace("|", r"\|").replace("\n", " ") for text in (row.outcome, row.again))
        lines.append(
            f"| {row.fault} | {seen} | {row.commits} | {row.waited:.0f} s | {again} | {row.commits_again} |"
        )
    return "\n".join(lines)


INTRODUCTION = """# What happens when the push fails

Made by `python benchmarks/reliability.py --write`; don't edit it by hand.

A push is one `create_commit`. huggingface_hub repeats uploads and listings itself (six attempts in half a
minute, hf_xet for four minutes); around the commit request, which it does not repeat, erpo-hub does: 408,
429 with Retry-After, 5xx, dropped and silent connections, each time with fresh operations on top of the
head that the content was made for. After every failure it compares the head's files with the bundle's, so a
commit whose answer was lost is recognised and never made twice. What was uploaded stays uploaded: running
the same command again goes on from there.

Each row is a fresh repository on the test Hub (`tests/hub_server`: real HTTP, the real client, Xet through
a local store), a fault, and then the same command once more. "Commits" counts what the push has left:
commits on `main` and pull requests. "Waited" is the time between retries, counted and not slept.
"""


def document(rows: list[Row]) -> str:
    """The page. Raises AssertionError when a row is not sound: such a table must not be published."""
    from importlib.metadata import version

    assert all(row.sound for row in rows), [row for row in rows if not row.sound]
    client = f"huggingface_hub {version('huggingface-hub')}, hf_xet {version('hf-xet')}"
    return (
        f"{INTRODUCTION}\n{table(rows)}\n\n{len(rows)} faults, no loss, no double commit. Client: {client}.\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="write docs/reliability.md")
    parser.add_argument("--only", default="", help="only the faults that contain this text")
    arguments = parser.parse_args()
    rows = []
    for name in CASES:
        if arguments.only in name:
            rows.append(run_case(name))
            print(f"{'ok ' if rows[-1].sound else '?? '} {rows[-1]}", file=sys.stderr)
    print(table(rows))
    if arguments.write:
        (ROOT / "docs" / "reliability.md").write_text(document(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
