"""Proxy: through which proxy of the environment a URL is asked, and which variable says so.

Asked one URL at a time, since HTTP clients look at all variables beforehand: a SOCKS proxy for something
else, or an IPv6 address in NO_PROXY, then breaks requests which they do not concern.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Proxy:
    """A proxy, and the variable that names it."""

    url: str
    variable: str


def is_loopback(url: str) -> bool:
    """Whether a URL leads to this very host, which no proxy can reach for us.

    >>> is_loopback("http://127.0.0.1:9093/x"), is_loopback("http://[::1]/"), is_loopback("http://host/")
    (True, True, False)
    """
    host = (urlsplit(url).hostname or "").rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    address = _address(host)
    return address is not None and address.is_loopback


def proxy_for(url: str, environ: Mapping[str, str] | None = None) -> Proxy | None:
    """The proxy that the environment has for a URL, or None.

    >>> proxy_for("https://a.example/", {"HTTPS_PROXY": "proxy:3128", "NO_PROXY": "::1"})
    Proxy(url='http://proxy:3128', variable='HTTPS_PROXY')
    """
    environ = os.environ if environ is None else environ
    if is_loopback(url) or is_exempt(url, environ.get("no_proxy") or environ.get("NO_PROXY") or ""):
        return None
    scheme = urlsplit(url).scheme
    for name in (f"{scheme}_proxy", f"{scheme.upper()}_PROXY", "all_proxy", "ALL_PROXY"):
        if name == "HTTP_PROXY" and "REQUEST_METHOD" in environ:  # CGI: it is a header of somebody's request
            continue
        if given := environ.get(name, "").strip():
            return Proxy(given if "://" in given else f"http://{given}", name)
    return None


def is_exempt(url: str, no_proxy: str) -> bool:
    """Whether NO_PROXY names the host: itself, a domain, an address, or a network of addresses."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    try:
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        port = None
    address = _address(host)
    for given in no_proxy.lower().split(","):
        entry = given.strip()
        if not entry:
            continue
        if entry == "*":
            return True
        entry = entry.rpartition("://")[2]
        if address is not None:
            if _has_address(entry, address, port):
                return True
            continue
        name, _, wanted = entry.partition(":")
        name = name.removeprefix("*").strip(".")
        if name and wanted in ("", str(port)) and (host == name or host.endswith(f".{name}")):
            return True
    return False


def _has_address(
    entry: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int | None
) -> bool:
    if entry.startswith("["):  # with a port, perhaps
        entry, _, wanted = entry[1:].partition("]")
        wanted = wanted.removeprefix(":")
    elif entry.count(":") == 1:
        entry, _, wanted = entry.partition(":")
    else:
        wanted = ""
    try:
        network = ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False
    return wanted in ("", str(port)) and address.version == network.version and address in network


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
