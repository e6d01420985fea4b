"""What several test modules share: tiny models made on the spot, no network, quiet trackers."""

from __future__ import annotations

import os
import socket

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_XET_CLIENT_RETRY_MAX_ATTEMPTS", "2")  # by itself hf_xet insists for minutes
os.environ.setdefault("OMP_NUM_THREADS", "1")  # models are tiny; threads that wait for each other are not

with socket.socket() as free:  # torch's default port is one for all: test processes side by side would fight
    free.bind(("127.0.0.1", 0))
    os.environ["MASTER_PORT"] = str(free.getsockname()[1])

import pytest


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    from tiny_models import save_tiny_model

    return str(save_tiny_model(tmp_path_factory.mktemp("models") / "tiny"))
