"""Log records of others: what is kept has no secret; those of exporters have none when they are shown."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from entrenar_otel.otel.log_records import message_of, shield_exporters
from entrenar_otel.otel.sdk_seams import suppress_instrumentation

NAME = "opentelemetry.exporter.made.up"


def record_of(message: Any, *arguments: Any, name: str = "data") -> logging.LogRecord:
    return logging.LogRecord(name, logging.WARNING, "a.py", 1, message, arguments, None)


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("this object has no text")


def test_messages_without_secrets() -> None:
    """Formatted, or told that this is impossible; never an error, whatever objects are logged."""
    assert message_of(record_of("no %s", "https://me:pw@host/x?y=1")) == "no https://host/x"
    assert message_of(record_of("%d rows", "many")).startswith("%d rows (with arguments that do not fit: ")
    assert message_of(record_of(Unprintable())) == "(a message that cannot be made: RuntimeError)"
    headers = record_of("Header format invalid! In a list: %s", "x-key SECRET", name="opentelemetry.util.re")
    assert message_of(headers) == "Header format invalid! In a list: (not shown)"


@pytest.fixture
def shown() -> Iterator[io.StringIO]:
    """What the handlers of the root logger print."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logging.getLogger().addHandler(handler)
    yield stream
    logging.getLogger().removeHandler(handler)


def test_exporters_are_shielded(shown: io.StringIO) -> None:
    """Message and traceback, for every handler; others' records are as they were."""
    logger = logging.getLogger(NAME)
    shield_exporters()
    shield_exporters()
    try:
        raise OSError("https://me:SECRET@host refused\x1b[31m")
    except OSError:
        logger.exception("export to %s failed\x1b[31m", "me:SECRET@host:4317", exc_info=sys.exc_info())
    logging.getLogger("data").warning("https://me:SECRET@host")
    first, *trace, last = shown.getvalue().splitlines()
    assert first == "export to …@host:4317 failed?[31m"
    assert trace[0] == "Traceback (most recent call last):"
    assert trace[-1] == "OSError: https://host refused?[31m"
    assert last == "https://me:SECRET@host"


def test_http_clients_are_shielded_while_we_export(shown: io.StringIO) -> None:
    """Not where they work for the training."""
    shield_exporters()
    logger = logging.getLogger("urllib3.connectionpool")
    with suppress_instrumentation():
        logger.warning("POST %s", "/p?key=SECRET")
    logger.warning("POST %s", "/p?key=theirs")
    assert shown.getvalue().splitlines() == ["POST /p?…", "POST /p?key=theirs"]
