"""Service: the whole sink, from its settings to its end."""

from __future__ import annotations

import contextlib
import hashlib
import os
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from entrenar_otel.console import logger
from entrenar_otel.errors import ConfigError
from entrenar_otel.lake.records.writer import mark_for_sink
from entrenar_otel.lake.store.storage import Storage
from entrenar_otel.sink.grpc_server import GrpcServer
from entrenar_otel.sink.http_server import HttpServer
from entrenar_otel.sink.own_metrics import page
from entrenar_otel.sink.receiver import MAX_BACKLOG_BYTES, Receiver
from entrenar_otel.sink.request_log import RequestLog
from entrenar_otel.sink.roll_loop import ROLL_SECONDS, Rolling, RollLoop
from entrenar_otel.sink.tenure import Tenure
from entrenar_otel.web.address import Address
from entrenar_otel.web.bounded_server import tls_context

#: What the end takes at most: for requests in progress, and for the last roll.
_STOP_SECONDS, _LAST_ROLL_SECONDS = 5.0, 30.0
_NAME_STATE = "name a folder on a local disk with --state"


@dataclass(frozen=True)
class SinkSettings:
    """Where it listens, who may send, where it keeps what has arrived."""

    grpc: Address | None
    http: Address | None
    state: Path | None = None
    token: str = ""
    certfile: str | None = None
    keyfile: str | None = None
    #: Listen to others without a token.
    insecure: bool = False
    max_backlog_bytes: int = MAX_BACKLOG_BYTES
    roll_seconds: float = ROLL_SECONDS

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ, **given: object) -> SinkSettings:
        """The token and the certificate, which belong on no command line, and what is given."""
        known = {
            "token": environ.get("ENTRENAR_SINK_TOKEN", "").strip(),
            "certfile": environ.get("ENTRENAR_SINK_CERTFILE") or None,
            "keyfile": environ.get("ENTRENAR_SINK_KEYFILE") or None,
        }
        return cls(**(known | given))  # type: ignore[arg-type]

    def check(self) -> None:
        """Raises ConfigError where others may send without a token, or nobody may."""
        if self.grpc is None and self.http is None:
            raise ConfigError("the sink listens nowhere: give --grpc or --http an address, HOST:PORT")
        for address in filter(None, (self.grpc, self.http)):
            if not self.token and not self.insecure and not address.is_loopback:
                raise ConfigError(
                    f"whoever reaches {address} could write into the lake: set ENTRENAR_SINK_TOKEN, and the "
                    'same for the senders (OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20..."), or say '
                    "--insecure where the network is closed"
                )
        if self.keyfile and not self.certfile:
            raise ConfigError("ENTRENAR_SINK_KEYFILE is set without ENTRENAR_SINK_CERTFILE")


class Sink:
    """Listens and stores, from `start` to `stop`."""

    def __init__(
        self,
        storage: Storage,
        settings: SinkSettings,
        *,
        open_roller: Callable[[Storage, Path], Rolling],
    ) -> None:
        """Raises ConfigError, LakeError where the lake is not a sink's or another's, OSError."""
        settings.check()
        self._settings, self._storage = settings, storage
        context, certificate = _tls(settings)
        with contextlib.suppress(OSError):  # it is away: what arrives is kept until it is there
            mark_for_sink(storage)
        self.state = settings.state or default_state(storage.url)
        self.log = _open_log(self.state)
        self.tenure = Tenure(storage, self.state)
        self.receiver = Receiver(self.log, max_backlog_bytes=settings.max_backlog_bytes)
        self.loop = RollLoop(
            self.log,
            partial(_open_marked, open_roller, storage, self.state),
            lake=storage.url,
            roll_seconds=settings.roll_seconds,
            may_write=self.tenure.keep,
        )
        token = settings.token.encode()
        self.grpc: GrpcServer | None = None
        self.http: HttpServer | None = None
        try:
            with contextlib.suppress(OSError):
                self.tenure.take()
            if settings.http is not None:
                self.http = HttpServer(
                    self.receiver,
                    settings.http.host,
                    settings.http.port,
                    token=token,
                    context=context,
                    metrics=lambda: page(self.receiver, self.loop),
                )
            if settings.grpc is not None:
                self.grpc = GrpcServer(
                    self.receiver, str(settings.grpc), token=token, certificate=certificate
                )
        except BaseException:
            self._close()
            raise

    def start(self) -> str:
        """Listen and roll; returns a line that says where. Raises ConfigError."""
        try:
            places = []
            if self.grpc is not None and self._settings.grpc is not None:
                places.append(f"gRPC on {self._settings.grpc.with_port(self.grpc.start())}")
        except BaseException:
            self._close()
            raise
        if self.http is not None and self._settings.http is not None:
            self.http.start()
            places.append(f"HTTP on {self._settings.http.with_port(self.http.port)}")
        self.loop.start()
        secured = " (TLS)" if self._settings.certfile else ""
        return f"listening for OTLP, {' and '.join(places)}{secured}; the lake is {self._storage.url}"

    def stop(self) -> None:
        """Take no more, acknowledge what is being handled, roll what is there; bounded."""
        self.receiver.stop()
        end = time.monotonic() + _STOP_SECONDS
        if self.grpc is not None:
            self.grpc.stop(_STOP_SECONDS)
        if self.http is not None:
            self.http.stop(max(0.5, end - time.monotonic()))
        if not self.loop.stop(_LAST_ROLL_SECONDS):
            logger.warning(
                "%d bytes that were received are not in the lake yet: they are in %s, and the next sink on "
                "this lake brings them in", self.log.backlog_bytes(), self.state,
            )  # fmt: skip
        self._close()

    def _close(self) -> None:
        self.tenure.release()
        if self.http is not None:
            with contextlib.suppress(OSError):
                self.http.server_close()
        self.log.close()


def _open_marked(open_roller: Callable[[Storage, Path], Rolling], storage: Storage, state: Path) -> Rolling:
    mark_for_sink(storage)
    return open_roller(storage, state)


def _open_log(state: Path) -> RequestLog:
    """Raises ConfigError."""
    try:
        return RequestLog(state)
    except OSError as error:
        raise ConfigError(
            f"what arrives cannot be kept in {state} ({error.strerror or error}): {_NAME_STATE}"
        ) from None


def default_state(lake_url: str, environ: Mapping[str, str] = os.environ) -> Path:
    """The folder for what has arrived, one for each lake, on the local disk. Raises ConfigError."""
    try:
        home = environ.get("XDG_STATE_HOME") or Path.home() / ".local/state"
    except RuntimeError:  # in a container, as a user that it does not know
        raise ConfigError(f"this user has no home folder to keep in what arrives: {_NAME_STATE}") from None
    return Path(home, "entrenar", "sink", hashlib.sha256(lake_url.encode()).hexdigest()[:16])


def _tls(settings: SinkSettings) -> tuple[ssl.SSLContext | None, tuple[bytes, bytes] | None]:
    if not settings.certfile:
        return None, None
    try:
        context = tls_context(settings.certfile, settings.keyfile)
        certificate = Path(settings.certfile).read_bytes()
        key = Path(settings.keyfile or settings.certfile).read_bytes()
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"cannot load the certificate {settings.certfile} or its key ({error}): check "
            "ENTRENAR_SINK_CERTFILE and ENTRENAR_SINK_KEYFILE"
        ) from None
    return context, (certificate, key)
