"""Proxies: whom a request behind a trusted proxy came from, by `X-Forwarded-For`."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

from entrenar_otel.errors import ConfigError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def networks_of(texts: Iterable[str]) -> tuple[Network, ...]:
    """Addresses and networks, such as `10.0.0.7` or `10.0.0.0/8`. Raises ConfigError.

    >>> networks_of(["10.0.0.7"])
    (IPv4Network('10.0.0.7/32'),)
    """
    found = []
    for text in texts:
        try:
            found.append(ipaddress.ip_network(text.strip()))
        except ValueError as error:
            raise ConfigError(
                f"expected --trusted-proxy an address or a network, such as 10.0.0.7 or 10.0.0.0/8: {error}"
            ) from None
    return tuple(found)


def client_of(peer: str, forwarded: Sequence[str], trusted: Sequence[Network]) -> str:
    """Who asked: the peer, or where that is a trusted proxy, the last one in its headers that is none.

    What comes before that in a header, the client may have written there itself.

    >>> trusted = networks_of(["10.0.0.0/8"])
    >>> client_of("10.0.0.7", ["192.0.2.66, 198.51.100.1, 10.0.0.9"], trusted)
    '198.51.100.1'
    >>> client_of("192.0.2.1", ["198.51.100.1"], trusted)
    '192.0.2.1'
    """
    client = peer
    if not trusted or not _is_trusted(peer, trusted):
        return client
    for hop in reversed(",".join(forwarded).split(",")):
        address = _address(hop.strip())
        if address is None:
            break
        client = address
        if not _is_trusted(address, trusted):
            break
    return client


def _address(hop: str) -> str | None:
    """Without a port; None where it is no address."""
    if hop.startswith("["):
        hop = hop[1:].partition("]")[0]
    elif hop.count(":") == 1:
        hop = hop.partition(":")[0]
    try:
        return str(ipaddress.ip_address(hop))
    except ValueError:
        return None


def _is_trusted(address: str, trusted: Sequence[Network]) -> bool:
    try:
        known = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(known, ipaddress.IPv6Address) and known.ipv4_mapped is not None:
        known = known.ipv4_mapped
    return any(known in network for network in trusted)
