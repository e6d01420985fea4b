"""Damaged and hostile input for every reader of files and answers that others made: docs/security.md.

    python benchmarks/fuzz.py                      # 100,000 inputs, prints the table
    python benchmarks/fuzz.py --write              # and writes docs/security.md
    python benchmarks/fuzz.py --inputs 2000 --only parquet

Each input is a sound file, changed: bytes flipped, cut, doubled or spliced, values of JSON replaced by ones
that break readers. A reader may read it or refuse it (UserError, or a sentence that says what is wrong); any
other exception is a fault and is printed with its seed. Not covered: Arrow's and safetensors'
own memory safety, and model weights themselves.
"""

from __future__ import annotations

import argparse
import json
import random
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from erpo_hub.card.card import render_card  # noqa: E402
from erpo_hub.card.markdown import images  # noqa: E402
from erpo_hub.card.merge import merge_cards, read_metadata, split_front_matter  # noqa: E402
from erpo_hub.errors import UserError  # noqa: E402
from erpo_hub.publish.check import check_bundle  # noqa: E402
from erpo_hub.publish.contents import read_contents  # noqa: E402
from erpo_hub.publish.patience import seconds_to_wait  # noqa: E402
from erpo_hub.publish.secrets import Secrets  # noqa: E402
from erpo_hub.record.format import load_record, read_record  # noqa: E402
from erpo_hub.traces.trace import Trace  # noqa: E402
from tests.hub_server.sample_run import example_run, example_trace, fake_weights  # noqa: E402

ODD_VALUES: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        -1,
        5,
        2**31,
        2**63,
        10**400,
        1e308,
        -0.0,
        "",
        "x",
        "a\0b",
        "\ud800",
        "../../x",
        [],
        {},
    ),
    *(
        [None],
        [[]],
        {"a": None},
        {"": {}},
        float("nan"),
        float("inf"),
        "9" * 5000,
        "&a *a",
        "2026-99-99",
        "‮x",
    ),
]
PIECES = [
    *(
        b"\0",
        b"\xff\xfe",
        b"[" * 3000,
        b"{" * 3000,
        b"9" * 5000,
        b"---\n",
        b"*a",
        b"&a ",
        b"!!python/object:os ",
        b"\\ud800",
    ),
    *(
        b"NaN",
        b"1e999",
        b"<!-- erpo-hub:begin x 000000000000 -->\n",
        b"<!-- erpo-hub:end x -->",
        b"PAR1",
        b"GGUF",
        b"`" * 99,
    ),
]


@dataclass(frozen=True)
class Reader:
    """What is fed, and how: `read` gets the changed bytes and says whether they were read."""

    seeds: tuple[bytes, ...]
    read: Callable[[bytes], bool]
    is_json: bool = False


@cache
def folder() -> Path:
    place = Path(tempfile.mkdtemp(prefix="erpo-fuzz-"))
    from erpo_hub.publish.bundle import build_bundle

    build_bundle(
        example_run(), fake_weights(place / "w"), place / "b", traces=[example_trace()], figures=False
    )
    return place


def as_file(name: str, read: Callable[[Path], Any]) -> Callable[[bytes], bool]:
    def act(data: bytes) -> bool:
        path = folder() / name
        path.write_bytes(data)
        return read(path) is not False

    return act


def contents(path: Path) -> bool:
    found = read_contents(path)
    for text in found.texts:
        _secrets().find(text)
    return found.problem is None


@cache
def _secrets() -> Secrets:
    return Secrets()


def in_bundle(name: str) -> Callable[[bytes], bool]:
    """The whole check of a bundle in which one file is damaged."""

    def act(data: bytes) -> bool:
        path = folder() / "b" / name
        sound = path.read_bytes()
        path.write_bytes(data)
        try:
            lines = check_bundle(folder() / "b")
            assert all(line.isprintable() and len(line) <= 401 for line in lines), lines
            return not lines
        finally:
            path.write_bytes(sound)

    return act


def card_text(data: bytes) -> bool:
    text = data.decode("utf-8", "replace")
    front, body = split_front_matter(text)
    images(body)
    read_metadata(front)
    merge_cards(text, _sound_card(), force=True)
    return True


@cache
def _sound_card() -> str:
    return render_card(example_run())


def readers() -> dict[str, Reader]:
    """Every reader with sound files of its kind."""
    place = folder() / "b"
    record, trace = (place / "run.json").read_bytes(), (place / "traces/0001.json").read_bytes()
    parquet, weights = (
        (place / "traces/traces.parquet").read_bytes(),
        (place / "model.safetensors").read_bytes(),
    )
    config = json.dumps({"model_type": "qwen2", "a": {"b": [1, "x"]}, "eos_token": "</s>"}).encode()
    index = json.dumps({"metadata": {}, "weight_map": {"w": "model.safetensors"}}).encode()
    card = (place / "README.md").read_bytes()
    key = struct.pack("<Q", 1) + b"k"
    gguf = struct.pack("<4sIQQ", b"GGUF", 3, 0, 2) + key + struct.pack("<IQ", 8, 3) + b"abc"
    gguf += key + struct.pack("<IIQ", 9, 8, 2) + key * 2
    yaml = b"license: mit\ntags:\n- a\n- b\ndate: 2026-01-01\nwidget:\n- text: x\n"
    return {
        "run.json": Reader((record,), as_file("r.json", lambda p: read_record(p)), True),
        "a card rendered from run.json": Reader((record,), lambda d: bool(render_card(_record(d))), True),
        "trace as JSON": Reader((trace,), as_file("t.json", lambda p: Trace.from_json(p)), True),
        "traces as Parquet": Reader((parquet,), as_file("t.parquet", lambda p: Trace.from_parquet(p))),
        "any Parquet file": Reader((parquet,), as_file("x.parquet", contents)),
        "any JSON file": Reader((config, index), as_file("x.json", contents), True),
        "any JSON lines": Reader((config + b"\n" + index,), as_file("x.jsonl", contents)),
        "any YAML file": Reader((yaml,), as_file("x.yaml", contents)),
        "any text": Reader((card[:3000], config), as_file("x.txt", contents)),
        "safetensors": Reader((weights,), as_file("x.safetensors", contents)),
        "GGUF metadata": Reader((gguf,), as_file("x.gguf", contents)),
        "README.md, merged": Reader((card,), card_text),
        "Retry-After": Reader(
            (b"17", b"Wed, 21 Oct 2015 07:28:00 GMT"),
            lambda d: seconds_to_wait(d.decode("latin-1")) is not None,
        ),
        "a bundle with a damaged run.json": Reader((record,), in_bundle("run.json"), True),
        "a bundle with a damaged config.json": Reader((config,), in_bundle("config.json"), True),
        "a bundle with a damaged README.md": Reader((card,), in_bundle("README.md")),
        "a bundle with damaged weights": Reader((weights,), in_bundle("model.safetensors")),
        "a bundle with damaged traces": Reader((parquet,), in_bundle("traces/traces.parquet")),
    }


SLOW = ("a bundle", "README.md")  # a whole check takes as long as a hundred of the other readers


def _record(data: bytes) -> Any:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise UserError("not JSON") from None
    if not isinstance(value, dict):
        raise UserError("not a record")
    return load_record(value)


def change(reader: Reader, seed: int) -> bytes:
    """One damaged input; the same for the same seed."""
    dice = random.Random(seed)
    data = dice.choice(reader.seeds)
    if reader.is_json and dice.random() < 0.6:
        value = json.loads(data)
        for _ in range(dice.randint(1, 3)):
            value = _break_value(value, dice)
        return json.dumps(value).encode()
    for _ in range(dice.choice((1, 1, 2, 5))):
        data = _break_bytes(data, dice)
    return data


def _break_bytes(data: bytes, dice: random.Random) -> bytes:
    at, to = sorted((dice.randint(0, len(data)), dice.randint(0, len(data))))
    if len(data) > 16 and dice.random() < 0.3:  # headers and footers hold what matters
        at = dice.choice((dice.randint(0, 16), len(data) - dice.randint(1, 16)))
        to = at + 1
    act = dice.randrange(7)
    if act == 0:
        return data[:at] + bytes([dice.randrange(256)]) + data[at + 1 :]
    if act == 1:
        return data[:at]
    if act == 2:
        return data[:at] + data[to:]
    if act == 3:
        return data[:to] + data[at:]
    if act == 4:
        return data[:at] + dice.choice(PIECES) + data[at:]
    if act == 5:
        return data[:at] + dice.randbytes(dice.choice((1, 4, 8))) + data[at + 4 :]
    return (
        data[:at] + (data[at] ^ (1 << dice.randrange(8))).to_bytes(1, "little") + data[at + 1 :]
        if at < len(data)
        else b""
    )


def _break_value(value: Any, dice: random.Random) -> Any:
    if dice.random() < 0.25 or not isinstance(value, dict | list) or not value:
        return dice.choice(ODD_VALUES)
    key = dice.choice(list(value) if isinstance(value, dict) else range(len(value)))
    made = value.copy()
    if dice.random() < 0.15:
        del made[key]
    else:
        made[key] = _break_value(value[key], dice)
    return made


@dataclass
class Count:
    inputs: int = 0
    read: int = 0
    refused: int = 0
    slowest: float = 0.0
    faults: list[str] | None = None


def feed(name: str, reader: Reader, seeds: range) -> Count:
    """Counts what came of the inputs of these seeds."""
    count = Count(faults=[])
    for seed in seeds:
        data, started = change(reader, seed), time.perf_counter()
        count.inputs += 1
        try:
            if reader.read(data):
                count.read += 1
            else:
                count.refused += 1
        except UserError:
            count.refused += 1
        except Exception as error:  # noqa: BLE001 (that is what is looked for)
            assert count.faults is not None
            count.faults.append(f"{name}, seed {seed}: {type(error).__name__}: {str(error)[:200]}")
        count.slowest = max(count.slowest, time.perf_counter() - started)
    return count


INTRODUCTION = """# What hostile files and answers come to

Made by `python benchmarks/fuzz.py --write`; don't edit it by hand.

Bundles, records, traces, cards and answers come from anyone. Whoever reads them here reads with limits and
refuses in one line; no reader runs code from a file, none unpickles, none follows a path out of a bundle.
Each row feeds one reader with sound files, changed: bytes flipped, cut, doubled, spliced, JSON values
replaced by nulls, huge numbers, half surrogates, nesting. "Refused" is one line of what is wrong; any other
exception would be a fault.

What a push publishes is an allow-list: what the bundler made, by digest, and what `--include` names. Every
text of every file is searched for secrets after decoding (tests/publish/test_check.py has the kinds). What
the network does to a push is in [reliability.md](reliability.md).
"""


def table(counts: dict[str, Count]) -> str:
    lines = ["| Reader | Inputs | Read | Refused | Other exceptions |", "|:--|--:|--:|--:|--:|"]
    for name, c in counts.items():
        lines.append(f"| {name} | {c.inputs:,} | {c.read:,} | {c.refused:,} | {len(c.faults or [])} |")
    total = [sum(getattr(c, key) for c in counts.values()) for key in ("inputs", "read", "refused")]
    faults = sum(len(c.faults or []) for c in counts.values())
    return "\n".join([*lines, f"| **all** | {total[0]:,} | {total[1]:,} | {total[2]:,} | {faults} |"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0, help="seed of the first input")
    parser.add_argument("--only", default="", help="only the readers that contain this text")
    parser.add_argument("--write", action="store_true", help="write docs/security.md")
    arguments = parser.parse_args()
    chosen = {name: r for name, r in readers().items() if arguments.only in name}
    slow = sum(name.startswith(SLOW) for name in chosen)
    few = max(1, arguments.inputs // 500)
    many = (arguments.inputs - few * slow) // max(1, len(chosen) - slow) + 1
    counts: dict[str, Count] = {}
    for name, reader in chosen.items():
        started, size = time.perf_counter(), few if name.startswith(SLOW) else many
        counts[name] = feed(name, reader, range(arguments.first, arguments.first + size))
        print(
            f"{time.perf_counter() - started:6.1f} s, slowest {counts[name].slowest:.2f} s  {name}",
            file=sys.stderr,
        )
        for fault in (counts[name].faults or [])[:5]:
            print(f"  {fault}", file=sys.stderr)
    print(table(counts))
    faults = [fault for count in counts.values() for fault in count.faults or []]
    if arguments.write and not faults:
        page = ROOT / "docs" / "security.md"
        _, mark, app = page.read_text(encoding="utf-8").partition("\n<!-- app: begin -->")  # not made here
        page.write_text(f"{INTRODUCTION}\n{table(counts)}\n{mark}{app}", encoding="utf-8")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
