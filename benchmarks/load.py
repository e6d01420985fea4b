"""Ordinary and hostile visitors of one public app at once: waits, memory and disk over time.

    python benchmarks/load.py --minutes 30           # the whole run
    python benchmarks/load.py --minutes 5 --write    # and writes the app's section of docs/security.md

Everything goes over loopback. Ordinary visitors ask the embedded model through `gradio_client`, each with
seeds of its own, first alone and then while hostile ones upload, send malformed and oversized requests, come
from other origins and open sessions. The app has a process of its own, or what the visitors compute would
count as its work. Exits 1 if a visitor got another's tokens or no answer, if the ordinary 95th percentile
more than doubled, or if memory or disk went on growing.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import httpx
import psutil
from gradio_client import Client
from pages import write_between

from erpo_hub.traces.engine import Engine
from erpo_hub.traces.loading import EMBEDDED_MODEL
from erpo_hub.ui import build_demo, launch_kwargs
from erpo_hub.ui.budget import Budget, folder
from erpo_hub.ui.library.library import Limits

PAGE = Path(__file__).parents[1] / "docs" / "security.md"
PROMPT, SEEDS = "7-2*3+4=", 30
MIB = 2**20
LIMITS = Limits(512, 2000, 64, 64, (), Budget(memory=256 * MIB, disk=128 * MIB))


@dataclass(frozen=True)
class App:
    """What its process says of itself once it serves."""

    url: str
    process: int
    files: Path  # where it keeps those that visitors caused
    alone: list[list[int]]  # tokens of each seed


def serve(connection: Connection) -> None:
    """The app's process: it serves until something is sent."""
    engine = Engine.load(EMBEDDED_MODEL)
    alone = [engine.trace(PROMPT, seed=seed, temperature=1.0).tokens for seed in range(SEEDS)]
    demo = build_demo(engines={EMBEDDED_MODEL: engine}, limits=LIMITS)
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, **launch_kwargs(limits=LIMITS))
    connection.send(App(url, os.getpid(), folder(), alone))
    connection.recv()
    demo.close()


@dataclass
class Load:
    """What is asked of and measured on one app."""

    app: App
    users: int
    waits: list[float] = field(default_factory=list)
    foreign: int = 0  # answers that were not the visitor's own
    lost: int = 0  # questions of ordinary visitors that got no answer
    answers: dict[int, int] = field(default_factory=dict)  # to hostile requests, by status

    def ask(self, until: float, number: int) -> None:
        """One ordinary visitor: a question, a pause, the next."""
        client, seed = Client(self.app.url, verbose=False), number
        while time.monotonic() < until:
            started = time.perf_counter()
            try:
                answer = client.predict(prompt=PROMPT, seed=seed % SEEDS, temperature=1.0, api_name="/trace")
            except Exception as error:  # noqa: BLE001 whatever it is, the visitor has no answer
                print(f"an ordinary visitor lost an answer: {error!r:.200}", file=sys.stderr)
                self.lost += 1
                client = Client(self.app.url, verbose=False)
                continue
            self.waits.append(time.perf_counter() - started)
            self.foreign += answer["tokens"] != self.app.alone[seed % SEEDS]
            seed += self.users
            time.sleep(0.5)

    def attack(self, until: float, number: int) -> None:
        """One hostile visitor: each kind of request in turn, a few a second."""
        with httpx.Client(base_url=self.app.url, timeout=60) as client:
            turn = number
            while time.monotonic() < until:
                response = ATTACKS[turn % len(ATTACKS)](client, turn)
                self.answers[response.status_code] = self.answers.get(response.status_code, 0) + 1
                turn += 1
                time.sleep(0.25)


def upload(client: httpx.Client, turn: int) -> httpx.Response:
    return client.post("gradio_api/upload", files={"files": (f"{turn}.json", os.urandom(4 * MIB))})


def call(client: httpx.Client, data: object, **more: object) -> httpx.Response:
    return client.post("gradio_api/call/trace", json={"data": data} | more)


def nested(client: httpx.Client, turn: int) -> httpx.Response:
    body = b'{"data":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    return client.post("gradio_api/call/trace", content=body, headers={"content-type": "application/json"})


ATTACKS: list[Callable[[httpx.Client, int], httpx.Response]] = [
    upload,
    nested,
    lambda c, turn: call(c, ["9" * 1_000_000]),
    lambda c, turn: call(c, [PROMPT, EMBEDDED_MODEL, "", "abc", None, "x", 1e308]),
    lambda c, turn: call(c, [PROMPT, "/etc"], session_hash=f"new-{turn}"),
    lambda c, turn: c.post("gradio_api/run/predict", json={"data": [], "fn_index": turn % 60}),
    lambda c, turn: c.get("", headers={"origin": "http://elsewhere.example"}),
    lambda c, turn: c.get("gradio_api/file=/etc/passwd"),
]


def together(load: Load, seconds: float, hostile: int) -> tuple[list[float], list[tuple[float, float]]]:
    """Waits in seconds, sorted, and (memory, disk) in MiB, sampled, of a stretch of time."""
    load.waits, samples = [], []
    until = time.monotonic() + seconds
    jobs = [(load.ask, i) for i in range(load.users)] + [(load.attack, i) for i in range(hostile)]
    threads = [threading.Thread(target=work, args=(until, i)) for work, i in jobs]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        samples.append((psutil.Process(load.app.process).memory_info().rss / MIB, disk(load.app.files)))
        time.sleep(min(10.0, seconds / 20))
    return sorted(load.waits), samples


def disk(files: Path) -> float:
    """MiB of the files in a folder."""
    sizes = []
    for place, _, names in os.walk(files):  # unlike rglob it bears folders that go meanwhile
        for name in names:
            try:
                sizes.append(os.path.getsize(os.path.join(place, name)))
            except FileNotFoundError:
                continue
    return sum(sizes) / MIB


def main(minutes: float, users: int, hostile: int, write: bool) -> int:
    """A fifth of the time alone, the rest mixed."""
    processes = multiprocessing.get_context("spawn")
    ours, of_app = processes.Pipe()
    process = processes.Process(target=serve, args=(of_app,), daemon=True)
    process.start()
    of_app.close()  # a process that dies ends the wait for it
    load = Load(ours.recv(), users)
    together(load, min(20, 6 * minutes), hostile)  # warms up what is allocated once
    quiet, _ = together(load, 12 * minutes, 0)
    load.answers.clear()
    mixed, samples = together(load, 48 * minutes, hostile)
    ours.send(None)
    process.join()
    p95 = [waits[int(0.95 * len(waits))] for waits in (quiet, mixed)]
    half = len(samples) // 2
    memory = [max(m for m, _ in part) for part in (samples[:half], samples[half:])]
    most = max(d for _, d in samples)
    answers = ", ".join(f"{code}: {n:,}" for code, n in sorted(load.answers.items()))
    lines = [
        f"`python benchmarks/load.py --minutes {minutes:g}`: {users} ordinary visitors with {hostile} hostile"
        f" ones, {os.cpu_count()} cores.",
        "",
        "| | alone | mixed |",
        "|:--|--:|--:|",
        f"| ordinary answers | {len(quiet):,} | {len(mixed):,} |",
        f"| 95th percentile of their waits (s) | {p95[0]:.2f} | {p95[1]:.2f} |",
        "",
        f"Answers lost: {load.lost}. Answers with another's tokens: {load.foreign}."
        f" Hostile requests by status: {answers}. Highest memory in the first and second half of the mixed"
        f" time: {memory[0]:,.0f} and {memory[1]:,.0f} MiB."
        f" Most on disk: {most:,.0f} MiB, with a budget of {LIMITS.budget.disk // MIB} MiB.",
    ]
    print("\n".join(lines))
    if write:
        write_between(PAGE, "load", "\n".join(lines))
    flat = memory[1] < 1.1 * memory[0] and most <= LIMITS.budget.disk / MIB + 64
    return int(load.foreign + load.lost > 0 or p95[1] > 2 * p95[0] or not flat)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--users", type=int, default=6)
    parser.add_argument("--hostile", type=int, default=3)
    parser.add_argument("--write", action="store_true")
    chosen = parser.parse_args()
    sys.exit(main(chosen.minutes, chosen.users, chosen.hostile, chosen.write))
