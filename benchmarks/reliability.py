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
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
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
from erpo_hub.publish import patience  # noqa: E402
from erpo_hub.publish.bundle import build_bundle, check_bundle  # noqa: E402
from tests.hub_server import HubServer  # noqa: E402
from tests.hub_server.pushing import push_with  # noqa: E402
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
            push_with(
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
            clock = types.SimpleNamespace(sleep=stage.slept.append, monotonic=time.monotonic)
            with (
                mock.patch.dict(os.environ, environment),
                mock.patch.object(_http, "time", clock),
                mock.patch.object(patience, "time", clock),
                mock.patch.object(patience, "DEADLINE", 1.0),
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


def portal(pattern: str, action: str = "status") -> Callable[[Scene], str]:
    """A page with status 200 in place of the Hub's answer: a login page, or a proxy's notice."""
    page = b"<!doctype html><html><title>Log in to the network</title></html>"
    return failing(
        pattern, action, status=200, body=page, times=FOREVER, headers={"content-type": "text/html"}
    )


def answering(pattern: str, body: bytes, action: str = "status") -> Callable[[Scene], str]:
    return failing(pattern, action, status=200, body=body, times=FOREVER)


def circling(pattern: str) -> Callable[[Scene], str]:
    def act(stage: Scene) -> str:
        stage.hub.fail(
            f"{pattern}|/round", status=307, times=FOREVER, headers={"location": f"{stage.hub.url}/round"}
        )
        return stage.push()

    return act


def on_the_second_push(fault: Callable[[Scene], str]) -> Callable[[Scene], str]:
    def act(stage: Scene) -> str:
        stage.publish_earlier_version()
        return fault(stage)

    return act


def stale_head(stage: Scene) -> str:
    """The Hub tells of the commit before somebody else's, which holds exactly the bundle's files."""
    stage.push()
    stage.before = stage.commits()
    old = stage.hub.commits(REPO)[0].oid
    stage.hub.push_as_someone_else(REPO, "config.json", b"{}")
    told = json.dumps({"id": REPO, "sha": old, "tags": [], "siblings": []}).encode()
    stage.hub.fail("GET /api/models/alice/erpo(/revision/[^/]*)?$", status=200, body=told, times=FOREVER)
    return stage.push()


def buried_commit(stage: Scene) -> str:
    """The commit lands, its answer is lost, and somebody pushes on top of it."""
    stage.hub.middleware.when_lost.append(lambda: stage.hub.push_as_someone_else(REPO, "config.json", b"{}"))
    stage.hub.fail(COMMIT, "lost")
    outcome = stage.push()
    stage.hub.middleware.when_lost.clear()
    stage.before += 1 if outcome.startswith("published") else 0  # the next push commits on top of theirs
    return outcome


def card_not_text(stage: Scene) -> str:
    stage.hub.state.create("models", REPO, "alice")
    stage.hub.push_as_someone_else(REPO, "README.md", b"\xff\xfe\x00")
    outcome = stage.push()
    stage.options = {"force": True}
    return outcome


FOREVER = 10_000
COMMIT = XET["commit"]
JSON_ENDPOINTS = {name: at for name, at in EVERY.items() if name not in ("LFS PUT", "LFS verify")}
README = "(GET|HEAD) .*/resolve/"
DONE = json.dumps({"success": True, "commitOid": "0" * 40, "commitUrl": "https://hub/x", "hookOutput": ""})
CASES: dict[str, tuple[Callable[[Scene], str], bool]] = {
    **{f"503 once: {name}": (failing(pattern), xet) for name, (pattern, xet) in EVERY.items()},
    **{f"503 that lasts: {name}": (failing(p, times=FOREVER), x) for name, (p, x) in EVERY.items()},
    "forbidden (403): Xet token": (failing(XET["Xet token"], status=403, times=FOREVER), True),
    "429, Retry-After 17 s: commit": (failing(COMMIT, status=429, headers={"Retry-After": "17"}), True),
    "429, Retry-After 17 s: preupload": (
        failing(XET["preupload"], status=429, headers={"Retry-After": "17"}),
        True,
    ),
    "connection reset: commit": (failing(COMMIT, "reset"), True),
    "connection reset: LFS PUT": (failing(LFS["LFS PUT"], "reset"), False),
    "stall: commit": (failing(COMMIT, "stall", seconds=20), True),
    "stall: LFS PUT": (failing(LFS["LFS PUT"], "stall", seconds=20), False),
    "commit landed, answer lost": (failing(COMMIT, "lost"), True),
    "commit landed, every answer lost": (failing(COMMIT, "lost", times=FOREVER), True),
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
    **{f"login page (200) that lasts: {name}": (portal(p), x) for name, (p, x) in EVERY.items()},
    "login page (200) that lasts: card on the Hub": (on_the_second_push(portal(README)), True),
    **{f"JSON cut off: {n}": (answering(p, b'{"files": [{"pa'), x) for n, (p, x) in JSON_ENDPOINTS.items()},
    **{f"JSON of another kind: {n}": (answering(p, b"[7]"), x) for n, (p, x) in JSON_ENDPOINTS.items()},
    **{
        f"a byte at a time, without end: {name}": (failing(p, "trickle", seconds=0.4, times=FOREVER), x)
        for name, (p, x) in EVERY.items()
    },
    **{f"redirected in a circle: {name}": (circling(p), x) for name, (p, x) in EVERY.items()},
    **{
        f"connection reset that lasts: {name}": (failing(p, "reset", times=FOREVER), x)
        for name, (p, x) in EVERY.items()
        if name != "Xet token"
    },
    **{
        f"status {status} once: commit": (failing(COMMIT, status=status), True)
        for status in (507, 520, 524, 599)
    },
    "status 520 that lasts: preupload": (failing(XET["preupload"], status=520, times=FOREVER), True),
    **{
        f"commit landed, answered {status}": (failing(COMMIT, "landed", status=status), True)
        for status in (400, 401, 403, 404, 409, 500, 507, 520, 524, 599)
    },
    "commit landed, answered by a login page": (portal(COMMIT, "landed"), True),
    "commit landed, JSON cut off": (answering(COMMIT, b'{"succ', "landed"), True),
    "commit landed, answer lost, somebody pushed on top": (buried_commit, True),
    "commit said to be done, nothing there": (answering(COMMIT, DONE.encode()), True),
    "an old head that holds the files": (stale_head, True),
    "create: another operation under way (409) that lasts": (
        failing(
            XET["create repository"],
            status=409,
            times=FOREVER,
            body=b"Cannot create repo: another conflicting operation is in progress",
        ),
        True,
    ),
    "create: conflict (409) without an address": (
        failing(XET["create repository"], status=409, times=FOREVER),
        True,
    ),
    "create: made, answered 520": (failing(XET["create repository"], "landed", status=520), True),
    **{
        f"429, Retry-After is not a number: {name}": (
            failing(XET[name], status=429, headers={"Retry-After": "soon"}),
            True,
        )
        for name in ("create repository", "preupload", "commit")
    },
    "429, Retry-After of 30 years: preupload": (
        failing(XET["preupload"], status=429, headers={"Retry-After": "999999999"}),
        True,
    ),
    "card on the Hub is not text": (card_not_text, True),
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
429 with Retry-After, every status from 500 on, dropped connections, each time with fresh operations on top
of the head that the content was made for. Every request has a deadline (25 s, and a second for each 32 KiB
that it sends or that arrive of a file), whatever trickles in meanwhile; a slow answer, or one that is not
the Hub's, is asked for once more. After every failure the files on the branch are compared with the bundle's,
so a commit whose answer was lost or wrong is recognized and never made twice. What was uploaded stays
uploaded: running the same command again goes on from there.

Each row is a fresh repository on the test Hub (`tests/hub_server`: real HTTP, the real client, Xet through
a local store), a fault, and then the same command once more. "Commits" counts what the push has left:
commits on `main` and pull requests. "Waited" is the time between retries, counted and not slept;
the deadline is one second here.
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
