"""Refusal: a request that is not taken, in OTLP's terms, whatever it came by."""

from __future__ import annotations

from enum import Enum
from http import HTTPStatus
from typing import NamedTuple

from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from entrenar_otel.redact import printable_line


class _Answer(NamedTuple):
    code: int  # of google.rpc.Code, gRPC's
    status: HTTPStatus


class Why(Enum):
    """Why a request is refused: the word in /metrics, and what the client is told by gRPC and HTTP."""

    INVALID = "invalid", _Answer(3, HTTPStatus.BAD_REQUEST)
    CONTENT_TYPE = "content_type", _Answer(3, HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
    TOO_LARGE = "too_large", _Answer(8, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    TOKEN = "token", _Answer(16, HTTPStatus.UNAUTHORIZED)
    BUSY = "busy", _Answer(14, HTTPStatus.SERVICE_UNAVAILABLE)
    BACKLOG = "backlog", _Answer(14, HTTPStatus.SERVICE_UNAVAILABLE)
    DISK = "disk", _Answer(14, HTTPStatus.SERVICE_UNAVAILABLE)
    RUNS = "runs", _Answer(14, HTTPStatus.SERVICE_UNAVAILABLE)
    STOPPING = "stopping", _Answer(14, HTTPStatus.SERVICE_UNAVAILABLE)
    SLOW = "slow", _Answer(4, HTTPStatus.REQUEST_TIMEOUT)

    def __init__(self, word: str, answer: _Answer) -> None:
        self.word, self.code, self.status = word, answer.code, answer.status


class Refusal(Exception):
    """A request that is not taken. With `retry_seconds` it is to be sent again, by then or later."""

    def __init__(self, why: Why, text: str, *, retry_seconds: int | None = None) -> None:
        super().__init__(printable_line(text))
        self.why, self.retry_seconds = why, retry_seconds

    def as_status(self) -> Status:
        """As both protocols have it. A client of OTLP sends again only what is marked as temporary."""
        details = []
        if self.retry_seconds is not None:
            detail = Any()
            detail.Pack(RetryInfo(retry_delay=Duration(seconds=self.retry_seconds)))
            details.append(detail)
        return Status(code=self.why.code, message=str(self), details=details)


def too_many() -> Refusal:
    """What a request is told for which there is no room now."""
    return Refusal(Why.BUSY, "too many large requests at a time", retry_seconds=1)
