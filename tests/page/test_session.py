"""Who has logged in stays so: for 30 days, over restarts, until the token or the key is another one."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrenar_otel.errors import ConfigError
from entrenar_otel.lake import Lake
from entrenar_otel.page.guesses import BURST, Guesses
from entrenar_otel.page.proxies import client_of, networks_of
from entrenar_otel.page.session import COOKIE, Session
from entrenar_otel.page.session_key import session_key
from tests.page.conftest import Client, Serve

TOKEN = "s3cret-of-the-team"
FORM = urlencode({"token": TOKEN}).encode()


def _cookie(page: Client) -> str:
    return page("/login", "POST", FORM).headers["Set-Cookie"].partition(";")[0]


def test_a_restart_asks_nobody_again(lake: Lake, serve: Serve) -> None:
    key = session_key()
    assert key is not None
    cookie = _cookie(serve(lake, token=TOKEN, session_key=key))
    assert serve(lake, token=TOKEN, session_key=session_key())("/api/runs", Cookie=cookie).status == 200
    for others in ({"token": "another", "session_key": key}, {"token": TOKEN, "session_key": bytes(32)}):
        assert serve(lake, **others)("/api/runs", Cookie=cookie).status == 401
    assert serve(lake, token=TOKEN)("/api/runs", Cookie=cookie).status == 401


def test_a_cookie_ends() -> None:
    now = [1_000_000.0]
    session = Session(TOKEN.encode(), bytes(32), lambda: now[0])
    told = session.log_in(FORM, is_secure=False)
    assert told is not None
    cookie = told.partition(";")[0]
    assert "Max-Age=2592000" in told
    now[0] += 30 * 86400
    assert session.has_ticket(cookie)
    now[0] += 1
    assert not session.has_ticket(cookie)


@given(st.text())
def test_no_other_value_opens_it(value: str) -> None:
    session = Session(TOKEN.encode(), bytes(32), lambda: 1000.0)
    told = session.log_in(FORM, is_secure=False)
    assert told is not None
    since, _, signature = told.partition(";")[0].partition("=")[2].partition(".")
    for forged in (value, f"{since}.{value}", f"{value}.{signature}"):
        assert not session.has_ticket(f"{COOKIE}={forged}") or forged == f"{since}.{signature}"


def test_the_key_is_nobody_elses(tmp_path: Path) -> None:
    """Made once, for its owner alone; one that others may have read or made is not used."""
    key = session_key(tmp_path / "new")
    path = tmp_path / "new" / "page.key"
    assert key is not None
    assert key == session_key(tmp_path / "new") == path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [*path.parent.iterdir()] == [path]
    path.chmod(0o640)
    assert session_key(path.parent) is None
    path.chmod(0o600)
    path.write_bytes(key[:-1])
    assert session_key(path.parent) is None
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert session_key(path.parent) is None
    (tmp_path / "file").touch()
    assert session_key(tmp_path / "file") is None


def test_two_that_begin_together_have_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = session_key(tmp_path)
    monkeypatch.setattr(Path, "exists", lambda _self: False)
    assert session_key(tmp_path) == first
    assert len(os.listdir(tmp_path)) == 1


# -- proxies ---------------------------------------------------------------------------------------------


def test_behind_a_trusted_proxy_each_is_counted_for_itself(lake: Lake, serve: Serve) -> None:
    """And without that option all are one, whatever a header says."""
    for trusted, status in ((networks_of(["127.0.0.1"]), 401), ((), 429)):
        page = serve(lake, token=TOKEN, trusted_proxies=trusted)
        page.server.guesses = Guesses(lambda: 0.0)
        for _ in range(BURST):
            page("/api/runs", Authorization="Bearer wrong", X_Forwarded_For="203.0.113.9, 198.51.100.1")
        same = page("/api/runs", Authorization="Bearer wrong", X_Forwarded_For="198.51.100.1")
        other = page("/api/runs", Authorization="Bearer wrong", X_Forwarded_For="198.51.100.2")
        assert (same.status, other.status) == (429, status)


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        ([], "10.0.0.7"),
        (["198.51.100.1"], "198.51.100.1"),
        (["203.0.113.9, 198.51.100.1"], "198.51.100.1"),
        (["203.0.113.9", "198.51.100.1, 10.1.1.1"], "198.51.100.1"),
        (["198.51.100.1:4711"], "198.51.100.1"),
        (["[2001:db8::1]:4711"], "2001:db8::1"),
        (["2001:db8::1"], "2001:db8::1"),
        (["198.51.100.1, ::ffff:10.0.0.9"], "198.51.100.1"),
        (["10.0.0.9"], "10.0.0.9"),
        (["198.51.100.1, unknown"], "10.0.0.7"),
        (["198.51.100.1, "], "10.0.0.7"),
    ],
)
def test_who_asks(forwarded: list[str], client: str) -> None:
    trusted = networks_of(["10.0.0.0/8"])
    assert client_of("10.0.0.7", forwarded, trusted) == client
    assert client_of("::ffff:10.0.0.7", ["198.51.100.1"], trusted) == "198.51.100.1"
    assert client_of("192.0.2.1", forwarded, trusted) == "192.0.2.1"
    assert client_of("10.0.0.7", forwarded, ()) == "10.0.0.7"


def test_no_network() -> None:
    with pytest.raises(ConfigError, match=r"expected --trusted-proxy an address or a network.*'proxy'"):
        networks_of(["proxy"])
