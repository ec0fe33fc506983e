"""What may be shown: text without secrets, which steers no terminal.

A URL can hold a secret anywhere: in its user and password, its query, and for a chat's webhook in its path.
`without_secrets` is for texts about such URLs, and leaves their origin; `redacted` is for all other texts,
and leaves paths.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,20})://(.*)", re.DOTALL)
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.%]*\]|[^\s:\[\]]*)(?::[0-9]{1,5})?")
# A quote or bracket ends a URL, but not within a user or password, nor where the URL goes on after it.
_URL_IN_TEXT = re.compile(
    r"""[A-Za-z][A-Za-z0-9+.-]{0,20}://(?:\S{0,2000}@)?(?:[^\s'"<>]|['"<>](?=[.~'"<>]{0,9}[\w%/+=&?#-]))*"""
)


def origin_of(url: str) -> str:
    """Scheme, host and port of an http(s) URL; of any other URL the scheme alone.

    >>> origin_of("https://me:secret@hooks.example.com:8443/T0/B0?key=1"), origin_of("slack://token/token")
    ('https://hooks.example.com:8443', 'slack://…')
    """
    url_parts = _URL.fullmatch(url)
    if url_parts is None:
        return "text that is not a URL"
    scheme, rest = url_parts.groups()
    if scheme.lower() not in ("http", "https"):
        return f"{scheme}://…"
    host, _ = _host_and_path(rest)
    return f"{scheme}://{host if host and host.isprintable() else '…'}"


def without_secrets(text: str) -> str:
    """The text, such as an error's, with each URL in it cut to its `origin_of`.

    >>> without_secrets("404 for url 'https://hooks.example.com/T0/B0'")
    "404 for url 'https://hooks.example.com'"
    """
    return _URL_IN_TEXT.sub(lambda url: origin_of(url[0]), text)


def without_credentials(url: str) -> str:
    """A URL without user, password, query and fragment; a path as it is.

    >>> without_credentials("s3://key:secret@bucket/lake?token=1"), without_credentials("/data/lake")
    ('s3://bucket/lake', '/data/lake')
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    host, path = _host_and_path(rest)
    return f"{scheme}://{'…' if host is None else host}{path}"


def printable_line(text: str) -> str:
    r"""The text on one line; `?` for each character that would steer a terminal or hide others.

    >>> printable_line("two\nlines \x1b[31m")
    'two lines ?[31m'
    """
    return "".join(char if char.isprintable() else "?" for char in " ".join(text.split()))


def printable_text(text: str) -> str:
    r"""The same for a text of several lines: they and their tabs stay.

    >>> printable_text("two\n\tlines \x1b[31m\r\n")
    'two\n\tlines ?[31m\n'
    """
    text = text.replace("\r\n", "\n")
    return text if text.isprintable() else _STEERING.sub(_mark, text)


def printable_json(text: str) -> str:
    r"""The same for JSON, of which nothing is lost: such characters are written as escapes.

    >>> printable_json('{"name": "\x9b31m\u202e"}')
    '{"name": "\\u009b31m\\u202e"}'
    """
    return text if text.isprintable() else _STEERING.sub(_escape, text)


#: What may not be printable; the rest of ASCII is.
_STEERING = re.compile(r"[^\n\t -~]")


def _mark(char: re.Match[str]) -> str:
    return char[0] if char[0].isprintable() else "?"


def _escape(char: re.Match[str]) -> str:
    return char[0] if char[0].isprintable() else json.dumps(char[0])[1:-1]


# -- texts -------------------------------------------------------------------------------------------

#: Characters of a text that are looked through; it ends with the last whole word of them.
_MAX_TEXT = 100_000
_USER_INFO = re.compile(r"""[^\s:@'"<>/]{1,100}:(?!//|sha256:)[^\s'"<>@]{3,200}@(?!sha256:)(?=[\w.\[-])""")
_QUERY = re.compile(r"""\?[^\s'"<>?=&/]{1,100}=[^\s'"<>)]*""")
_AUTHORIZATION = re.compile(
    r"""\b((?:proxy-)?authorization|(?:set-)?cookie)(["']?\s{0,3}[=:]\s{0,3}["']?)[^\r\n'",;]+""",
    re.IGNORECASE,
)
_BEARER = re.compile(r"\bBearer\s{1,3}(?!…)[\w~+/.=-]{6,}", re.IGNORECASE)
_NAMED = re.compile(
    r"""(?<![\w.-])(["']?)([A-Za-z][\w.-]{1,60})\1(\s{0,3}[=:]\s{0,3})("[^"\n]*"|'[^'\n]*'|[^\s,;&)}\]'"]+)"""
)
#: The last word of a name that is one of a secret, where it stands in a text.
_SECRET_WORDS = frozenset(
    ["key", "token", "secret", "password", "passwd", "pwd", "passphrase", "credential", "credentials"]
)
#: Tokens that are known by their form: Hugging Face, OpenAI, GitHub, AWS, Slack, JWT.
_TOKENS = re.compile(
    r"\b(?:hf_\w{20,}|sk-[\w-]{20,}|gh[pousr]_\w{30,}|AKIA[0-9A-Z]{16}|xox[abeprs]-[\w-]{10,}"
    r"|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]*)"
)


def redacted(text: str) -> str:
    """A text of whatever origin, without what looks like a secret in it; a `…` is where one was.

    User, password, query and fragment of URLs, with a scheme or without; the values of
    `Authorization`, `…key=`, `…token=`, `…secret=`, `…password=`; tokens that are known by their form.

    >>> redacted("no answer from http://me:pw@host/p?sig=1, url: /p?sig=1, api_key='abc'")
    'no answer from http://host/p, url: /p?… api_key=…'
    """
    if len(text) > _MAX_TEXT:
        text = text[:_MAX_TEXT].rpartition(" ")[0]
    text = _URL_IN_TEXT.sub(lambda url: _shown_url(url[0]), text)
    if "@" in text:
        text = _USER_INFO.sub("…@", text)
    if "?" in text:
        text = _QUERY.sub("?…", text)
    text = _AUTHORIZATION.sub(r"\1\2…", text)
    text = _BEARER.sub("Bearer …", text)
    return _TOKENS.sub("…", _NAMED.sub(_hidden, text))


def _shown_url(url: str) -> str:
    """A URL of a text, at whose end there may be a stop of the sentence."""
    whole = url.rstrip(".,:;")
    return without_credentials(whole) + url[len(whole) :]


def _hidden(match: re.Match[str]) -> str:
    quote, name, separator, value = match.groups()
    words = re.split(r"[^A-Za-z]+|(?<=[a-z])(?=[A-Z])", name)
    last = next((word.lower() for word in reversed(words) if word), "")
    if last not in _SECRET_WORDS:
        return match[0]
    bare = value.strip("'\"")
    is_sure = (
        bare != value
        or "=" in separator
        or _is_password(name)
        or len(bare) > 15
        or any(map(str.isdigit, bare))
    )
    # "unknown key: loss", "sorted(key=len)", "no such key: our default is used" are prose
    is_prose = not is_sure or (len(words) == 1 and (last == "key" or (last == "token" and ":" in separator)))
    if is_prose or _is_harmless(name, bare):
        return match[0]
    return f"{quote}{name}{quote}{separator}…"


# -- settings ----------------------------------------------------------------------------------------

#: What stands for a value that is left out.
LEFT_OUT = "[redacted]"
_SECRET_NAME = re.compile(r"key|token|secret|passw|passphrase|pwd|credential|authorization", re.IGNORECASE)
#: Names of machine learning, and words, in which the above are something else.
_HARMLESS_NAME = re.compile(
    r"tokeni[sz]|key_?points?|key_?frames?|key_?words?|key_?board|(?:pad|eos|bos|unk|mask|sep|cls)[_-]?token",
    re.IGNORECASE,
)
_PLAIN = re.compile(r"[+-]?[\d._]{1,8}(?:e[+-]?\d{1,3})?|true|false|none|null|yes|no|on|off", re.IGNORECASE)
_OVERRIDE = re.compile(r"[+~]{0,2}[\w./@-]+")


def is_secret_name(name: str) -> bool:
    """Whether what a setting of this name holds may be a secret.

    >>> [is_secret_name(name) for name in ("wandb.api-key", "hf_token", "tokenizer", "lr")]
    [True, True, False, False]
    """
    return bool(_SECRET_NAME.search(_HARMLESS_NAME.sub("", name)))


def arguments_without_secrets(arguments: Sequence[str]) -> list[str]:
    """A command line without the values of options whose names are those of secrets.

    >>> arguments_without_secrets(["--api-key=X", "--token", "Y", "db.password=Z", "--max-tokens", "512"])
    ['--api-key=[redacted]', '--token', '[redacted]', 'db.password=[redacted]', '--max-tokens', '512']
    """
    kept: list[str] = []
    waiting = ""  # the option whose value comes next
    for argument in arguments:
        is_option = argument.startswith("--") or bool(
            re.fullmatch(r"-[A-Za-z]\w*(?:[-.]\w+)*(?:=.*)?", argument, re.DOTALL)
        )
        name, equals, value = argument.partition("=")
        if waiting and not is_option:
            kept.append(argument if _is_harmless(waiting, argument) else LEFT_OUT)
            waiting = waiting if waiting.endswith("s") else ""  # --keys A B
        elif is_option or (equals and _OVERRIDE.fullmatch(name)):
            is_secret = is_secret_name(name)
            hides = is_secret and bool(equals) and not _is_harmless(name, value)
            kept.append(f"{name}={LEFT_OUT}" if hides else redacted(argument))
            waiting = name if is_secret and not equals else ""
        else:
            kept.append(redacted(argument))
    return kept


def settings_without_secrets(value: Any, name: str = "") -> Any:
    """A document of JSON's types without the texts under keys whose names are those of secrets.

    >>> settings_without_secrets({"lr": 0.1, "hub": {"token": "X"}, "num_key_value_heads": 8})
    {'lr': 0.1, 'hub': {'token': '[redacted]'}, 'num_key_value_heads': 8}
    """
    if isinstance(value, Mapping):
        return {
            key: settings_without_secrets(inner, name if is_secret_name(name) else str(key))
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [settings_without_secrets(element, name) for element in value]
    if isinstance(value, str):
        return LEFT_OUT if is_secret_name(name) and not _is_harmless(name, value) else redacted(value)
    return (
        LEFT_OUT
        if isinstance(value, int | float) and _is_password(name) and not isinstance(value, bool)
        else value
    )


def _is_harmless(name: str, value: str) -> bool:
    """A number or a switch is no token and no key, though it may be a password."""
    return not value or (_is_plain(value) and not _is_password(name))


def _is_plain(value: str) -> bool:
    return bool(_PLAIN.fullmatch(value))


def _is_password(name: str) -> bool:
    return bool(re.search(r"passw|passphrase|pwd|secret", name, re.IGNORECASE))


# -- URLs --------------------------------------------------------------------------------------------


def _host_and_path(rest: str) -> tuple[str | None, str]:
    """What follows `://`, without user, query and fragment; (None, "") where the host is unclear.

    A password should have its `/`, `?` and `#` encoded. In AWS's secret keys the `/` often is not: then
    what looks like host and port is invalid, and all up to the last `@` is user and password.
    """
    host, path = _cut(rest)
    if not _HOST.fullmatch(host):
        host, path = _cut(rest.rpartition("@")[2])
    return (host, path) if _HOST.fullmatch(host) else (None, "")


def _cut(rest: str) -> tuple[str, str]:
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    path = re.split(r"[?#]", rest[len(authority) :], maxsplit=1)[0]
    return authority.rpartition("@")[2], path
