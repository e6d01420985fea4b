"""Secrets that only the name they stand under gives away: `WANDB_API_KEY=...`, in any usual notation.

The value must look drawn by lot, since names alone also stand in ordinary text. Left out: secrets that their
own form gives away (secrets.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

SECRET_NAME = re.compile(
    r"(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|PAT|CREDENTIAL|(?:^|_)PASS|(?:^|_)PWD)S?$", re.IGNORECASE
)
_NO_SECRET = re.compile(  # names of ids, and words that end so
    r"^-*keys?$"
    r"|(?:^|[^a-z])(?:primary|foreign|cache|sort|answer|partition|row|index|lookup|group|unique|dedup|join|hash"
    r"|item|example|sample|question|record|object|data|state|public|hot|shortcut|storage|s3|run|prefix|file)"
    r"[_.\- ]?keys?$"
    r"|(?:mon|don|tur|hoc|joc|whis)keys?$|public[_.\- ]?key[_.\- ]?token$"
    r"|(?:^|[^a-z])(?:first|second|third|last|best|one|two|single|multi|forward|backward)[_.\- ]?pass(?:es)?$"
    r"|^pass$",
    re.IGNORECASE,
)
_ASSIGNED = re.compile(
    r"""(?:^|[\[{(,;|%])[ \t]*(?:export[ \t]+|set[ \t]+|-[ \t]+)?["'`]?
    (?P<name>[A-Z][A-Z0-9_]*|[A-Za-z0-9_.-]*[_.-][A-Za-z0-9]+|pass(?:word|wd)|secret|token|api-?key)["'`]?
    [ \t]*[=:][ \t]*["'`]?(?P<value>[^\s"'`#,;)\]}]{8,})""",
    re.MULTILINE | re.VERBOSE,
)
_ANYWHERE = re.compile(  # the end of a name, and what stands between it and its value
    r"""(?:key|token|secret|passw(?:or)?d|passphrase|pat|pass|pwd|credential)s?(?![\w.-])
    (?P<between>
      (?:["'`]|\*\*)?[ \t]{0,9}\]?[ \t]{0,9}(?::[ \t]{0,9}[A-Za-z_][\w.\[\] |]{0,40}=|:?=>?|==|:)[ \t]{0,9}
      (?:[\[(]\s{0,40})?  # a: b = , A = ["b"]
      |["'`][ \t]{0,9},[ \t]{0,9}(?=["'`])  # setdefault("a", "b")
      |["'`][ \t]{0,9},[^"'`\n]{0,80}\bdefault[ \t]{0,9}=[ \t]{0,9}  # add_argument("--a", default="b")
      |["'`]?>  # <a>b</a>
      |["'`]?\s{0,40},?\s{0,40}["'`]?value["'`]?[ \t]{0,9}[:=][ \t]{0,9}  # name: a, value: b
      |[ \t]{1,9}(?:\|[ \t]{0,9})?  # --a b, ENV A b
    )(?:[rbf]{0,2}["'`])?(?P<value>[^\s"'`#,;)\]}<>&|]{8,})""",
    re.IGNORECASE | re.VERBOSE,
)
_LOGIN = re.compile(
    r"""\b(?:login(?:\(\s{0,40}|[ \t]+)(?:--relogin[ \t]+)?(?:key[ \t]*=[ \t]*)?|Bearer[ \t]+)["'`]?
    (?P<value>[\w./+=-]{16,})""",
    re.VERBOSE,
)
_NAME_BEFORE = re.compile(
    r"(?:\b(?:api|access|secret|account|auth|service|wandb|w&b|openai|anthropic) )?[\w.-]*$", re.IGNORECASE
)
_VALUE = re.compile(r"(?=[^\d]*\d)(?=[^A-Za-z]*[A-Za-z])[A-Za-z0-9+/=_.~!@%^*-]+")
_HEX = re.compile(r"[0-9a-f]{20,}|[0-9A-F]{20,}")
_RUN = re.compile(r"[A-Za-z0-9]{8,}")
_TURN = re.compile(r"(?<=[A-Za-z])(?=\d)|(?<=\d)(?=[A-Za-z])|(?<=[a-z])(?=[A-Z])")
_PLACEHOLDER = re.compile(
    r"your|example|changeme|placeholder|dummy|redacted|xxx|\*\*\*|\.\.\.|environ|getenv", re.IGNORECASE
)
_SHORTEST_PASSWORD, _SHORTEST, _LONGEST_ID = 8, 16, 40
_TURNS = 0.2  # a character, on average; three times that is usual where characters are drawn by lot


def find_named(text: str) -> tuple[str, int] | None:
    """A secret in a text that its name gives away, as (what, where), or None."""
    for match in _ASSIGNED.finditer(text):
        if is_credential(match["name"], match["value"]):
            return f"a value for {match['name']}", match.start()
    for name, value, at in _anywhere(text):
        if is_credential(name, value) and looks_random(value):
            return f"a value for {name.lstrip('-.')}", at
    return _in_table(text)


def _anywhere(text: str) -> Iterator[tuple[str, str, int]]:
    for match in _ANYWHERE.finditer(text):
        start = max(0, match.start() - 80)
        end = match.start("between")
        name = _NAME_BEFORE.findall(text[start:end])[0]
        blank = not match["between"].strip()
        if match["value"].endswith("..."):  # cut off by hand
            continue
        if not blank or name.startswith("--") or ("_" in name and name.isupper()):
            yield name, match["value"].rstrip(".:!?\\"), match.start()
    yield from (("login token", match["value"], match.start()) for match in _LOGIN.finditer(text))


def _in_table(text: str) -> tuple[str, int] | None:
    """The same for a table whose first line has the names: CSV with commas, semicolons or tabs."""
    head, newline, rest = text[:4096].partition("\n")
    mark = next((mark for mark in ",;\t" if mark in head), None)
    if not newline or mark is None:
        return None
    names = [name.strip(" \"'\r") for name in head.split(mark)]
    secret = [at for at, name in enumerate(names) if is_secret_name(name)]
    at = len(head) + 1
    for line in text[at:].split("\n") if secret else ():
        cells = [cell.strip(" \"'\r") for cell in line.split(mark)]
        for column in secret:
            value = cells[column] if column < len(cells) else ""
            if is_credential(names[column], value) and looks_random(value):
                return f"a value for {names[column]}", at
        at += len(line) + 1
    return None


def is_credential(name: str, value: str) -> bool:
    """Whether `name: value` gives away a secret: the name says so, and the value is not a placeholder."""
    if not is_secret_name(name) or _PLACEHOLDER.search(value) or not _VALUE.fullmatch(value):
        return False
    if not (name.isupper() and "_" in name) and _is_id(name, value):  # AZURE_PRIMARY_KEY is no id
        return False
    if re.search(r"pass", name, re.IGNORECASE):
        return len(value) >= _SHORTEST_PASSWORD
    return len(value) >= _SHORTEST and looks_random(value)


def _is_id(name: str, value: str) -> bool:
    """Of a row, a file or a digest: seldom longer than SHA-1's; and of tokens what is in hexadecimal."""
    digest = bool(_HEX.fullmatch(value))
    if _NO_SECRET.search(name):
        return len(value) < _LONGEST_ID or digest or "." in value
    return digest and name.lower().endswith("tokens")


def looks_random(value: str) -> bool:
    """Not words and numbers: a long run of letters and digits that change all the time, or hexadecimal."""
    runs = _RUN.findall(value)
    turns = sum(len(_TURN.findall(run)) for run in runs)
    return bool(_HEX.fullmatch(value) or (runs and turns >= _TURNS * sum(map(len, runs))))


def is_secret_name(name: str) -> bool:
    return bool(SECRET_NAME.search(name))
