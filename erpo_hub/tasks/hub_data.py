"""A dataset from the Hugging Face Hub, with the revision and licence that its card states.

Nothing is guessed: where the Hub cannot be reached and the files come from the cache, both are None. A card
that leads out of its repository, to this machine's files or another's data, is refused.
Leaves out what the columns mean (`tasks` reads them).
"""

from __future__ import annotations

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
    return HubData(train, test, info.sha, ", ".join(licence) if isinstance(licence, list) else licence)


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
        for key in ("data_files", "data_dir"):
            for path in _texts(config.get(key) if isinstance(config, dict) else None):
                out = path.startswith(("/", "~")) or any(sign in path for sign in ("::", ":/", "\\"))
                if out or ".." in PurePosixPath(path).parts:
                    raise UserError(f"{name}: its card leads out of the repository ({path!r:.80})")


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
        _check_files(builder)
        builder.download_and_prepare()
        return builder.as_dataset()
    except (DatasetNotFoundError, DefunctDatasetError) as error:
        raise UserError(
            f"{spec.name}: no such dataset, or no access to it; check the id or log in"
        ) from error
    except (DatasetsError, FileNotFoundError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"{spec.name}: cannot be read as a dataset ({one_line(error)})") from error
    except (HfHubHTTPError, httpx.HTTPError, OSError) as error:
        raise UserError(
            f"{spec.name}: the Hub does not answer and the dataset is not in the cache; "
            "go online or give a local file"
        ) from error
    finally:
        datasets.config.HF_HUB_OFFLINE = before


def _check_files(builder: Any) -> None:
    """Raises UserError for a Parquet file that would come to far more than it is. Fetches what is missing."""
    import datasets
    import pyarrow as pa

    if builder.name != "parquet":
        return
    names = [file for split in (builder.config.data_files or {}).values() for file in split]
    fetch = datasets.DownloadManager(dataset_name=builder.dataset_name, base_path=builder.base_path)
    for name, path in zip(names, fetch.download(names)):
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
