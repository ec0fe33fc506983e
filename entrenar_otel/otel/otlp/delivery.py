"""Delivery: a piece is sent until it is acknowledged, or refused for good."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from pathlib import Path

from entrenar_otel.console import Log
from entrenar_otel.delivery.losses import Losses
from entrenar_otel.otel.otlp import names
from entrenar_otel.otel.otlp.answer import Answer, Client, Verdict
from entrenar_otel.otel.otlp.piece import Piece
from entrenar_otel.otel.otlp.refused_requests import keep_refused
from entrenar_otel.otel.sdk_seams import suppress_instrumentation

#: Between two attempts; each doubles it.
_FIRST_SECONDS, _LONGEST_SECONDS = 1.0, 30.0
#: How long a server may ask us to wait.
_MOST_ASKED_SECONDS = 300.0
#: Until an endpoint that wants nothing of us is asked again.
_UNWELCOME_SECONDS = 60.0
#: A request without an answer has twice the time at its next attempt: a slow endpoint would never be done.
_LONGEST_TIMEOUT_SECONDS = 60.0
#: Of one piece, so many single records are refused in a row before the rest of it is taken for refused.
_MAX_SINGLES = 16
#: What it says of the endpoint is not sent there, see `segment_reader`.
logger = Log(names.DELIVERY_LOGGER)
#: The name under which failures and losses are counted.
NAME = "otlp logs"


class Delivery:
    """The way of pieces to one endpoint; several threads may deliver at a time, a piece each.

    What could not be delivered when `stop` is called is left where it is; so is all behind a request that
    was tried for longer than `patience_seconds`.
    """

    def __init__(
        self,
        client: Client,
        shown: str,
        timeout_seconds: float,
        *,
        losses: Losses | None = None,
        failures: Counter[str] | None = None,
        patience_seconds: float = float("inf"),
    ) -> None:
        self._client = client
        self._shown = shown
        self._timeout, self._patience = timeout_seconds, patience_seconds
        self._failures: Counter[str] = Counter() if failures is None else failures
        losses = Losses() if losses is None else losses
        self._lost_values = losses.counter("samples", NAME)
        self._lost_records = losses.counter("log records", NAME)
        self._lock = threading.Lock()  # of what is known of the endpoint: the last four of these
        self._stopping = threading.Event()
        self._deadline = float("inf")
        self._jitter = random.Random()  # noqa: S311 - not the global one: a training may be seeded
        self._said: set[str] = set()
        self._slow_timeout = timeout_seconds
        #: Why nothing gets through at the moment; None while it does.
        self.problem: str | None = None

    @property
    def is_stopping(self) -> bool:
        """Whether nothing is tried twice any more."""
        return self._stopping.is_set()

    def stop(self, seconds: float) -> None:
        """Try nothing twice from now on, and nothing after so many seconds."""
        self._deadline = time.monotonic() + seconds
        self._stopping.set()

    def deliver(self, piece: Piece, live: Path, process: str) -> bool:
        """Whether the endpoint has acknowledged it, or refused it for good; False where it is stopped."""
        waiting, singles = [piece], 0
        while waiting:
            part = waiting.pop()
            body, too_wide = part.encode()
            if too_wide:
                self._lost_values(too_wide)
                self._say_once("wide", "a record of %d values is too large for a request: left out", too_wide)
            if not body:
                continue
            answer = self._until_answered(body)
            if answer is None:
                return False
            if answer.verdict is Verdict.ACCEPTED:
                singles = 0
                self._see_rejected(answer)
            elif (halves := part.halves()) and singles < _MAX_SINGLES:
                waiting += reversed(halves)
            else:
                singles += 1
                self._set_aside(part, body, answer, live, process)
        return True

    def send(self, body: bytes) -> bool:
        """Send once, whatever comes of it."""
        answer = self._once(body)
        return answer is not None and answer.verdict is Verdict.ACCEPTED

    # -- inside -----------------------------------------------------------------------------------

    def _until_answered(self, body: bytes) -> Answer | None:
        """The answer to a request that is tried until there is one; None where it is stopped."""
        wait, began = _FIRST_SECONDS, time.monotonic()
        while True:
            answer = self._once(body)
            if answer is None or answer.verdict in (Verdict.ACCEPTED, Verdict.REFUSED):
                return answer
            self._see_problem(answer)
            if self.is_stopping or time.monotonic() - began > self._patience:  # this was the last time
                return None
            seconds = wait * self._jitter.uniform(0.7, 1.0)
            if answer.verdict is Verdict.UNWELCOME:
                seconds = _UNWELCOME_SECONDS
            seconds = max(seconds, min(answer.after_seconds, _MOST_ASKED_SECONDS))
            wait = min(2 * wait, _LONGEST_SECONDS)
            self._stopping.wait(seconds)

    def _once(self, body: bytes) -> Answer | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            return None
        with suppress_instrumentation():
            answer = self._client.send(body, min(self._slow_timeout, left))
        with self._lock:
            if answer.is_timeout:
                most = max(_LONGEST_TIMEOUT_SECONDS, self._timeout)
                self._slow_timeout = min(2 * self._slow_timeout, most)
            is_well_again = answer.verdict is Verdict.ACCEPTED and self.problem is not None
            if is_well_again:
                self.problem = None
        if is_well_again:
            logger.info("%s takes log records again", self._shown)
        return answer

    def _see_problem(self, answer: Answer) -> None:
        with self._lock:
            is_new = self.problem is None
            self.problem = answer.why or answer.verdict.value
            self._failures[NAME] += 1
        if is_new:
            logger.warning(
                "%s takes no log records (%s); what is to be sent stays on this host and is tried again",
                self._shown,
                answer.why,
            )

    def _see_rejected(self, answer: Answer) -> None:
        if answer.rejected:
            self._count_failure()
            self._lost_records(answer.rejected)
        if answer.why or answer.rejected:
            self._say_once(
                "partial",
                "%s left out %d log records (%s); further ones are only counted",
                self._shown,
                answer.rejected,
                answer.why or "it does not say why",
            )

    def _set_aside(self, part: Piece, body: bytes, answer: Answer, live: Path, process: str) -> None:
        is_kept = keep_refused(live, process, body)
        self._count_failure()
        self._lost_records(len(part.events))
        self._lost_values(part.values)
        where = f"kept in {live / process}.refused" if is_kept else "not kept"
        self._say_once(
            "refused",
            "%s refuses a log record (%s): it is left out, and %s; the lake has it. Further ones are "
            "only counted",
            self._shown,
            answer.why,
            where,
        )

    def _count_failure(self) -> None:
        with self._lock:
            self._failures[NAME] += 1

    def _say_once(self, kind: str, message: str, *arguments: object) -> None:
        with self._lock:
            is_new = kind not in self._said
            self._said.add(kind)
        if is_new:
            logger.warning(message, *arguments)
