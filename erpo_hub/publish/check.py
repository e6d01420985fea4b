"""What may leave this machine: every reason why a folder must not be published, found before anything is
sent.

A bundle publishes run.json, README.md, the files that run.json lists with their digests, and those that the
user names; anything else in the folder is refused by its name. Contents are searched for secrets and for
paths of this machine (secrets.py, paths.py, contents.py), weights must be whole, nothing may bring code, and
card and record must be readable. Left out: whether the model is any good. Imports no torch.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from ..card.card import CARD_ERRORS, render_card
from ..card.markdown import images
from ..card.merge import read_metadata, split_front_matter
from ..errors import UserError
from ..record.format import FILE, RunRecord, has_its_digest, read_record
from ..weights import asks_for_more, shapes_of
from .contents import BINARY, Contents, pieces, read_contents, tensor_names
from .named import is_credential
from .paths import FREE_TEXT, looks_like_path, path_problems, said_in
from .secrets import Secrets, is_environment_file

UNLISTED = (FILE, "README.md")  # the record can't hold its own digest, and people edit the card
PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy", ".npz", ".msgpack", ".h5"}
TRAINING_STATE = re.compile(
    r"(^|/)(optimizer|scheduler|rng_state|scaler|trainer_state|training_args)[^/]*$|(^|/)checkpoint-\d+/"
)
SPACE_KINDS = {".py", ".whl", ".css", ".js", ".html", ".toml", ".json", ".md", ".png", ".txt", ".yaml"}
VOCABULARY = {
    *("tokenizer.json", "vocab.json", "vocab.txt", "merges.txt", "added_tokens.json", "tokenizer.model"),
}
MAX_UNLISTED = 64 << 20  # bytes of a file that is refused anyway, up to which its secrets are told too
MAX_NAME, MAX_PATH, MAX_CARD = 255, 1024, 1 << 20  # bytes
_RESERVED = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[\d¹²³])(\.|$)", re.IGNORECASE
)  # on Windows
_CODE_KEYS = {"auto_map", "custom_pipelines"}  # of configs: names of Python files that transformers would run


def check_bundle(folder: str | Path, *, token: str | None = None, include: Collection[str] = ()) -> list[str]:
    """Why a folder must not be published as a bundle, one line per problem; empty when it may be.

    token: one that must not stand in any file, besides the secrets that this machine holds. include: names
    of files that the bundler did not make and that are to be published too. No line shows a secret.
    """
    folder, secrets = Path(folder), Secrets(token)
    if not folder.is_dir():
        return [f"{folder}: no such folder"]
    names, found = _listing(folder)
    run, record_problems = _read_run(folder, names)
    listed = _listed(run)
    told = said_in(run.to_dict()) if run else ""
    leaks: list[str] = []
    wrong: list[str] = [*found, *record_problems]
    for name in sorted(names):
        published = run is None or name in listed or name in include or name in UNLISTED
        if not published:
            wrong.append(
                f"{name}: not made by erpo-hub, so not published; add --include {name}, or remove it"
            )
        if published or names[name] <= MAX_UNLISTED:
            hits, others = _file_problems(folder / name, name, secrets, told)
            leaks += hits
            wrong += others if published else []
        if published:
            wrong += _kind_problems(name)
    wrong += [f"{name}: named with --include but missing" for name in include if name not in names]
    if run is not None:
        wrong += _list_problems(folder, names, listed, include)
        wrong += _adapter_problems(folder, names, run)
    if not any(name.endswith(".safetensors") and "/" not in name for name in names):
        wrong.append("no *.safetensors: a bundle holds the weights or the adapter")
    if not {"config.json", "adapter_config.json"} & set(names):
        wrong.append("neither config.json nor adapter_config.json: nobody could load these weights")
    wrong += [*_index_problems(folder, names), *_card_problems(folder, names), *_size_problems(folder, names)]
    if run is not None and not (leaks or wrong or has_its_digest(folder)):
        wrong.append(f"{FILE}: was changed after it was written; build the bundle again")
    return list(dict.fromkeys(_shown(secrets.redact(line)) for line in leaks + wrong))


def published_files(folder: Path, include: Collection[str] = ()) -> dict[str, Path]:
    """Name -> path of what a push of this checked bundle sends."""
    run, _ = _read_run(folder, _listing(folder)[0])
    return {name: folder / name for name in sorted({*UNLISTED, *_listed(run), *include})}


def folder_problems(folder: Path, *, token: str | None = None) -> list[str]:
    """The same for the folder of a Space, which holds code and no record."""
    secrets = Secrets(token)
    names, found = _listing(folder)
    for name in sorted(names):
        hits, others = _file_problems(folder / name, name, secrets)
        found += [*hits, *others, *_kind_problems(name)]
        if PurePosixPath(name).suffix not in SPACE_KINDS:
            found.append(f"{name}: a kind of file that a Space does not hold; remove it")
    return [_shown(secrets.redact(line)) for line in found]


def traces_problems(file: Path, *, token: str | None = None) -> list[str]:
    """What must not leave this machine in a Parquet file of traces."""
    secrets = Secrets(token)
    hits, others = _file_problems(file, "traces/traces.parquet", secrets)
    return [_shown(secrets.redact(line)) for line in hits + others]


def _shown(line: str) -> str:
    """One printable line of bounded length: names and values come from anybody."""
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
    return line if len(line) <= 400 else line[:400] + "…"


# --- names ---


def _listing(folder: Path) -> tuple[dict[str, int], list[str]]:
    """Name -> size of every regular file, and what is wrong with names and kinds of entries."""
    names: dict[str, int] = {}
    problems: list[str] = []
    spellings: dict[str, str] = {}

    def unreadable(error: OSError) -> None:
        problems.append(f"{error.filename}: can't be read ({error.strerror})")

    for root, folders, files in os.walk(folder, onerror=unreadable):
        for entry in sorted(folders + files):
            path = Path(root, entry)
            name = path.relative_to(folder).as_posix()
            what = path.lstat()
            problem: str | None = _name_problem(entry, name) or _entry_problem(what)
            same = spellings.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
            if same != name:
                problem = f"differs from {same} in capitals only, which many machines take for one file"
            if problem:
                problems.append(f"{name}: {problem}")
            elif stat.S_ISREG(what.st_mode):
                names[name] = what.st_size
    return names, problems


def _name_problem(entry: str, name: str) -> str | None:
    try:
        length = len(entry.encode())
    except UnicodeEncodeError:
        return "its name is not UTF-8; rename it"
    odd = any(c in '<>:"\\|?*' or unicodedata.category(c)[0] == "C" for c in entry)
    if odd or entry != entry.strip() or entry.endswith(".") or _RESERVED.match(entry):
        return "its name can't be used on every system; rename it with letters, digits, - _ and ."
    if entry != unicodedata.normalize("NFC", entry):
        return "its name has accents in a form that many systems spell otherwise; rename it"
    if entry.casefold() == ".git" or length > MAX_NAME or len(name.encode()) > MAX_PATH:
        return "its name can't be published; rename it"
    return None


def _entry_problem(what: os.stat_result) -> str | None:
    if stat.S_ISLNK(what.st_mode):
        return "a link, which can't be published; copy the file itself"
    if stat.S_ISDIR(what.st_mode):
        return None
    if not stat.S_ISREG(what.st_mode):
        return "a pipe, socket or device, which can't be published; remove it"
    if what.st_nlink > 1:
        return "a hard link to a file that has another name too; copy the file itself"
    return None


def _kind_problems(name: str) -> Iterator[str]:
    if TRAINING_STATE.search(name):
        yield f"{name}: training state, which has no place in a published model; remove it"
    elif PurePosixPath(name).suffix.lower() in PICKLES:
        yield f"{name}: may hold a pickle, which runs code when loaded; save it as safetensors or remove it"


# --- contents ---


def _file_problems(
    path: Path, name: str, secrets: Secrets, told: str | None = None
) -> tuple[list[str], list[str]]:
    """Secrets in a file, and what else is wrong inside it. told: see `path_problems`."""
    contents = read_contents(path)
    leaks = list(_leaks(path, name, contents, secrets))
    wrong = [f"{name}: {contents.problem}"] if contents.problem else []
    if path.suffix not in BINARY and path.name not in VOCABULARY:
        wrong += path_problems(name, contents, told)
        if contents.value is not None:
            wrong += _config_problems(name, contents.value)
    return leaks, wrong


def _leaks(path: Path, name: str, contents: Contents, secrets: Secrets) -> Iterator[str]:
    kind = path.suffix
    if hit := secrets.find(name):
        yield f"{name}: holds {hit[0].strip()} in its name; rename it and revoke it"
        return
    for number, text in enumerate(contents.texts):
        if hit := secrets.find(text):
            counted = hit[1] and number == 0 and kind not in {".safetensors", ".parquet"}
            place = f":{hit[1]}" if counted else ""
            yield f"{name}{place}: holds {hit[0].strip()}; remove it and revoke it"
            return
    found = _credential_in([contents.value, *contents.named])
    found = found or next((raw for piece in pieces(path) if (raw := secrets.find_bytes(piece))), None)
    if found:
        yield f"{name}: holds {found}; remove it and revoke it"
    elif kind not in {".json", ".md", ".py"} and contents.texts and is_environment_file(contents.texts[0]):
        yield f"{name}: has the shape of a .env file; remove it"


def _credential_in(value: Any) -> str | None:
    """What a JSON or YAML value gives away by the names of its keys."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, list):
            waiting += item
        elif isinstance(item, dict):
            if item.get("type") == "service_account" or {"private_key_id", "client_email"} <= set(item):
                return "a service account"
            if {"username", "key"} <= set(item) and re.fullmatch(r"[0-9a-f]{32}", str(item["key"])):
                return "a Kaggle key"
            if isinstance(item.get("auths"), dict):
                return "a login of Docker"
            for key, inner in item.items():
                if isinstance(inner, str) and is_credential(str(key), inner):
                    return f"a value for {key}"
            waiting += item.values()
    return None


def _config_problems(name: str, value: Any) -> Iterator[str]:
    """Absolute paths in the values of a JSON file, and keys that make a loader run somebody's code."""
    if name.startswith("traces/"):
        return
    waiting: list[tuple[str, Any]] = [("", value)]
    while waiting:
        where, item = waiting.pop()
        if isinstance(item, str) and looks_like_path(item):
            yield f"{name}: {where} is an absolute path ({item[:200]}); write a relative one"
        elif isinstance(item, list):
            waiting += [(f"{where}[{index}]", inner) for index, inner in enumerate(item)]
        elif isinstance(item, dict):
            if name != "run.json":
                yield from (
                    f"{name}: {key} names code to be run; remove it" for key in _CODE_KEYS if item.get(key)
                )
                mapped = item.get("auto_mapping")
                library = str(mapped.get("parent_library")) if isinstance(mapped, dict) else "transformers."
                if not library.startswith("transformers."):
                    yield f"{name}: auto_mapping names code to be run; remove it"
            waiting += [(f"{where}.{k}".lstrip("."), v) for k, v in item.items() if k not in FREE_TEXT]


# --- what makes a folder a bundle ---


def _read_run(folder: Path, names: Collection[str]) -> tuple[RunRecord | None, list[str]]:
    """The record, or None with the reason."""
    if FILE not in names:
        return None, ["run.json is missing: build the folder with erpo_hub.publish.bundle.build_bundle"]
    try:
        run = read_record(folder)
        if not run.files:
            raise UserError(f"{folder / FILE} does not list the bundle's files: build the bundle again")
        render_card(run)
    except (*CARD_ERRORS, UserError) as error:
        return None, [str(error).replace(f"{folder}{os.sep}", "")]
    rows = {row.file for row in run.traces}
    unnamed = [n for n in run.files if n.startswith("traces/") and n.endswith(".json") and n not in rows]
    return run, [
        *(f"{name}: named in run.json but missing" for name in sorted(rows - set(names))),
        *(
            f"{name}: listed in run.json, but not among its traces; build the bundle again"
            for name in unnamed
        ),
    ]


def _listed(run: RunRecord | None) -> dict[str, str]:
    return {} if run is None else {k: v for k, v in run.files.items() if k not in UNLISTED}


def _list_problems(
    folder: Path, names: Collection[str], listed: dict[str, str], include: Collection[str]
) -> Iterator[str]:
    for name, digest in listed.items():
        if name not in names:
            yield f"{name}: listed in run.json but missing; build the bundle again"
        elif name not in include and file_digest(folder / name) != digest:
            yield f"{name}: changed since the bundle was made; build it again, or add --include {name}"


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal; empty where it can't be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _adapter_problems(folder: Path, names: Collection[str], run: RunRecord) -> Iterator[str]:
    recorded = run.base_model.id if run.base_model else None
    for name in sorted(n for n in names if PurePosixPath(n).name == "adapter_config.json"):
        value = read_contents(folder / name).value
        config = value if isinstance(value, dict) else {}
        base, revision = config.get("base_model_name_or_path"), config.get("revision")
        if base != recorded:
            yield f"{name}: its base is {base!r:.200}, where run.json says {recorded!r:.200}"
        if revision and run.base_model and run.base_model.revision not in (None, revision):
            yield f"{name}: its base's revision is {revision!r:.100}, which run.json does not say"


def _index_problems(folder: Path, names: Collection[str]) -> Iterator[str]:
    """What an index of weights says that is not so."""
    for index in sorted(n for n in names if n.endswith(".safetensors.index.json") and "/" not in n):
        value = read_contents(folder / index).value
        shards = value.get("weight_map") if isinstance(value, dict) else None
        if not isinstance(shards, dict) or not shards or not all(isinstance(s, str) for s in shards.values()):
            yield f"{index}: has no weight_map from tensors to files"
            continue
        for shard in sorted(set(shards.values())):
            if shard not in names or "/" in shard:
                yield f"{shard}: named in {index} but missing"
            elif read_contents(folder / shard).problem is None:
                named = {tensor for tensor, file in shards.items() if file == shard}
                if lost := sorted(named - tensor_names(folder / shard)):
                    yield f"{index}: {lost[0]} is not in {shard}"


def _size_problems(folder: Path, names: Collection[str]) -> list[str]:
    config = read_contents(folder / "config.json").value if "config.json" in names else None
    files = [folder / name for name in names if name.endswith(".safetensors") and "/" not in name]
    if not isinstance(config, dict) or any(read_contents(file).problem for file in files):
        return []
    return [f"config.json: {problem}" for problem in asks_for_more(config, shapes_of(files))]


def _card_problems(folder: Path, names: Mapping[str, int]) -> list[str]:
    if "README.md" not in names:
        return ["README.md is missing: render it with `erpo-hub card`"]
    if names["README.md"] > MAX_CARD:  # its Markdown takes 20 s a megabyte to be read
        return [f"README.md: is larger than {MAX_CARD >> 20} MiB: make it smaller"]
    try:
        front, body = split_front_matter((folder / "README.md").read_text(encoding="utf-8"))
        metadata = read_metadata(front)
    except (OSError, ValueError):
        return []  # told already by its contents
    except UserError as error:
        return [str(error)]
    if not metadata:
        return ["README.md: has no metadata between --- lines at its top; render it with `erpo-hub card`"]
    shown = dict.fromkeys(unquote(image.partition("#")[0].partition("?")[0]) for image in images(body))
    return [
        f"README.md: shows {image}, which is not in the bundle"
        for image in shown
        if image.removeprefix("./") not in names
    ]
