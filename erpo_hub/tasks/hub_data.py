"""A dataset from the Hugging Face Hub, with the revision and licence that its card states.

Nothing is guessed: where the Hub cannot be reached and the files come from the cache, both are None. A card
that leads out of its repository, to this machine's files or another's data, is refused, and so is one that
sets how its files are read: with some settings a whole file is read at once.
Leaves out what the columns mean (`tasks` reads them).
"""

from __future__ import annotations

import dataclasses
import gzip
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from ..client_http import httpx
from ..errors import UsageError, UserError
from ..parquet_file import check_parquet
from ..text import one_line
from .files import MAX_UNPACKED
from .specs import Spec

if TYPE_CHECKING:
    from datasets import Dataset


PIECE = 1 << 20  # bytes that are unpacked at once
NAMES = {"config_name", "name", "version", "description", "default", "data_files", "data_dir", "features"}
NAMES |= {"drop_labels", "drop_metadata"}
DIALECT = {"header", "names", "column_names", "quotechar", "quoting", "escapechar", "doublequote"}  # of a CSV
DIALECT |= {"skipinitialspace", "keep_default_na"}
# Between cells. Any other text of several signs is run as a regular expression.
SIGNS = {*",;| :\t", "\\t", "\\s+"}
CODINGS = {"utf-8", "utf8", "utf-8-sig", "utf-16", "ascii", "latin-1", "latin1", "iso-8859-1", "cp1252"}
PACKED = (b"\x1f\x8b", b"PK\x03\x04", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18")


@dataclass(frozen=True)
class HubData:
    train: Dataset
    test: Dataset | None
    revision: str | None
    license: str | None


def load(spec: Spec) -> HubData:
    """Download (or take from the cache) the splits that a Hub spec names.

    Raises UserError where the dataset cannot be found or reached, UsageError for a wrong config or split.
    """
    info = _card(spec)
    if info is not None:
        _check_inside(spec.name, info.card_data)
    splits = _splits(spec, info)
    train = _split(spec, splits, spec.options.get("split", "train"))
    test_name = spec.options.get("test_split") or ("test" if "test" in splits else None)
    test = _split(spec, splits, test_name) if test_name else None
    if info is None:
        return HubData(train, test, None, None)
    licence = info.card_data.get("license") if info.card_data else None
    names = [str(name) for name in (licence if isinstance(licence, list) else [licence]) if name is not None]
    return HubData(train, test, info.sha, ", ".join(names) or None)


def check_anyones(spec: Spec, max_gb: float) -> None:
    """Raises UserError for a dataset that a stranger's record may not lead to: a private or a huge one."""
    info = _card(spec, files=True)
    if info is None:
        # the cache may hold what only this machine's token may see
        raise UserError(f"{spec.name}: the Hub does not answer, so whether it is private can't be asked")
    if info.private:
        raise UserError(f"{spec.name}: is private")
    size = sum(file.size or 0 for file in info.siblings or ()) / 1e9
    if size > max_gb:
        raise UserError(f"{spec.name}: has {size:.1f} GB, more than {max_gb:g}; raise --max-gb")


def _check_inside(name: str, card: Any) -> None:
    configs = card.get("configs") if card else None
    for config in configs if isinstance(configs, list) else []:
        for key, value in config.items() if isinstance(config, dict) else ():
            if key == "name" or not _harmless(key, value):  # a config is called by its config_name
                raise _refused(name, key, value)
        for key in ("data_files", "data_dir"):
            for path in _texts(config.get(key) if isinstance(config, dict) else None):
                out = path.startswith(("/", "~")) or any(sign in path for sign in ("::", ":/", "\\"))
                if out or ".." in PurePosixPath(path).parts:
                    raise UserError(f"{name}: its card leads out of the repository ({path!r:.80})")


def _harmless(key: str, value: Any) -> bool:
    """Whether a setting of a config names data or says how a plain table is written."""
    if key in NAMES | DIALECT:
        return True
    allowed = SIGNS if key in ("sep", "delimiter") else CODINGS if key == "encoding" else set()
    return isinstance(value, str) and value in allowed


def _refused(name: str, key: str, value: Any) -> UserError:
    return UserError(
        f"{name}: its card sets {key}: {repr(value)[:40]}, which no card may; give the file itself"
    )


def _texts(value: Any) -> Iterator[str]:
    """Every text in a list or object of a card."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def _card(spec: Spec, *, files: bool = False) -> Any:
    """The Hub's own record of the dataset, or None where the Hub does not answer. files: their sizes, too."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        HfHubHTTPError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    revision = spec.options.get("revision")
    try:
        return HfApi().dataset_info(spec.name, revision=revision, files_metadata=files)
    except RevisionNotFoundError as error:
        raise UserError(f"{spec.name}: has no revision {revision!r}; check it on the Hub") from error
    except RepositoryNotFoundError as error:
        raise UserError(
            f"{spec.name}: no such dataset, or no access to it; check the id or log in"
        ) from error
    except (HfHubHTTPError, OfflineModeIsEnabled, httpx.HTTPError, OSError):
        return None


def _splits(spec: Spec, info: Any) -> Any:
    """All splits of the config; without the Hub's record, from the cache only."""
    import datasets
    from datasets.exceptions import DatasetNotFoundError, DatasetsError, DefunctDatasetError
    from huggingface_hub.errors import HfHubHTTPError

    revision = spec.options.get("revision") if info is None else info.sha
    before = datasets.config.HF_HUB_OFFLINE
    try:
        datasets.config.HF_HUB_OFFLINE = (
            info is None
        )  # or it would try the dead line again, for half a minute
        config = spec.options.get("config") if info is None else _config(spec, revision)
        builder = datasets.load_dataset_builder(spec.name, config, revision=revision)
        if info is not None:
            _check_config(spec.name, builder)
        _check_files(builder)
        builder.download_and_prepare()
        return builder.as_dataset()
    except (DatasetNotFoundError, DefunctDatasetError) as error:
        raise UserError(
            f"{spec.name}: no such dataset, or no access to it; check the id or log in"
        ) from error
    except UserError:
        raise
    except (DatasetsError, FileNotFoundError, ValueError, zipfile.BadZipFile, gzip.BadGzipFile) as error:
        raise _unreadable(spec, error) from error
    except (HfHubHTTPError, httpx.HTTPError, OSError) as error:
        raise UserError(
            f"{spec.name}: the Hub does not answer and the dataset is not in the cache; "
            "go online or give a local file"
        ) from error
    except Exception as error:  # noqa: BLE001 a stranger's files, and packages that may be missing
        raise _unreadable(spec, error) from error
    finally:
        datasets.config.HF_HUB_OFFLINE = before


def _unreadable(spec: Spec, error: Exception) -> UserError:
    return UserError(f"{spec.name}: cannot be read as a dataset ({one_line(error)})")


def _files(builder: Any) -> list[str]:
    return [str(file) for split in (builder.config.data_files or {}).values() for file in split]


def _check_config(name: str, builder: Any) -> None:
    """`_check_inside` once more, for what was made of the card: a file .huggingface.yaml changes it."""
    home = f"hf://datasets/{name}@".casefold()
    if out := next((file for file in _files(builder) if not file.casefold().startswith(home)), None):
        raise UserError(f"{name}: its card leads out of the repository ({out!r:.80})")
    if builder.name not in ("json", "csv", "text"):
        return
    for field in dataclasses.fields(builder.config):
        value = getattr(builder.config, field.name)
        usual = None if field.default is dataclasses.MISSING else field.default
        if value != usual and not _harmless(field.name, value):
            raise _refused(name, field.name, value)


def _check_files(builder: Any) -> None:
    """Raises UserError for files that would come to far more than they are. Fetches what is missing."""
    import datasets

    if builder.name not in ("parquet", "json", "csv", "text"):
        return
    names = _files(builder)
    config = datasets.DownloadConfig(extract_on_the_fly=True)  # as the builders do it
    fetch = datasets.DownloadManager(
        dataset_name=builder.dataset_name, base_path=builder.base_path, download_config=config
    )
    for name, path in zip(names, fetch.download(names)):
        if builder.name == "parquet":
            _check_parquet(name, path)
        else:
            _check_unpacked(name, path, fetch)


def _check_unpacked(name: str, path: str, fetch: Any) -> None:
    """Unpacks a packed file, piece by piece, as its reader will, and keeps nothing."""
    from datasets.utils.file_utils import xopen

    left = MAX_UNPACKED
    for inner in fetch.iter_files(fetch.extract(path)):
        if inner == path:  # is not packed
            continue
        with xopen(inner, "rb") as stream:
            start = piece = stream.read(PIECE)
            if start.startswith(PACKED):
                raise UserError(f"{name}: is packed more than once; give the files themselves")
            while piece:
                left -= len(piece)
                if left < 0:
                    raise UserError(f"{name}: comes to more than {MAX_UNPACKED >> 30} GiB; give it in parts")
                piece = stream.read(PIECE)


def _check_parquet(name: str, path: str) -> None:
    import pyarrow as pa

    try:
        check_parquet(Path(path), MAX_UNPACKED)
    except UserError as error:
        raise UserError(str(error).replace(str(path), name)) from None
    except pa.ArrowException as error:
        raise UserError(f"{name}: cannot be read as parquet ({one_line(error)})") from error


def _config(spec: Spec, revision: str | None) -> str | None:
    """The config asked for; without one, the only one, or the one called main or default."""
    import datasets

    names = datasets.get_dataset_config_names(spec.name, revision=revision)
    asked = spec.options.get("config")
    if asked is not None and asked not in names:
        raise UsageError(f"{spec.text}: no config {asked!r}; it has: {', '.join(names)}")
    if asked is not None or len(names) < 2:
        return asked or (names[0] if names else None)
    for usual in ("main", "default"):
        if usual in names:
            return usual
    raise UsageError(f"{spec.text}: has several configs ({', '.join(names)}); say ?config=<one>")


def _split(spec: Spec, splits: Any, name: str) -> Dataset:
    if name not in splits:
        raise UsageError(f"{spec.text}: no split {name!r}; it has: {', '.join(splits)}")
    return splits[name]
