"""Runs the test Hub on a free port in a thread."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import uvicorn

from .app import build_app
from .faults import Fault, FaultMiddleware, TrackedProtocol
from .state import Commit, HubState, StoredFile, regular_file

ALICE = "hf_" + "a" * 34  # may write to alice/*
BOB = "hf_" + "b" * 34  # may write to bob/*


class HubServer:
    """`with HubServer(tmp_path) as hub:` serves at `hub.url`; `hub.state` is what it holds."""

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self.state = HubState(folder / "xet")
        self.state.xet_dir.mkdir(parents=True, exist_ok=True)
        self.state.tokens = {ALICE: {"name": "alice"}, BOB: {"name": "bob"}}
        self.middleware = FaultMiddleware(build_app(self.state))
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.state.url = self.url
        config = uvicorn.Config(
            self.middleware,
            http=TrackedProtocol,
            ws="none",
            lifespan="off",
            log_level="critical",
            access_log=False,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)

    def __enter__(self) -> HubServer:
        self._thread.start()
        while not self._server.started:
            time.sleep(0.005)
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.force_exit = self._server.should_exit = True
        self._thread.join(timeout=5)
        self._socket.close()

    def fail(self, match: str, action: str = "status", **options: object) -> Fault:
        """Adds a fault; see `Fault`."""
        fault = Fault(match, action, **options)  # type: ignore[arg-type]
        self.middleware.faults.append(fault)
        return fault

    @property
    def requests(self) -> list[str]:
        return self.middleware.log

    def commits(self, repo_id: str, kind: str = "models", revision: str = "main") -> list[Commit]:
        """What clients have pushed to a branch, newest first (the initial commit is left out)."""
        return self.state.pushed(repo_id, kind, revision)

    def files(self, repo_id: str, kind: str = "models", revision: str = "main") -> dict[str, StoredFile]:
        commit = self.state.repos[kind, repo_id].resolve(revision)
        return {} if commit is None else commit.files

    def push_as_someone_else(self, repo_id: str, path: str, data: bytes, kind: str = "models") -> Commit:
        """A commit that another person makes while the client under test is busy."""
        with self.state.lock:
            repo = self.state.repos[kind, repo_id]
            files = {**repo.history()[0].files, path: regular_file(data)}
            return repo.add_commit("main", files, f"someone else's {path}", "carol")
