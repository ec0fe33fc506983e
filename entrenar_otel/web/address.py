"""Address: a host and a port to listen on."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass, replace

from entrenar_otel.errors import ConfigError


@dataclass(frozen=True)
class Address:
    """As `127.0.0.1:4317`, `[::1]:4317` or `0.0.0.0:0`."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str, option: str) -> Address:
        """Raises ConfigError.

        >>> Address.parse("[::1]:4317", "--grpc")
        Address(host='::1', port=4317)
        """
        host, colon, port = text.strip().rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            host = ""
        if not (colon and host and port.isascii() and port.isdigit() and int(port[:6]) <= 65535):
            raise ConfigError(f"expected {option} HOST:PORT, such as 127.0.0.1:4317, got {text!r}")
        return cls(host, int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def with_port(self, port: int) -> Address:
        """The same host at the port that was found for 0."""
        return replace(self, port=port)

    def for_others(self) -> Address:
        """What others are told: this machine's name, where it listens on every address of it.

        >>> str(Address("127.0.0.1", 8642).for_others())
        '127.0.0.1:8642'
        """
        try:
            is_every = ipaddress.ip_address(self.host).is_unspecified
        except ValueError:  # a name
            is_every = False
        return replace(self, host=socket.gethostname()) if is_every else self

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it; a name that is not known here is taken for another's."""
        try:
            known = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except OSError:
            return False
        addresses = [ipaddress.ip_address(str(info[4][0]).partition("%")[0]) for info in known]
        return bool(addresses) and all(address.is_loopback for address in addresses)
