"""Who may look: tokens, cookies, hosts, other sites; how often somebody may guess."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrenar_otel.errors import ConfigError
from entrenar_otel.lake import Lake
from entrenar_otel.page.answers import Answers
from entrenar_otel.page.guesses import BURST, SECONDS_EACH, Guesses
from entrenar_otel.page.server import PageServer
from entrenar_otel.page.session import COOKIE
from entrenar_otel.page.settings import PageSettings
from entrenar_otel.web.address import Address
from tests.page.conftest import Client, Serve

TOKEN = "s3cret-of-the-team"


@pytest.fixture
def page(lake: Lake, serve: Serve) -> Client:
    return serve(lake)


def test_a_token_is_wanted_everywhere(lake: Lake, serve: Serve) -> None:
    """But for the form and what it looks like; a token in the address opens nothing."""
    page = serve(lake, token=TOKEN)
    for path in ("/api/runs", "/api/about", "/static/app.js", "/static/index.html", "/nowhere"):
        for asked in (path, f"{path}?token={TOKEN}", f"{path}?access_token={TOKEN}"):
            answer = page(asked)
            assert (answer.status, answer.body) == (401, b"a token is required\n")
            assert answer.headers["WWW-Authenticate"] == "Bearer"
    first = page("/")
    assert (first.status, first.headers["Location"]) == (303, "/login")
    assert page("/login").status == page("/static/app.css").status == page("/healthz").status == 200
    assert page("/api/runs", Authorization=f"Bearer {TOKEN}").status == 200
    assert page("/api/runs", Authorization="Bearer wrong").status == 401


def test_log_in_and_out(lake: Lake, serve: Serve) -> None:
    page = serve(lake, token=TOKEN)
    wrong = page("/login", "POST", b"token=wrong")
    assert (wrong.status, wrong.headers["Location"], "Set-Cookie" in wrong.headers) == (
        303,
        "/login#wrong",
        False,
    )
    right = page("/login", "POST", urlencode({"token": TOKEN}).encode())
    cookie = right.headers["Set-Cookie"]
    assert (right.status, right.headers["Location"]) == (303, "/")
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(cookie.split("; "))
    assert TOKEN not in cookie
    sent = cookie.partition(";")[0]
    assert page("/api/runs", Cookie=sent).status == 200
    assert page("/api/runs", Cookie=f"other=1; {sent}").status == 200
    assert page("/api/runs", Cookie=f"{COOKIE}=wrong").status == 401
    assert page("/api/runs", Cookie=f"{COOKIE}={TOKEN}").status == 401
    assert page("/api/runs", Cookie='a="\\').status == 401
    assert "Max-Age=0" in page("/logout", "POST", b"").headers["Set-Cookie"]


@pytest.mark.parametrize("length", ["", "-1", "x", "4097", "99999999999"])
def test_a_form_without_a_length(lake: Lake, serve: Serve, length: str) -> None:
    page = serve(lake, token=TOKEN)
    assert page("/login", "POST", b"token=x", Content_Length=length).status == 400


def test_no_form_where_no_token_is_wanted(page: Client) -> None:
    assert page("/login", "POST", b"token=").status == 400


def test_another_sites_name_for_this_machine(lake: Lake, serve: Serve) -> None:
    """Without a token, whoever leads a name of theirs here (DNS rebinding) gets nothing."""
    page = serve(lake)
    for host in ("evil.example", "evil.example:80", "localhost.evil.example", ""):
        assert page("/api/runs", Host=host).status == 421
    for host in ("localhost:1", "127.0.0.1", "[::1]:80", socket.gethostname()):
        assert page("/api/runs", Host=host).status == 200
    assert serve(lake, token=TOKEN)("/login", Host="page.example").status == 200
    assert serve(lake, insecure=True)("/api/runs", Host="page.example").status == 200


def test_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    away = Address("0.0.0.0", 0)
    with pytest.raises(
        ConfigError, match=r"whoever reaches 0\.0\.0\.0:0 could read every run: set ENTRENAR_PAGE_TOKEN"
    ):
        PageSettings(away).check()
    PageSettings(away, insecure=True).check()
    PageSettings(away, token="x").check()
    with pytest.raises(ConfigError, match="without ENTRENAR_PAGE_CERTFILE"):
        PageSettings(away, keyfile="key.pem", insecure=True).check()
    monkeypatch.setenv("ENTRENAR_PAGE_TOKEN", f" {TOKEN}\n")
    monkeypatch.setenv("ENTRENAR_PAGE_CERTFILE", "missing.pem")
    settings = PageSettings.from_environment(address=away)
    assert (settings.token, settings.url) == (TOKEN, f"https://{socket.gethostname()}:0/")
    with pytest.raises(ConfigError, match=r"ENTRENAR_PAGE_CERTFILE, ENTRENAR_PAGE_KEYFILE: .*No such file"):
        PageServer(Answers(Lake("lake")), settings)


def test_a_busy_port(page: Client) -> None:
    with pytest.raises(ConfigError, match=r"cannot listen on .* name another one with --port"):
        PageServer(page.server.answers, PageSettings(Address("127.0.0.1", page.port)))


def test_tls(lake: Lake, serve: Serve, certificate: tuple[Path, Path]) -> None:
    """The cookie is for TLS only."""
    certfile, keyfile = certificate
    page = serve(lake, token=TOKEN, certfile=str(certfile), keyfile=str(keyfile))
    context = ssl.create_default_context(cafile=str(certfile))
    body = urlencode({"token": TOKEN}).encode()
    with (
        socket.create_connection(("127.0.0.1", page.port), 60) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secured,
    ):
        secured.sendall(b"POST /login HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        answer = b"".join(iter(lambda: secured.recv(4096), b"")).decode()
    assert "303 See Other" in answer
    assert "; Secure" in answer


def test_behind_a_proxy_with_tls(lake: Lake, serve: Serve) -> None:
    """The cookie is for TLS only where the browser came by it."""
    page = serve(lake, token=TOKEN)
    body = urlencode({"token": TOKEN}).encode()
    secured = page("/login", "POST", body, X_Forwarded_Proto="https")
    assert "Secure" in secured.headers["Set-Cookie"].split("; ")
    assert "Secure" not in page("/login", "POST", body).headers["Set-Cookie"]


# -- other sites -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_another_sites_page_gets_nothing(lake: Lake, serve: Serve, site: str) -> None:
    """Whatever it makes the browser ask for; to follow a link from there is allowed."""
    page = serve(lake)
    for path in ("/api/runs", "/static/app.js", "/"):
        answer = page(path, Sec_Fetch_Site=site, Sec_Fetch_Mode="no-cors")
        assert (answer.status, answer.body) == (403, b"refused: another site's page asked for this\n")
    assert page("/", Sec_Fetch_Site=site, Sec_Fetch_Mode="navigate").status == 200
    for own in ("same-origin", "none"):
        assert page("/api/runs", Sec_Fetch_Site=own).status == 200
    for name in ("Access-Control-Allow-Origin", "Access-Control-Allow-Credentials"):
        assert name not in page("/api/runs", Origin=page.url).headers


def test_another_sites_form_logs_nobody_in_or_out(lake: Lake, serve: Serve) -> None:
    page = serve(lake, token=TOKEN)
    body = urlencode({"token": TOKEN}).encode()
    for path in ("/login", "/logout"):
        for headers in (
            {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"},
            {"Origin": "https://evil.example"},
            {"Origin": f"http://127.0.0.1:{page.port}.evil.example"},
        ):
            answer = page(path, "POST", body, **headers)
            assert (answer.status, "Set-Cookie" in answer.headers) == (403, False)
        # our own form: over HTTPS, over plain HTTP, and where a browser does not say
        for headers in ({"Sec_Fetch_Site": "same-origin"}, {"Origin": page.url}, {"Origin": "null"}, {}):
            assert page(path, "POST", body, **headers).status == 303


# -- guesses ---------------------------------------------------------------------------------------------


def test_wrong_tokens_have_to_wait(lake: Lake, serve: Serve) -> None:
    """Whoever has logged in looks on; from there no token is compared until the time is over."""
    now = [1000.0]
    page = serve(lake, token=TOKEN)
    page.server.guesses = Guesses(lambda: now[0])
    right = urlencode({"token": TOKEN}).encode()
    cookie = page("/login", "POST", right).headers["Set-Cookie"].partition(";")[0]
    for _ in range(BURST):
        assert page("/login", "POST", b"token=wrong").headers["Location"] == "/login#wrong"
    for body in (b"token=wrong", right):
        refused = page("/login", "POST", body)
        assert (refused.headers["Location"], refused.headers["Retry-After"]) == ("/login#often", "2")
        assert "Set-Cookie" not in refused.headers
    for token in ("wrong", TOKEN):
        refused = page("/api/runs", Authorization=f"Bearer {token}")
        assert (refused.status, refused.headers["Retry-After"]) == (429, "2")
    assert page("/api/runs", Cookie=cookie).status == 200
    assert page("/api/runs").status == 401
    now[0] += SECONDS_EACH
    assert page("/login", "POST", right).headers["Location"] == "/"
    assert page("/api/runs", Authorization=f"Bearer {TOKEN}").status == 200


def test_nobody_guesses_by_cookies(lake: Lake, serve: Serve) -> None:
    """What one page gave for a token opens no other page with that token: it is not made of it."""
    body = urlencode({"token": TOKEN}).encode()
    one, other = serve(lake, token=TOKEN), serve(lake, token=TOKEN)
    cookie = one("/login", "POST", body).headers["Set-Cookie"].partition(";")[0]
    assert (one("/api/runs", Cookie=cookie).status, other("/api/runs", Cookie=cookie).status) == (200, 401)


def test_guesses_in_the_header_count(lake: Lake, serve: Serve) -> None:
    """No request without a token does, nor one with the right one."""
    page = serve(lake, token=TOKEN)
    page.server.guesses = Guesses(lambda: 0.0)
    for _ in range(2 * BURST):
        assert page("/api/runs").status == page("/api/runs", Cookie=f"{COOKIE}=wrong").status == 401
        assert page("/api/runs", Authorization=f"Bearer {TOKEN}").status == 200
    for _ in range(BURST - 1):
        assert page("/api/runs", Authorization="Bearer wrong").status == 401
    assert page("/api/runs", Authorization="Bearer wrong").status == 429


@given(st.lists(st.floats(0.0, 3.0), max_size=60))
def test_an_address_has_so_many_guesses(pauses: list[float]) -> None:
    """However they are spread: those at once, and one more for each time that has passed."""
    now, compared = [0.0], 0
    guesses = Guesses(lambda: now[0])
    for pause in pauses:
        now[0] += pause
        if not guesses.wait_seconds("192.0.2.1"):
            guesses.count("192.0.2.1")
            compared += 1
    assert compared <= BURST + now[0] / SECONDS_EACH + 1e-6
    assert guesses.wait_seconds("192.0.2.1") <= SECONDS_EACH


def test_others_do_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address is counted for itself; of IPv6 one machine has a whole network. Few are remembered."""
    guesses = Guesses(lambda: 0.0)
    for _ in range(BURST):
        guesses.count("2001:db8::1")
        guesses.count("192.0.2.1")
        guesses.count("fe80::1%eth0")
    for same in ("2001:db8::ffff", "192.0.2.1", "::ffff:192.0.2.1", "fe80::2"):
        assert guesses.wait_seconds(same) > 0
    for other in ("2001:db8:0:1::1", "192.0.2.2", "::ffff:192.0.2.3", "a name"):
        assert guesses.wait_seconds(other) == 0
    monkeypatch.setattr("entrenar_otel.page.guesses.MAX_ADDRESSES", 2)
    guesses.count("a")
    guesses.count("b")
    assert len(guesses._until) == 2
