"""Log records of others: what may be kept of them, and of the exporters' what may be shown.

OpenTelemetry's exporters log the endpoint with user and password, and the text of headers that they cannot
read. Those who export by our settings have it filtered: their records are changed before any handler
sees them. All other records go on as they are.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import traceback

from entrenar_otel.otel.sdk_seams import is_export
from entrenar_otel.redact import printable_line, printable_text, redacted

#: What it logs is the text of headers, all of which is secret.
_HEADERS = "opentelemetry.util.re"
#: Loggers of HTTP clients, whose lines are only changed while we export.
_CLIENTS = ("urllib3.connectionpool", "httpx")
_EXPORTERS = "opentelemetry.exporter."


def message_of(record: logging.LogRecord) -> str:
    """The message of a record without secrets. Never raises."""
    try:
        if record.name == _HEADERS:
            return f"{str(record.msg).partition(': ')[0]}: (not shown)"
        try:
            return redacted(record.getMessage())
        except Exception:  # arguments that do not fit the text; logging says so itself, to sys.stderr
            return redacted(f"{record.msg!s} (with arguments that do not fit: {sys.exc_info()[1]})")
    except Exception as error:  # a stranger's __str__
        return f"(a message that cannot be made: {type(error).__name__})"


def shield_exporters() -> None:
    """Let no secret of a setting reach the handlers of the exporters' loggers, as far as those are known."""
    known = [name for name in list(logging.root.manager.loggerDict) if name.startswith(_EXPORTERS)]
    for name in (_HEADERS, *known):
        logging.getLogger(name).addFilter(_redact)  # a filter that is there already is not added again
    for name in _CLIENTS:
        logging.getLogger(name).addFilter(_redact_export)


def _redact(record: logging.LogRecord) -> bool:
    with contextlib.suppress(Exception):
        record.msg, record.args = printable_line(message_of(record)), ()
        if record.exc_info:
            text = "".join(traceback.format_exception(*record.exc_info)) if record.exc_info[0] else ""
            record.exc_info, record.exc_text = None, printable_text(redacted(text)).rstrip()
    return True


def _redact_export(record: logging.LogRecord) -> bool:
    return _redact(record) if is_export() else True
