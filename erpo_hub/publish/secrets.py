"""Secrets in text: what has the form of an access token or a key, and what this machine holds itself.

Text is searched as it stands and as it reads once its encodings are undone (readings.py). detect-secrets
gives the formats of many issuers; those it lacks, and Hugging Face's, are here. Left out: finding the texts
of a file (contents.py), secrets that only their name gives away (named.py).
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Mapping
from functools import cache, partial
from itertools import islice
from typing import Any

from ..errors import UsageError
from .named import SECRET_NAME, find_named, is_credential
from .readings import readings

_HUGGING_FACE = re.compile(
    r"(?:hf|api_org)_[A-Za-z0-9]{30,}|hf_[a-z]{2,12}_(?:[A-Za-z0-9]{20,}|eyJ[\w-]{10}[\w.-]*)"
)
# That of detect-secrets tries every "eyJ" of a text to its end. This one reads each run of letters once. The
# first part ends as the Base64 of a brace does.
_JWT = re.compile(
    r"(?<![\w=-])(?=[\w=-]*eyJ[\w-]{12})[\w=-]++(?:(?<=[90=])|(?<=fQ))\.[\w=-]{10,}(?:\.[\w+/=-]*){0,3}"
)
_FORMS = {  # no word boundary at the left: a token may follow any letter of an escape
    "a Hugging Face access token": _HUGGING_FACE,
    "a private key": re.compile(
        r"-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----|PuTTY-User-Key-File-\d"
        r"|AGE-SECRET-KEY-1[A-Z0-9]{20}"
    ),
    "a GitHub token": re.compile(r"github_pat_\w{22,}"),
    "a GitLab token": re.compile(r"gl(?:pat|dt|rt|cbt|ptt|soat)-[\w-]{20,}"),
    "an OpenAI or Anthropic key": re.compile(
        r"(?:(?<![A-Za-z0-9])|(?<=\\[nrtbf]))sk-(?:ant|proj|svcacct|admin|or)-(?=[\w-]{0,99}\d)[\w-]{20,}"
        r"|sk-(?:ant|proj|svcacct|admin|or)-(?=[A-Za-z_]{0,99}\d)\w{20,}|sk-[A-Za-z0-9]{48}"
    ),
    "a Google key": re.compile(r"AIza[\w-]{35}|ya29\.[\w-]{20,}|GOCSPX-[\w-]{20,}"),
    "an AWS key": re.compile(r"(?:AKIA|ASIA)[0-9A-Z]{16}"),
    "a JSON Web Token": _JWT,
    "a PyPI token": re.compile(r"pypi-AgE[\w-]{40,}"),
    "an Azure key": re.compile(r"AccountKey=[A-Za-z0-9+/]{40,}|[?&;]sig=[A-Za-z0-9%+/]{40,}(?:%3[Dd]|=)"),
    "a Weights & Biases key": re.compile(r"wandb_v\d_\w{20,}"),
    "a key of a model host": re.compile(r"gsk_[A-Za-z0-9]{40,}|r8_[A-Za-z0-9]{36,}|KGAT_[0-9a-f]{32}"),
    "a Telegram bot's token": re.compile(r":(?<=\d{8}:)AA[\w-]{33}"),
    "a login of .netrc": re.compile(r"machine\s+\S+\s+login\s+\S+\s+password\s+\S+"),
    "a Kaggle key": re.compile(r'"username"\s*:\s*"[^"]{1,64}"\s*,\s*"key"\s*:\s*"[0-9a-f]{32}"'),
    "a service account": re.compile(r'"type"\s*:\s*"service_account"'),
}
_DETECTORS = (  # of detect-secrets: those whose form alone tells, and that no vocabulary matches
    *("aws.AWSKeyDetector", "basic_auth.BasicAuthDetector", "discord.DiscordBotTokenDetector"),
    *("github_token.GitHubTokenDetector", "mailchimp.MailchimpDetector"),
    *("npm.NpmDetector", "sendgrid.SendGridDetector", "slack.SlackDetector"),
    *("square_oauth.SquareOAuthDetector", "stripe.StripeDetector", "twilio.TwilioKeyDetector"),
)
_RAW_STARTS = (  # of tokens worth a search in gigabytes of weights, where no format tells texts
    *(b"hf_", b"api_org_", b"-----BEGIN ", b"github_pat_", b"ghp_", b"gho_", b"ghs_", b"glpat-", b"sk-ant-"),
    *(b"sk-proj-", b"xoxb-", b"xoxp-", b"AKIA", b"AIza", b"pypi-AgE", b"wandb_v"),
)
_NO_PASSWORDS = {"password", "passwd", "pass", "secret", "changeme", "example", "postgres", "root", "admin"}
_ENVIRONMENT_LINE = re.compile(r"(?:export\s+)?[A-Z][A-Z0-9_]*=.*")
_SHORTEST, _SHORTEST_PASSWORD, _SHORTEST_PLAIN = 8, 10, 16  # with letters and digits, and otherwise


class Secrets:
    """What to look for: the known forms, and the secrets that this machine holds."""

    def __init__(self, own_token: str | None = None):
        from huggingface_hub import get_token

        held = {
            v.strip(): f"the value of {k}"
            for k, v in os.environ.items()
            if SECRET_NAME.search(k) and _is_secret(k, v.strip())
        }
        given = [t.strip() for t in (own_token, get_token()) if t]
        self.own = held | {t: "the access token of this machine" for t in given if _is_secret("TOKEN", t)}

    def find(self, text: str) -> tuple[str, int | None] | None:
        """What secret `text` holds and in which line (None where an escape hides it), or None."""
        for depth, reading in enumerate(readings(text)):
            if hit := self._find_plain(reading):
                return hit[0], reading.count("\n", 0, hit[1]) + 1 if depth == 0 else None
        return None

    def _find_plain(self, text: str) -> tuple[str, int] | None:
        for value, what in self.own.items():
            if (at := text.find(value)) >= 0:
                return what, at
        for what, form in _forms().items():
            for match in form.finditer(text):
                if _is_real(what, match):
                    return what, match.start()
        return find_named(text)

    def find_bytes(self, data: bytes) -> str | None:
        """The same for raw bytes of any kind, for what is worth a search there: tokens and own secrets."""
        for start in _RAW_STARTS:
            at = data.find(start)
            while at >= 0:
                text = data[at : at + 200].decode("latin-1")
                for what, form in _forms().items():
                    if form.match(text):
                        return what
                at = data.find(start, at + 1)
        return next((what for value, what in self.own.items() if value.encode() in data), None)

    def redact(self, text: str) -> str:
        """The text without the secrets that stand in it as they are."""
        for value in self.own:
            text = text.replace(value, "[removed]")
        for what, form in _forms().items():
            text = form.sub(partial(_removed, what), text)
        return text


@cache
def _forms() -> dict[str, re.Pattern[str]]:
    """What is looked for by its form: name -> pattern."""
    from importlib import import_module

    found = dict(_FORMS)
    for place in _DETECTORS:
        module, _, name = place.partition(".")
        detector: Any = getattr(import_module(f"detect_secrets.plugins.{module}"), name)
        for number, form in enumerate(detector.denylist):
            label = detector.secret_type.removesuffix(" Credentials")
            found[f"credentials ({label})" + " " * number] = form
    return found


def _is_real(what: str, match: re.Match[str]) -> bool:
    """Whether a text is what its form says: two forms also fit what is none."""
    if what == "a JSON Web Token":
        return _begins_with_json(match[0].partition(".")[0])
    if what.startswith("credentials (Basic Auth)"):  # postgres:postgres, user:password
        user, _, password = match[0].removeprefix("://").removesuffix("@").partition(":")
        return password != user and password.lower() not in _NO_PASSWORDS
    return True


def _begins_with_json(part: str) -> bool:
    """Whether what stands behind an "eyJ" is the Base64 of a JSON object."""
    for start in islice(re.finditer("eyJ", part), 20):
        digits = part[start.start() :].rstrip("=")
        try:
            if isinstance(json.loads(base64.urlsafe_b64decode(digits + "=" * (-len(digits) % 4))), dict):
                return True
        except (ValueError, RecursionError):
            continue
    return False


def _removed(what: str, match: re.Match[str]) -> str:
    return "[removed]" if _is_real(what, match) else match[0]


def refuse_secrets(
    texts: Mapping[str, str | None], token: str | None, instead: str, readers: str = "everybody"
) -> None:
    """Raises UsageError, without showing it, for a secret in what is published as it was typed.

    texts: by the option that gave them. instead: what to do. readers: who could read it.
    """
    secrets = Secrets(token)
    for option, text in texts.items():
        hit = secrets.find(text) if text else None
        if hit or is_credential(option, text or ""):
            what = hit[0].strip() if hit else "a secret, by its name"
            raise UsageError(f"{option} holds {what}, and {readers} could read it: {instead}")


def is_environment_file(text: str) -> bool:
    """Whether a text has the shape of a .env file, whatever it is called."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return bool(lines) and all(_ENVIRONMENT_LINE.fullmatch(line) for line in lines)


def _is_secret(name: str, value: str) -> bool:
    """Long enough that it stands in no text by chance; a path is looked for elsewhere."""
    if os.sep in value and os.path.exists(value):
        return False
    password = re.search(r"pass|pwd", name, re.IGNORECASE)
    mixed = re.search(r"\d", value) and re.search(r"[A-Za-z]", value)
    if mixed and (password or not re.search(r"\s", value)):
        return len(value) >= _SHORTEST
    return len(value) >= (_SHORTEST_PASSWORD if password else _SHORTEST_PLAIN)
