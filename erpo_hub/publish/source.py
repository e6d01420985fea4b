"""Where a machine that is not this one, a Space or a job, installs erpo-hub from: the one place that decides.

It gets what is installed here, as pip recorded it (PEP 610, direct_url.json): the same commit, the same
wheel, or, where there is no such record, the same version of the package index. A checkout can't be fetched
from elsewhere, so there the user builds a wheel and names it.
"""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from ..errors import UserError
from ..version import __version__

BUILD = "build a wheel in the checkout (`pip wheel --no-deps -w dist .`) and name it with --package"


def install_source(extra: str, package: str | Path | None = None) -> str | Path:
    """A requirement for pip, or the path of a wheel to send along.

    extra: of erpo-hub, where the requirement is made here. package: what the user gave, taken as it is.
    Raises UserError in one line where nothing that another machine can fetch is known.
    """
    if package is None:
        package = _installed_here(extra)
    if not str(package).endswith(".whl") or "://" in str(package):
        return str(package)
    if not (wheel := Path(package)).is_file():
        raise UserError(f"{wheel}: no such wheel; {BUILD}")
    return wheel


def _installed_here(extra: str) -> str | Path:
    name = f"erpo-hub[{extra}]"
    origin = _origin()
    if origin is None:
        return f"{name}=={__version__}"
    url = str(origin.get("url", ""))
    if "vcs_info" in origin:
        found = origin["vcs_info"]
        return f"{name} @ {found['vcs']}+{url}@{found['commit_id']}"
    if url.startswith("file:") and "archive_info" in origin and url.endswith(".whl"):
        return Path(unquote(urlsplit(url).path))
    if url.startswith("https:"):
        return f"{name} @ {url}"
    raise UserError(f"erpo-hub runs from a checkout, which no other machine can install: {BUILD}")


def _origin() -> dict[str, Any] | None:
    """pip's record of an installation that is not from an index; None for one that is."""
    try:
        record = distribution("erpo-hub").read_text("direct_url.json")
    except PackageNotFoundError:
        return {"url": "file:.", "dir_info": {}}  # run from a source folder, without an installation
    return json.loads(record) if record else None
