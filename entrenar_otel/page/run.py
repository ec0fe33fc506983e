"""Run: the page as a process, until a signal."""

from __future__ import annotations

import signal
import threading
from dataclasses import replace
from types import FrameType
from typing import TYPE_CHECKING

from entrenar_otel.console import say
from entrenar_otel.lake import Lake
from entrenar_otel.page.answers import Answers
from entrenar_otel.page.server import PageServer
from entrenar_otel.page.session_key import session_key
from entrenar_otel.page.settings import PageSettings
from entrenar_otel.redact import without_credentials

if TYPE_CHECKING:
    from entrenar_processors.config.models import Config

_LOOK_SECONDS = 0.5


def run_page(lake: Lake, settings: PageSettings, config: Config | None = None) -> None:
    """Serve until SIGINT or SIGTERM. Raises ConfigError."""
    stops = threading.Event()

    def stop(number: int, _frame: FrameType | None) -> None:
        stops.set()
        signal.signal(number, signal.SIG_DFL)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        if settings.token:
            settings = replace(settings, session_key=session_key())
        server = PageServer(Answers(lake, config), settings)
        server.start()
        url = replace(settings, address=server.address).url
        asks = " to whoever has the token" if settings.token else ""
        # the address stands by itself: what is copied or clicked has no sign of the sentence
        say(f"{url} shows the runs of {without_credentials(lake.url)}{asks}; Ctrl-C ends it")
        while not stops.wait(_LOOK_SECONDS):
            pass
        server.stop()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
