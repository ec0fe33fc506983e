"""Keeper: everything of a run that touches the lake, on a thread of its own, since the lake may hang."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow.compute  # noqa: F401 for compaction: not as late as a run's end, which has little time

from entrenar_otel.console import logger
from entrenar_otel.delivery.worker import Worker
from entrenar_otel.errors import guard
from entrenar_otel.lake import compact as compaction
from entrenar_otel.lake.hand_over import hand_over
from entrenar_otel.lake.holdings import Holdings
from entrenar_otel.lake.lake import Lake
from entrenar_otel.lake.memory import give_back_memory
from entrenar_otel.lake.records.pulse import BEAT_SECONDS, as_seen, remove_beat, write_beat
from entrenar_otel.lake.records.runs import RUNNING, RunRecord, find_records, write_record
from entrenar_otel.lake.records.statement import end_of, statement_of
from entrenar_otel.lake.records.writer import SinksLake, claim_on_the_spot
from entrenar_otel.lake.recover import Recovered
from entrenar_otel.recording.process.lock import ProcessLock
from entrenar_otel.recording.recorder import Recorder
from entrenar_otel.recording.unsent import keep_unsent, leaves

if TYPE_CHECKING:
    from entrenar_otel.recording.segment import Segment

#: How long a start waits to hear which attempt it is.
CLAIM_SECONDS = 3.0
_RETRY_SECONDS = 10.0
#: How often is looked whether a lake still has what this run put there; an object store is asked with each
#: beat.
_WATCH_SECONDS = 10.0
#: A lake that takes longer for one round is treated as one that is away.
_SLOW_SECONDS = 10.0
#: How long the end of a run waits for a lake that is away already.
_AWAY_SECONDS = 5.0


class Keeper:
    """Claims the run's attempt, hands segments over, keeps house, and writes how the run ended.

    The run begins without it: until the lake has answered the attempt is 0, and the process's lock says what
    recovery must know if it never does. `on_claimed` is called once it has. House is kept once, when `tidy`
    asks for it: what dead processes left on this host is recovered, and old runs are pruned where retention
    is written. What failed is tried again every ten seconds, and said once.
    """

    def __init__(
        self,
        recorder: Recorder,
        lake: Lake,
        record: RunRecord,
        lock: ProcessLock,
        *,
        retention_days: float | None = None,
    ) -> None:
        self.record = record
        self.lake = lake
        self.worker = Worker("entrenar-lake", self._work, finish=self._finish)
        self.on_claimed: Callable[[RunRecord], None] = lambda _record: None
        #: Called where a segment that leaves by OTLP was handed over: its number, and how many values it has.
        self.on_handed_over: Callable[[int, int], None] = lambda _number, _values: None
        self.on_recovered: Callable[[Recovered], None] = lambda _found: None
        #: Whether the lake is a sink's, which no run writes.
        self.is_refused = False
        #: Whether the end of the run is in the lake.
        self.is_kept = False
        self._recorder, self._lock = recorder, lock
        self._retention_days = retention_days
        self._is_tried = threading.Event()
        self._began_at: float | None = None  # of the round in progress
        self._busy: Segment | None = None  # what is being handed over
        self._failed = False
        self._retry_at = 0.0
        self._beat_at = time.monotonic() + BEAT_SECONDS
        self._holdings = Holdings(lake.storage)
        self._watch_at = self._next_watch()
        self._has_warned = False
        self._wants_tidying = False
        self._end: dict[str, Any] | None = None
        self._state()

    # -- the beginning --------------------------------------------------------------------------

    def start(self, wait_seconds: float = CLAIM_SECONDS) -> None:
        """Ask the lake for the attempt, and wait so long for an answer."""
        self.worker.wake()
        self._is_tried.wait(wait_seconds)

    def header(self) -> dict[str, Any]:
        """What segments say of the run."""
        record = self.record
        return {
            "lake": self.lake.url,
            "run_id": record.run_id,
            "attempt": record.attempt,
            "rank": record.rank,
            "day": record.day,
        }

    def state_claim(self) -> None:
        """Let the segments made before the answer say it; called by whoever comes second."""
        if self.record.is_claimed and self._recorder.is_open:
            self._recorder.claim({"lake": self.lake.url, "attempt": self.record.attempt})

    def _state(self) -> None:
        """Say in the lock what recovery must know."""
        with guard("lock"):
            self._lock.describe(statement_of(self.lake.url, self.record, self._end))

    # -- the heartbeat's side -------------------------------------------------------------------

    def on_tick(self, *, tidy: bool = False) -> None:
        """Have done what is due; never waits."""
        self._wants_tidying |= tidy
        is_due = not self.record.is_claimed or self._wants_tidying
        is_due |= time.monotonic() >= min(self._beat_at, self._watch_at)
        if is_due or self._recorder.sealed():
            self.worker.wake()
        with guard("lock"):
            self._lock.restore()
        if self.is_away:
            self._recorder.park(self._busy)
            began_at = self._began_at
            if began_at is not None:
                self._warn(f"has not answered for {time.monotonic() - began_at:.0f} s")

    @property
    def is_away(self) -> bool:
        """Whether the lake failed the last time, or keeps us waiting."""
        began_at = self._began_at
        return self._failed or (began_at is not None and time.monotonic() - began_at > _SLOW_SECONDS)

    def hand_over(self, timeout_seconds: float = 30.0, *, at_once: bool = False) -> bool:
        """Bring complete segments into the lake, and wait for it; False while some could not be.

        `at_once`: also where it has just failed.
        """
        if at_once:
            self._retry_at = 0.0
        return self.worker.flush(timeout_seconds) and not self._failed and self._holdings.is_settled

    # -- the end --------------------------------------------------------------------------------

    def say_end(self, state: str, reason: str | None) -> None:
        """Say on the local disk how the run ended: it is so, whatever becomes of the lake and of us."""
        now = datetime.fromtimestamp(self._recorder.clock.time_ns() / 1e9, UTC)
        now = max(now, self.record.started_at)  # the clock may have been set back meanwhile
        self._end = end_of(state, reason, now, self._recorder.dropped)
        self._state()

    @property
    def ended_at(self) -> str | None:
        """When the run ended, by what was said of it; None before."""
        return None if self._end is None else str(self._end["at"])

    def begin_end(self) -> None:
        """Ask for the last round: the last segments and the end of the run."""
        self._retry_at = 0.0
        try:
            self.worker.begin_stop()
        except RuntimeError:  # Python 3.12 starts no threads while it shuts down
            self._work()
            self._finish()

    def wait_for_end(self, timeout_seconds: float) -> bool:
        """Whether everything is in the lake within this time; for one that is away it is shorter."""
        if self.worker.is_started:
            self.worker.join(min(timeout_seconds, _AWAY_SECONDS) if self.is_away else timeout_seconds)
        return self.is_kept

    # -- inside, on its own thread --------------------------------------------------------------

    def _work(self) -> None:
        self._began_at = time.monotonic()
        if self._began_at >= self._retry_at:
            try:
                self._claim()
                if self._watch():
                    self._hand_over()
                    self._beat()
                self._failed = False
            except Exception as error:
                self._failed, self.is_refused = True, isinstance(error, SinksLake)
                self._retry_at = time.monotonic() + _RETRY_SECONDS
                self._warn(f"cannot be written ({error})")
            self._is_tried.set()
        if self._wants_tidying and not self._failed and self._end is None:
            self._wants_tidying = False
            with guard("housekeeping"):
                self._tidy()
        self._began_at = None

    def _claim(self) -> None:
        if not self.record.is_claimed:
            self._take(claim_on_the_spot(self.lake.storage, self.record))
            with guard("claim"):
                self._name_other()

    def _take(self, record: RunRecord) -> None:
        """Be this attempt from now on."""
        self.record = record
        self._state()
        self.state_claim()
        with guard("claim"):
            self.on_claimed(record)

    def _name_other(self) -> None:
        """Say that another process records this run as well, for all that is known; by one rank of it."""
        record, storage = self.record, self.lake.storage
        if record.attempt == 1 or record.rank > 0:
            return
        for earlier in find_records(storage, record.run_id):
            is_of_rank = earlier.rank == record.rank and earlier.attempt < record.attempt
            if is_of_rank and as_seen(storage, earlier).state == RUNNING:
                logger.warning(
                    "run %s is still being recorded as attempt %d (pid %s on %s); this is attempt %d of the "
                    "same run. If it is another training, give it a run_id of its own",
                    record.run_id,
                    earlier.attempt,
                    earlier.pid,
                    earlier.host,
                    record.attempt,
                )

    def _next_watch(self) -> float:
        return time.monotonic() + (_WATCH_SECONDS if self.lake.storage.is_local else BEAT_SECONDS)

    def _watch(self) -> bool:
        """Look whether somebody has removed what this run put into the lake; False while more of it goes.

        What waits in the live folder meanwhile does not go with it.
        """
        is_last = self._end is not None
        if time.monotonic() >= self._watch_at or is_last or self._recorder.sealed():
            record = self._holdings.look(self.record, is_last=is_last)
            if record is not self.record:
                self._take(record)
            self._watch_at = self._next_watch() if self._holdings.is_settled else 0.0
        return self._holdings.is_settled

    def _hand_over(self) -> None:
        for segment in self._recorder.sealed():
            self._busy = segment
            try:
                rows = hand_over(
                    self.lake.storage, segment, self.record.day, self.record.owner, self._recorder.clock.eras
                )
                if rows:
                    self._holdings.add(int(segment.header["number"]))
                is_unsent = self._is_unsent(segment)
                self._recorder.release(segment, unlink=not is_unsent)
                if leaves(segment.header):
                    self.on_handed_over(int(segment.header["number"]), rows)
            finally:
                self._busy = None
            give_back_memory()

    def _is_unsent(self, segment: Segment) -> bool:
        """Whether a segment that is in the lake must still leave by OTLP, and is kept for that."""
        if not leaves(segment.header):
            return False
        with contextlib.suppress(OSError):  # no room: it stays as long as it is
            segment.park()
        with contextlib.suppress(FileNotFoundError):  # somebody has removed it
            return keep_unsent(segment.path, segment.header)
        return False

    def _beat(self) -> None:
        """Let other hosts see that this run lives."""
        if self._end is None and time.monotonic() >= self._beat_at:
            write_beat(self.lake.storage, self.record)
            self._beat_at = time.monotonic() + BEAT_SECONDS

    def _tidy(self) -> None:
        for segment in self.lake.recover(thorough=False):
            logger.info(
                "recovered %d rows of run %s from %s", segment.rows, segment.run_id, segment.path.name
            )
            self.on_recovered(segment)
        # What was just set may be set again: nothing is removed by such a clock.
        if self._retention_days is not None and not self._recorder.clock.was_set:
            self.lake.prune(timedelta(days=self._retention_days))

    def _finish(self) -> None:
        """After the last round: what is not in the lake is left to recovery, and so is the lock's file."""
        if not self._failed:
            with guard("close"):
                self.compact()
            with guard("close"):
                self._write_end()
        for segment in self._recorder.sealed():
            self._recorder.release(segment, unlink=False)
        self._lock.release(unlink=self.is_kept)

    def _write_end(self) -> None:
        if (end := self._end) is not None:
            at = datetime.fromisoformat(end["at"])
            record = self.record.ended(end["state"], at, end["reason"], self._recorder.dropped)
            write_record(self.lake.storage, record)
            self.is_kept = True
            remove_beat(self.lake.storage, record)

    def compact(self) -> None:
        """Merge this process's files into larger ones, where they are few enough for the end of a run."""
        record = self.record
        compaction.compact(
            self.lake.storage, record.day, record.run_id, record.process, compaction.MAX_ROWS_AT_CLOSE
        )

    def _warn(self, problem: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            logger.warning(
                "%s %s; what was recorded stays in %s and is tried again",
                self.lake.url,
                problem,
                self.lake.live,
            )
