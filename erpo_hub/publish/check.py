"""What may leave this machine: every reason why a folder must not be published, found before anything is
sent.

Looks at names (an allow-list), contents (access tokens, paths of this machine), weights (whole, safetensors)
and the card. Left out: whether the model is any good. Imports no torch.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

PICKLE_SUFFIXES = {
    ".bin",
    ".pt",
    ".pth",
    ".ckpt",
    ".pkl",
    ".pickle",
    ".joblib",
    ".npy",
    ".npz",
    ".msgpack",
    ".h5",
}
OPTIMIZER = re.compile(
    r"(^|/)(optimizer|scheduler|rng_state|scaler|trainer_state|training_args)[^/]*$|/?checkpoint-\d+/"
)
ALLOWED_SUFFIXES = {
    ".safetensors",
    ".json",
    ".jsonl",
    ".md",
    ".png",
    ".parquet",
    ".yaml",
    ".txt",
    ".model",
    ".jinja",
}
ALLOWED_NAMES = {".gitattributes", "LICENSE", "NOTICE"}
VOCABULARY = {
    "tokenizer.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "added_tokens.json",
    "tokenizer.model",
}
TOKEN = re.compile(rb"\b(?:hf|api_org)_[A-Za-z0-9]{30,}\b")
FOREIGN_HOME = re.compile(r"(?<![\w.:/~-])(?:/home/|/Users/|[A-Za-z]:\\Users\\)[\w.-]+")
_SECRET_VARIABLE = re.compile(r"(TOKEN|API_KEY|SECRET|PASSWORD)S?$")


def problems_in(
    folder: Path, *, own_token: str | None = None, also_allowed: frozenset[str] = frozenset()
) -> list[str]:
    """Why `folder` must not be published, one line per problem; empty when it may be.

    own_token: a token that must not appear in any file, besides those that the environment holds.
    also_allowed: suffixes beyond those of a bundle (a Space holds code).
    """
    folder = Path(folder)
    if not folder.is_dir():
        return [f"{folder}: no such folder"]
    files = sorted(p for p in folder.rglob("*") if not p.is_dir() or p.is_symlink())
    found: list[str] = []
    secrets = own_secrets(own_token)
    for path in files:
        name = path.relative_to(folder).as_posix()
        found += _name_problems(path, name, also_allowed)
        if path.is_file() and not path.is_symlink():
            found += content_problems(path, name, secrets)
    return found + list(_weights_problems(folder))


def _name_problems(path: Path, name: str, also_allowed: frozenset[str]) -> Iterator[str]:
    if path.is_symlink():
        yield f"{name}: a link, which can't be published; copy the file itself"
    elif OPTIMIZER.search(name):
        yield f"{name}: training state, which has no place in a published model; remove it"
    elif path.suffix in PICKLE_SUFFIXES:
        yield f"{name}: may hold a pickle, which runs code when loaded; save it as safetensors or remove it"
    elif path.suffix not in ALLOWED_SUFFIXES | also_allowed and path.name not in ALLOWED_NAMES:
        yield f"{name}: a kind of file that a bundle does not hold; remove it"


def own_secrets(own_token: str | None = None) -> list[bytes]:
    """Tokens and keys that this machine holds: the given one, the saved one, those of the environment."""
    from huggingface_hub import get_token

    values = [v for k, v in os.environ.items() if _SECRET_VARIABLE.search(k)]
    return [v.encode() for v in {*values, own_token or "", get_token() or ""} if len(v) >= 16]


def machine_paths() -> list[str]:
    """Folders of this machine that must not show in a published file, each ending in a separator."""
    roots = {Path.home(), Path.cwd(), Path(tempfile.gettempdir())}
    shown = {str(r) for r in roots} | {str(r.resolve()) for r in roots}
    return sorted((s.rstrip("/") + "/" for s in shown if s.strip("/")), key=len, reverse=True)


def content_problems(path: Path, name: str, secrets: list[bytes]) -> Iterator[str]:
    """What is wrong inside one file that is to be published under `name`; secrets: see `own_secrets`."""
    if path.suffix == ".safetensors":
        header, problem = read_safetensors_header(path)
        if problem:
            yield f"{name}: {problem}"
        data = json.dumps(header).encode()
    elif path.suffix == ".parquet":
        data = _parquet_text(path)
    else:
        data = path.read_bytes()
    if TOKEN.search(data) or any(secret in data for secret in secrets):
        yield f"{name}{_line_of_token(data, secrets)}: holds an access token; remove it and revoke that token"
    if path.suffix in {".png", ".model", ".whl"} or path.name in VOCABULARY:
        return
    try:
        text = data.decode()
    except UnicodeDecodeError:
        yield f"{name}: is not UTF-8 text"
        return
    yield from _path_problems(name, text)
    if path.suffix == ".json":
        yield from _json_problems(path, name, text)


def _line_of_token(data: bytes, secrets: list[bytes]) -> str:
    places = [m.start() for m in [TOKEN.search(data)] if m] + [data.find(s) for s in secrets if s in data]
    return f":{data.count(bytes([10]), 0, min(places)) + 1}"


def _path_problems(name: str, text: str) -> Iterator[str]:
    roots = machine_paths()
    in_trace = name.startswith("traces/")  # a model may well write about somebody's home folder
    user = getpass.getuser()
    for number, line in enumerate(text.splitlines(), 1):
        hit = next((root for root in roots if root in line), None)
        if hit is None and not in_trace and (match := FOREIGN_HOME.search(line)):
            hit = match.group()
        if hit is None and len(user) > 3 and re.search(rf"[/\\]{re.escape(user)}[/\\]", line):
            hit = user
        if hit is not None:
            yield f"{name}:{number}: holds a path of this machine ({hit}); write a relative path"
            return


def _json_problems(path: Path, name: str, text: str) -> Iterator[str]:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        yield f"{name}:{error.lineno}: is not valid JSON ({error.msg})"
        return
    if name.startswith("traces/"):
        return
    for where, value in _strings(content):
        if looks_like_path(value):
            yield f"{name}: {where} is an absolute path ({value}); write a relative one"


FREE_TEXT = {"prompt", "answer", "example", "system", "samples", "chat_template", "completion"}


def _strings(value: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Every string of a JSON value with its place, except free text, which may look like anything."""
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, dict):
        for key, item in value.items():
            if key not in FREE_TEXT:
                yield from _strings(item, f"{where}.{key}".lstrip("."))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _strings(item, f"{where}[{index}]")


def looks_like_path(value: str) -> bool:
    """Whether a whole string is an absolute path: two parts at least, no blanks, no web address."""
    if not value or len(value) > 4096 or any(c.isspace() for c in value) or "://" in value:
        return False
    return (PurePosixPath(value).is_absolute() and len(PurePosixPath(value).parts) > 2) or bool(
        PureWindowsPath(value).drive and PureWindowsPath(value).is_absolute()
    )


def read_safetensors_header(path: Path) -> tuple[dict[str, Any], str | None]:
    """The header of a safetensors file and what is wrong with the file, if anything (cut off, no header)."""
    size = path.stat().st_size
    with path.open("rb") as file:
        raw = file.read(8)
        length = struct.unpack("<Q", raw)[0] if len(raw) == 8 else 0
        if not 2 <= length <= min(size - 8, 100_000_000):
            return {}, "is not a safetensors file, or was cut off"
        try:
            header = json.loads(file.read(length))
        except (json.JSONDecodeError, UnicodeDecodeError):
            return {}, "has no readable safetensors header"
    ends = [t["data_offsets"][1] for key, t in header.items() if key != "__metadata__"]
    if 8 + length + max(ends, default=0) != size:
        return (
            header,
            f"was cut off: {size:,} bytes, where its header tells of {8 + length + max(ends, default=0):,}",
        )
    return header, None


def _parquet_text(path: Path) -> bytes:
    import pyarrow.parquet as pq

    return json.dumps(pq.read_table(path).to_pylist(), default=str, ensure_ascii=False).encode()


def _weights_problems(folder: Path) -> Iterator[str]:
    for index in sorted(folder.glob("*.safetensors.index.json")):
        shards = set(json.loads(index.read_text(encoding="utf-8")).get("weight_map", {}).values())
        for shard in sorted(s for s in shards if not (folder / s).is_file()):
            yield f"{shard}: named in {index.name} but missing"
