"""The HTTP library that the installed huggingface_hub speaks through: httpx2 from its 2.0 on, httpx before.

Both have the same names. Left out: any request of our own.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from huggingface_hub.errors import HfHubHTTPError

_NAME = next(
    root
    for root in (base.__module__.partition(".")[0] for base in HfHubHTTPError.__mro__)
    if root in ("httpx", "httpx2")
)
httpx: Any = import_module(_NAME)
httpcore: Any = import_module(_NAME.replace("httpx", "httpcore"))
