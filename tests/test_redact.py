"""Redaction: nothing that is shown has a secret of a URL in it, or a character that steers a terminal."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrenar_otel.redact import (
    LEFT_OUT,
    arguments_without_secrets,
    is_secret_name,
    origin_of,
    printable_json,
    printable_line,
    printable_text,
    redacted,
    settings_without_secrets,
    without_credentials,
    without_secrets,
)

SECRET = "hunter2"
HOSTS = st.sampled_from(
    ["hooks.example.com", "host:8443", "[::1]", "[::1]:80", "10.0.0.1", "bücher.example", "bucket"]
)
SCHEMES = st.sampled_from(["http", "https", "HTTPS", "s3", "gs", "postgresql", "slack", "a+b-c.d"])
# Encoded as it should be, or not, as base64 often is not: AWS's secret keys have `/` and `+`.
AROUND = st.text(max_size=8).map(lambda text: quote(text, safe="", errors="replace")) | st.text("aZ+/=?#")
SECRETS = st.builds("{}{}{}{}".format, st.sampled_from(["", "'", '"']), AROUND, st.just(SECRET), AROUND)


@st.composite
def urls(draw: st.DrawFn, schemes: st.SearchStrategy[str] = SCHEMES) -> str:
    """A URL whose user, password, query or fragment is secret."""
    user, query = "", ""
    if draw(st.booleans()):
        user = draw(st.sampled_from(["", "key", SECRET])) + ":" + draw(SECRETS) + "@"
    if draw(st.booleans()) or not user:
        query = draw(st.sampled_from("?#")) + f"key={draw(SECRETS)}"
    path = draw(st.sampled_from(["", "/", "/lake", "/T0/me@home", "/a:b/c"])) if not user else "/lake"
    return f"{draw(schemes)}://{user}{draw(HOSTS)}{path}{query}"


@given(urls())
def test_no_credential_survives(url: str) -> None:
    """Of a URL alone: neither user and password nor query and fragment; what is cut stays cut."""
    shown = without_credentials(url)
    assert SECRET not in shown
    assert without_credentials(shown) == shown
    assert SECRET not in origin_of(url)


@given(st.lists(urls(), min_size=1, max_size=3), st.sampled_from([" ", "\n", "' '", '", "', "', '", ">, <"]))
def test_no_secret_survives_in_a_text(several: list[str], between: str) -> None:
    """Of an error that quotes URLs: nothing but schemes and hosts, and the rest of the text."""
    shown = without_secrets(f"404 for '{between.join(several)}' today")
    assert SECRET not in shown
    assert shown.startswith("404 for '")
    assert shown.endswith("' today")
    assert shown.count("://") == len(several)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters=":")))
def test_a_text_without_urls_stays_as_it_is(text: str) -> None:
    """So does a path of the file system."""
    assert without_secrets(text) == text
    assert without_credentials(text) == text


@pytest.mark.parametrize(
    ("url", "without", "origin"),
    [
        ("https://host:8443/a/b", "https://host:8443/a/b", "https://host:8443"),
        ("https://me:pw@host/a@b?c#d", "https://host/a@b", "https://host"),
        ("https://host/@me/x:y@z", "https://host/@me/x:y@z", "https://host"),
        ("http://[::1]:80/x@y", "http://[::1]:80/x@y", "http://[::1]:80"),
        ("s3://bucket/run@2", "s3://bucket/run@2", "s3://…"),
        ("s3://AKIA:a/b+c=@bucket/lake", "s3://bucket/lake", "s3://…"),
        ("s3://AKIA:/b@bucket/lake", "s3://bucket/lake", "s3://…"),
        ("https://me:p#w@host/x", "https://host/x", "https://host"),
        ("https://me:password", "https://…", "https://…"),
        ("https://host\x1b[2J/x", "https://…", "https://…"),
        ("https://[::1/x", "https://…", "https://…"),
        ("file:///data/lake", "file:///data/lake", "file://…"),
        ("/data/me@host:x", "/data/me@host:x", "text that is not a URL"),
        ("", "", "text that is not a URL"),
        ("S3+x-1.2://pw@host/x?y", "S3+x-1.2://host/x", "S3+x-1.2://…"),
    ],
)
def test_what_is_shown_of_a_url(url: str, without: str, origin: str) -> None:
    """Host and path where they can be told; never a guess that may be a password."""
    assert (without_credentials(url), origin_of(url)) == (without, origin)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("404 for url 'https://me:p'w@host/T0?k=v' today", "404 for url 'https://host' today"),
        ("refused 'https://me:p',w@host/T0'.", "refused 'https://host'."),
        ('{"url":"https://host/T0","status":404}', '{"url":"https://host","status":404}'),
        ("(see <s3://key:pw@bucket/x>) or https://host/a'b\nend", "(see <s3://…>) or https://host\nend"),
        ("a://b c:// and d:/e", "a://… c://… and d:/e"),
    ],
)
def test_what_is_shown_of_a_text(text: str, shown: str) -> None:
    """Only the URLs change."""
    assert without_secrets(text) == shown


def test_a_long_text_is_no_trouble() -> None:
    """A megabyte that looks like the start of a URL, or of very many, takes no time that anyone notices."""
    assert without_secrets("a" * 1_000_000) == "a" * 1_000_000
    assert "x" not in without_secrets("s3://x'" * 10_000)


@given(
    st.text(st.characters()) | st.text(st.sampled_from("a \n\r\t\x1b[2J\x07\x7f\x9b\u202e\u2028\x85\ud800"))
)
def test_no_control_character_survives(text: str) -> None:
    """No escape sequence, line break, change of direction or half surrogate pair, in one line."""
    shown = printable_line(text)
    assert shown.isprintable()
    assert shown.split() == shown.split(" ") or not shown
    assert printable_line(shown) == shown


def test_what_is_printable_stays() -> None:
    """Letters of any language, and symbols; space is one space."""
    assert printable_line("  损失 é → ½ 🚀\t(50 %)\n") == "损失 é → ½ 🚀 (50 %)"


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_lines_and_json_are_printable(text: str) -> None:
    """Of several lines, lines and tabs stay; of JSON, everything does."""
    lines = printable_text(text)
    assert all(char.isprintable() or char in "\n\t" for char in lines)
    assert printable_text(lines) == lines
    shown = printable_json(json.dumps([text], ensure_ascii=False))
    assert shown.isprintable()
    assert json.loads(shown) == [text]


# -- texts of others ---------------------------------------------------------------------------------


@given(urls(), st.sampled_from(["{}", "got {}, so", "'{}'", "<{}>", "({})", "{}: refused", "at {}."]))
def test_no_url_keeps_its_credentials(url: str, around: str) -> None:
    """Wherever in a text it stands."""
    assert SECRET not in redacted(around.format(url))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("exporting to user:hunter2@127.0.0.1:9, retrying", "exporting to …@127.0.0.1:9, retrying"),
        ("with url: /p?key=hunter2/v1 (Caused by", "with url: /p?… (Caused by"),
        ("Authorization: Bearer hunter2", "Authorization: …"),
        ("authorization Bearer hunter2 é", "authorization Bearer … é"),
        ("{'Cookie': 'id=hunter2; x=hunter2'}", "{'Cookie': '…; x=hunter2'}"),
        ('{"api_key": "hunter2", "lr": 0.1}', '{"api_key": …, "lr": 0.1}'),
        ("Namespace(apiKey='hunter2', max_tokens=512)", "Namespace(apiKey=…, max_tokens=512)"),
        ("password: 1234", "password: …"),
        ("HF_TOKEN=hunter2 AWS_SECRET_ACCESS_KEY=hunter2", "HF_TOKEN=… AWS_SECRET_ACCESS_KEY=…"),
        ("used sk-abcdefghijklmnopqrstuv and AKIAABCDEFGHIJKLMNOP", "used … and …"),
    ],
)
def test_secrets_in_texts(text: str, shown: str) -> None:
    """Without a scheme, as a header, under a name, by their form."""
    assert redacted(text) == shown
    assert redacted(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "KeyError: 'loss'",
        "unknown token: <pad>; unknown key: loss",
        "sorted(key=len) with key = 'loss'",
        "no such key: our default is used, pad_token_id=0",
        "https://host/a/b.jpg and s3://bucket/run@2, really?",
        "git@github.com:me/repo, node7:12 and image:tag@sha256:00ff",
        "retry at 12:30; tokenizer=fast; max_tokens=512",
        "Basic usage of the Bearer",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    """Words of machine learning and of Python, paths, times."""
    assert redacted(text) == text


@pytest.mark.parametrize(
    "part", ["a:", "a:bcd", "?a", "x='", "https://", "a=b ", "@a:", "Bearer ", "key=", "eyJ"]
)
def test_a_long_text_of_anything_is_no_trouble(part: str) -> None:
    """No expression takes time by the square of a text's length."""
    begun = time.process_time()
    redacted(part * (200_000 // len(part)))
    assert time.process_time() - begun < 20


# -- settings ----------------------------------------------------------------------------------------


@given(
    st.sampled_from(["api-key", "api_key", "hfToken", "client-secret", "db.password", "passwd", "x-token-y"]),
    st.sampled_from(["--{0}={1}", "--{0} {1}", "-{0}={1}", "{0}={1}", "++{0}={1}", "--a --{0} {1} --b"]),
    st.sampled_from([SECRET, f"{SECRET} with spaces", f"{SECRET}=x", f"-{SECRET[0]}?{SECRET}"]),
)
def test_no_secret_of_a_command_line_survives(name: str, form: str, value: str) -> None:
    """Behind an equals sign or as the next argument; of Hydra too; the name stays."""
    arguments = [part.format(name, value) for part in form.split(" ")]
    shown = arguments_without_secrets(arguments)
    assert SECRET not in " ".join(shown)
    assert len(shown) == len(arguments)
    assert name in " ".join(shown)


def test_the_rest_of_a_command_line_stays() -> None:
    """Numbers and switches too, whatever their names; a password may be a number."""
    arguments = [
        "train.py",
        "--tokenizer",
        "gpt2",
        "--max-tokens",
        "512",
        "--use-key-bias",
        "--lr",
        "-0.1",
        "x=1",
    ]
    assert arguments_without_secrets(arguments) == arguments
    assert arguments_without_secrets(["--password", "1234"]) == ["--password", LEFT_OUT]
    assert arguments_without_secrets(["--keys", "a", "b", "--lr", "1"]) == [
        "--keys",
        *[LEFT_OUT] * 2,
        "--lr",
        "1",
    ]
    assert arguments_without_secrets(["--u", "http://me:pw@host/x"]) == ["--u", "http://host/x"]


@pytest.mark.parametrize(
    ("config", "kept"),
    [
        ({"hub": {"token": "X", "name": "a"}}, {"hub": {"token": LEFT_OUT, "name": "a"}}),
        ({"keys": ["X", {"any": "Y"}]}, {"keys": [LEFT_OUT, {"any": LEFT_OUT}]}),
        ({"password": 1234, "num_key_value_heads": 8}, {"password": LEFT_OUT, "num_key_value_heads": 8}),
        ({"url": "s3://k:X@b/x", "pad_token": "<pad>"}, {"url": "s3://b/x", "pad_token": "<pad>"}),
        ({"use_key": True, "token": None, "key": ""}, {"use_key": True, "token": None, "key": ""}),
    ],
)
def test_configurations(config: Any, kept: Any) -> None:
    """At any depth; numbers and switches are no secrets."""
    assert settings_without_secrets(config) == kept


def test_names() -> None:
    """As the words stand in them."""
    assert all(map(is_secret_name, ("key", "API_KEY", "secret", "Password", "wandb.token", "credentials")))
    assert not any(map(is_secret_name, ("lr", "tokenizer", "keypoints", "eos_token", "keywords")))
