"""Answer: what came of one request, as far as it decides what is done with it next."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple, Protocol


class Verdict(Enum):
    """What an endpoint makes of a request."""

    ACCEPTED = "accepted"
    #: Not now: the same request again, later.
    RETRY = "retry"
    #: What is in this request is not wanted: again it would be refused again.
    REFUSED = "refused"
    #: The endpoint wants nothing from us as things are: a token is missing, or it knows no log records.
    UNWELCOME = "unwelcome"


class Answer(NamedTuple):
    """A verdict and why, in words that may be shown."""

    verdict: Verdict
    why: str = ""
    #: How long it asked to wait.
    after_seconds: float = 0.0
    #: Log records of an accepted request that were not.
    rejected: int = 0
    is_timeout: bool = False


ACCEPTED = Answer(Verdict.ACCEPTED)


class Client(Protocol):
    """A way to an endpoint. `send` raises nothing, and takes no longer than it may."""

    def send(self, body: bytes, timeout_seconds: float) -> Answer: ...

    def close(self) -> None:
        """Close the connection; a request in progress fails. May be called from any thread, and twice."""


def accepted(response: bytes) -> Answer:
    """The answer of a server that took the request, or a part of it."""
    if not response:  # all of it
        return ACCEPTED
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

    try:
        partial = ExportLogsServiceResponse.FromString(response).partial_success
    except Exception:  # it says so by its status; what else it says is its own
        return ACCEPTED
    return Answer(
        Verdict.ACCEPTED, partial.error_message[:500], rejected=max(0, int(partial.rejected_log_records))
    )
