"""Is there such a model on the Hub? Asked once, before loading, which tries each file for minutes offline."""

from __future__ import annotations

from ..errors import UserError
from ..text import one_line

SECONDS = 8.0
_FIRST = ("config.json", "adapter_config.json")


class NotOnTheHub(UserError):
    """There is no such repository for this visitor."""


def check_on_hub(repo_id: str, revision: str | None = None) -> None:
    """Raises UserError, within `SECONDS`, for a model that is neither on this machine nor on the Hub.

    Where the owner's token is not to be used, as in an app for others, this machine's cache counts for
    nothing: it may hold what only the owner may see. The Hub is asked then, and in doubt the model refused.
    """
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
    from huggingface_hub.utils import validate_repo_id

    from ..client_http import httpx

    try:
        validate_repo_id(repo_id)
        cached = (try_to_load_from_cache(repo_id, name, revision=revision) for name in _FIRST)
        if for_others() or not any(isinstance(file, str) for file in cached):
            HfApi().model_info(repo_id, revision=revision, timeout=SECONDS)
    except RepositoryNotFoundError:
        raise NotOnTheHub(f"{repo_id}: not on the Hub, or not open to you; check the name") from None
    except (HfHubHTTPError, ValueError) as error:
        raise UserError(f"{repo_id}: not readable on the Hub ({one_line(error)})") from None
    except (OSError, httpx.HTTPError):
        where = "whether all may see it can't be asked" if for_others() else "not on this machine"
        raise UserError(f"{repo_id}: {where}, and the Hub cannot be reached; give a folder") from None


def for_others() -> bool:
    """Whether this process works for others than the owner of this machine's Hub token."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_DISABLE_IMPLICIT_TOKEN)
