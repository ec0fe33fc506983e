"""Roll loop: every few seconds, what has arrived becomes rows of the lake; on a thread of its own."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from entrenar_otel.console import logger
from entrenar_otel.errors import EntrenarError, guard
from entrenar_otel.lake.memory import give_back_memory
from entrenar_otel.sink.decoding.unstorable import Unstorable
from entrenar_otel.sink.known.database import Crash
from entrenar_otel.sink.request_log import RequestLog

#: From receipt to the beginning of a roll, at most.
ROLL_SECONDS = 4.0
_RETRY_SECONDS = 5.0
#: A file that fails so often while others succeed is kept aside: a mistake of ours, not the lake's.
_MAX_FAILURES = 3


class Rolling(Protocol):
    """What puts a file of the log into the lake: `roller.Roller`."""

    #: Values of metrics in the lake, and those that came again.
    samples: int
    repeated: int
    #: Rows of clients other than runs.
    foreign_rows: int
    #: Values of aggregates that are made of samples which the lake has.
    left_out: int
    #: What was acknowledged and could not be stored.
    unstorable: Unstorable

    @property
    def crashes(self) -> Sequence[Crash]:
        """The runs that crashed of late and were not resumed."""

    def roll(self, path: Path) -> None:
        """Put a file's rows into the lake. Raises OSError, LakeError, sqlite3.Error: to be tried again."""

    def settle(self, until_ns: int) -> None:
        """What has time. All that had arrived by then (nanoseconds since 1970) has been rolled."""

    def close(self) -> None:
        """Let go of the state folder."""


class RollLoop:
    """Rotates the log and rolls its files, until `stop`. `open_roller` is called on its thread."""

    def __init__(
        self,
        log: RequestLog,
        open_roller: Callable[[], Rolling],
        *,
        lake: str,
        roll_seconds: float = ROLL_SECONDS,
        retry_seconds: float = _RETRY_SECONDS,
        may_write: Callable[[], None] = lambda: None,
    ) -> None:
        """`may_write` raises LakeError, OSError while the lake is not ours to write."""
        self._may_write = may_write
        self._log, self._open_roller, self._lake = log, open_roller, lake
        self._roll_seconds, self._retry_seconds = roll_seconds, retry_seconds
        self._thread = threading.Thread(target=self._run, name="entrenar-sink-roll", daemon=True)
        self._stops = threading.Event()
        self._failures: dict[Path, int] = {}
        self._rolled_at = time.monotonic()
        self._until_ns = 0  # what had arrived by then has been rolled
        self.roller: Rolling | None = None
        #: Why the lake cannot be written; empty while it can.
        self.problem = ""

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, seconds: float) -> bool:
        """Roll what is there once more, where that is done within this time; False where it is not."""
        self._stops.set()
        if self._thread.ident is not None:
            self._thread.join(seconds)
        return not self._thread.is_alive() and not self._log.backlog_bytes()

    def lag_seconds(self) -> float:
        """How long the oldest request has waited for the lake, at most."""
        return time.monotonic() - self._rolled_at if self._log.backlog_bytes() else 0.0

    def _run(self) -> None:
        is_last = False
        while not is_last:
            begun = time.monotonic()
            wait = self._roll_seconds if self._round(begun) else self._retry_seconds
            if self._stops.is_set():  # what arrived while the round was on
                is_last = True
                self._round(time.monotonic())
            else:
                self._wait(begun + wait)
        if self.roller is not None:
            with guard("the sink", "it ends anyway"):
                self.roller.close()

    def _wait(self, until: float) -> None:
        """Until then, until a file is full, or until the end."""
        while (left := until - time.monotonic()) > 0:
            if self._stops.wait(min(left, 0.5)) or (not self.problem and self._log.closed_files()):
                return

    def _round(self, begun: float) -> bool:
        """Roll all that is closed; False where that failed."""
        try:
            self._may_write()
            if self.roller is None:
                self.roller = self._open_roller()
            until_ns, is_whole = time.time_ns(), True
            try:
                self._log.rotate()
            except OSError:  # a full disk; what is closed already makes room
                until_ns = self._until_ns
            for path in self._log.closed_files():
                is_whole &= self._roll(self.roller, path)
            self._until_ns = until_ns if is_whole else self._until_ns
            self.roller.settle(self._until_ns)
        except (OSError, EntrenarError, sqlite3.Error) as error:
            self._name(error)
            return False
        except Exception as error:
            self._name(error)
            with contextlib.suppress(Exception), guard("the sink", "it is tried again"):
                raise
            return False
        give_back_memory()
        if is_whole:
            self._rolled_at = begun
        if self.problem:
            self.problem = ""
            logger.warning("%s is written again", self._lake)
        return is_whole

    def _roll(self, roller: Rolling, path: Path) -> bool:
        """Roll a file; where that is impossible for reasons of its own, the others go on."""
        try:
            roller.roll(path)
        except (OSError, EntrenarError, sqlite3.Error):
            raise
        except Exception as error:
            failures = self._failures[path] = self._failures.get(path, 0) + 1
            with contextlib.suppress(Exception), guard("the sink", "it is tried again, then kept aside"):
                raise
            if failures >= _MAX_FAILURES:
                kept = path.with_suffix(".failed")
                path.rename(kept)
                logger.warning(
                    "%s cannot be stored (%s: %s); it is kept as %s. Please report this",
                    path, type(error).__name__, error, kept,
                )  # fmt: skip
            return False
        path.unlink(missing_ok=True)
        self._failures.pop(path, None)
        return True

    def _name(self, error: Exception) -> None:
        if not self.problem:
            logger.warning(
                "%s cannot be written (%s); what arrives is kept in %s and tried again every %g s",
                self._lake, error, self._log.folder, self._retry_seconds,
            )  # fmt: skip
        self.problem = str(error) or type(error).__name__
