"""A small Hugging Face Hub for the tests: real HTTP, the real client, faults on demand.

`state.py` holds repositories and blobs, `xet.py` reads the local Xet store, `faults.py` makes requests fail,
`app.py` speaks the protocol, `server.py` runs it in a thread, `fixtures.py` gives it to pytest. Left out:
git, permissions finer than a token's, anything the client of huggingface_hub 2.4 does not ask for.
"""

from .faults import Fault
from .server import HubServer

__all__ = ["Fault", "HubServer"]
