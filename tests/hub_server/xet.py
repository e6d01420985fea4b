"""Reads the shards that hf_xet writes into a local store (`casUrl = local:///dir`): SHA-256 to Xet file hash.

The layout (48-byte records after a 48-byte header) was read from hf_xet 1.8; test use only.
"""

from __future__ import annotations

import struct
import time
from pathlib import Path

from fastapi.responses import JSONResponse

_RECORD = 48
_WITH_VERIFICATION, _WITH_METADATA = 1 << 31, 1 << 30


def _hex(raw: bytes) -> str:
    """A Merkle hash as text: each 8-byte word is little-endian."""
    return "".join(raw[i : i + 8][::-1].hex() for i in range(0, 32, 8))


def file_hashes(store: Path) -> dict[str, str]:
    """SHA-256 (hex) of every file in the store -> its Xet hash."""
    found: dict[str, str] = {}
    for shard in store.rglob("*.mdb"):
        data = shard.read_bytes()
        at = _RECORD
        while at + _RECORD <= len(data) and data[at : at + 32] != b"\xff" * 32:
            file_hash = _hex(data[at : at + 32])
            flags, entries = struct.unpack_from("<II", data, at + 32)
            at += _RECORD * (1 + entries * (2 if flags & _WITH_VERIFICATION else 1))
            if flags & _WITH_METADATA:
                found[_hex(data[at : at + 32])] = file_hash
                at += _RECORD
    return found


def token(folder: Path) -> JSONResponse:
    """Leave to use the store: in the body for hf_xet, in headers for the client's Python."""
    cas, expires = f"local://{folder}", int(time.time()) + 3600
    headers = {
        "X-Xet-Access-Token": "xet",
        "X-Xet-Token-Expiration": str(expires),
        "X-Xet-Cas-Url": cas,
    }
    return JSONResponse({"accessToken": "xet", "exp": expires, "casUrl": cas}, headers=headers)
