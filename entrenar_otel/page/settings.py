"""Settings: where the page is served, and to whom."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from entrenar_otel.errors import ConfigError
from entrenar_otel.page.proxies import Network
from entrenar_otel.web.address import Address


@dataclass(frozen=True)
class PageSettings:
    """Where it listens, and what whoever looks must know."""

    address: Address
    token: str = ""
    certfile: str | None = None
    keyfile: str | None = None
    #: Listen to others without a token.
    insecure: bool = False
    #: Proxies whose `X-Forwarded-For` says who asks.
    trusted_proxies: tuple[Network, ...] = ()
    #: By which cookies are signed; None: one of this process, after which people log in again.
    session_key: bytes | None = field(default=None, repr=False)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ, **given: object) -> PageSettings:
        """The token and the certificate, which belong on no command line, and what is given."""
        known = {
            "token": environ.get("ENTRENAR_PAGE_TOKEN", "").strip(),
            "certfile": environ.get("ENTRENAR_PAGE_CERTFILE") or None,
            "keyfile": environ.get("ENTRENAR_PAGE_KEYFILE") or None,
        }
        return cls(**(known | given))  # type: ignore[arg-type]

    def check(self) -> None:
        """Raises ConfigError where others may look without a token."""
        if not self.token and not self.insecure and not self.address.is_loopback:
            raise ConfigError(
                f"whoever reaches {self.address} could read every run: set ENTRENAR_PAGE_TOKEN, which the "
                "page then asks for, or say --insecure where the network is closed"
            )
        if self.keyfile and not self.certfile:
            raise ConfigError("ENTRENAR_PAGE_KEYFILE is set without ENTRENAR_PAGE_CERTFILE")

    @property
    def url(self) -> str:
        """Where a browser finds it."""
        return f"http{'s' if self.certfile else ''}://{self.address.for_others()}/"
