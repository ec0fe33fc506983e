"""Which proxy of the environment a URL is asked through, and which variable says so."""

from __future__ import annotations

import pytest

from entrenar_otel.delivery.proxy import is_loopback, proxy_for


@pytest.mark.parametrize(
    "host", ["localhost", "a.localhost", "LOCALHOST.", "127.0.0.1", "127.9.9.9", "[::1]"]
)
def test_loopback_has_no_proxy(host: str) -> None:
    url = f"http://{host}:9093/x"
    assert is_loopback(url)
    assert proxy_for(url, {"HTTP_PROXY": "http://p:1", "ALL_PROXY": "http://p:1"}) is None


@pytest.mark.parametrize(
    ("url", "no_proxy", "is_exempt"),
    [
        ("http://a.example/", "", False),
        ("http://a.example/", "*", True),
        ("http://a.example/", "example", True),
        ("http://a.example/", ".example", True),
        ("http://a.example/", "*.example", True),
        ("http://aexample/", "example", False),
        ("http://a.example/", "::1, fe80::/10 ,[::1]:80", False),
        ("http://a.example:81/", "a.example:80", False),
        ("http://a.example:81/", "a.example:81", True),
        ("http://a.example/", "a.example:80", True),
        ("http://10.1.2.3/", "10.0.0.0/8", True),
        ("http://10.1.2.3/", "11.0.0.0/8,10.1.2.4", False),
        ("http://10.1.2.3:81/", "10.1.2.3:81", True),
        ("http://10.1.2.3:81/", "10.1.2.3:80", False),
        ("http://[fd00::5]/", "fd00::/8", True),
        ("http://[fd00::5]/", "[fd00::5]", True),
        ("http://[fd00::5]:81/", "[fd00::5]:80", False),
        ("http://[fd00::5]/", "10.0.0.0/8, nonsense/99", False),
    ],
)
def test_no_proxy(url: str, no_proxy: str, is_exempt: bool) -> None:
    proxy = proxy_for(url, {"http_proxy": "proxy:3128", "no_proxy": no_proxy})
    assert (proxy is None) is is_exempt
    if proxy is not None:
        assert (proxy.url, proxy.variable) == ("http://proxy:3128", "http_proxy")


def test_which_variable() -> None:
    """By the URL's scheme, else the one for all; a header that a CGI server passes is none."""
    environ = {"HTTPS_PROXY": "a:1", "ALL_PROXY": "b:2"}
    found = [proxy_for(f"{scheme}://host/", environ) for scheme in ("https", "http")]
    assert [proxy and proxy.variable for proxy in found] == ["HTTPS_PROXY", "ALL_PROXY"]
    assert proxy_for("http://host/", {"HTTP_PROXY": "a:1", "REQUEST_METHOD": "GET"}) is None
