"""Tenure: which sink writes a lake. Two with state folders of their own would store what comes twice.

A sink writes a small file into the lake's root every few seconds, with a name that its state folder keeps.
Another finds it there, and is refused while that one lives: its process is seen, or the file goes on
changing. Object stores have no locks that Arrow knows of, so of two that begin within the same second both
may believe it for one round; then the one that wrote last goes on, and the other writes no more and says so.
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entrenar_otel.console import logger
from entrenar_otel.errors import LakeError
from entrenar_otel.lake.store.storage import Storage, is_gone
from entrenar_otel.recording.plain_file import read_plain
from entrenar_otel.recording.process.origin import Origin
from entrenar_otel.redact import printable_line

NAME = "sink.json"
_MAX_BYTES = 10_000
BEAT_SECONDS = 10.0
#: One elsewhere whose file has not changed for so long is dead.
SILENT_SECONDS = 45.0
_LOOK_SECONDS = 0.5


class OtherSink(LakeError):
    """Another sink writes the lake, or may do so."""


@dataclass(frozen=True)
class _Holder:
    """What the file says."""

    owner: str
    beat: int
    where: str
    origin: Origin | None


class Tenure:
    """That of one sink. `take` at the start, `keep` before each write, `release` at the end."""

    def __init__(
        self,
        storage: Storage,
        state: Path,
        *,
        beat_seconds: float = BEAT_SECONDS,
        silent_seconds: float = SILENT_SECONDS,
    ) -> None:
        self._storage, self._state = storage, state
        self._beat_seconds, self._silent_seconds = beat_seconds, silent_seconds
        self._owner = _owner_of(state)
        self._beat, self._due = 0, 0.0
        self._seen: tuple[_Holder, float] | None = None

    def take(self) -> None:
        """Become the one that writes. Takes a while where another elsewhere has to be watched for a sign of
        life. Raises OtherSink where it lives, OSError where the lake does not answer.
        """
        first = self._read()
        if first is not None and self._lives(first) is None:
            logger.warning(
                "%s says that another sink writes it (%s): this one listens when nothing has been heard of "
                "that for %g s", self._storage.url, first.where, self._silent_seconds,
            )  # fmt: skip
        while True:
            try:
                self.keep()
                return
            except OtherSink:
                now = self._read()
                if now is not None and (self._lives(now) or first is None or now.beat != first.beat):
                    raise
                time.sleep(_LOOK_SECONDS)

    def keep(self) -> None:
        """Go on as the one that writes, or become it where the other is dead. Raises OtherSink, OSError."""
        holder = self._read()
        if holder is not None and holder.owner != self._owner:
            self._due = 0.0
            if self._may_live(holder):
                raise OtherSink(
                    f"another sink writes {self._storage.url} ({holder.where}): stop it, or give this one a "
                    "lake of its own by --lake"
                )
        elif holder is None:
            self._due = 0.0
        self._seen = None
        if time.monotonic() >= self._due:
            self._write()

    def release(self) -> None:
        """Leave the lake to others."""
        with contextlib.suppress(OSError, LakeError):
            holder = self._read()
            if holder is not None and holder.owner == self._owner:
                self._storage.remove(NAME)

    def _may_live(self, holder: _Holder) -> bool:
        """Whether it is seen to live, or was not silent for long enough yet."""
        if (lives := self._lives(holder)) is not None:
            return lives
        now = time.monotonic()
        if self._seen is None or self._seen[0] != holder:
            self._seen = holder, now
        return now - self._seen[1] < self._silent_seconds

    def _lives(self, holder: _Holder) -> bool | None:
        """Whether its process is there, of one on this machine; None where that cannot be seen."""
        if holder.owner == self._owner:
            return False
        return None if holder.origin is None else holder.origin.is_running()

    def _read(self) -> _Holder | None:
        try:
            said = json.loads(self._storage.read_bytes(NAME, _MAX_BYTES))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValueError:  # of no sink
            return None
        except OSError as error:
            if is_gone(error):
                return None
            raise
        if not isinstance(said, dict) or not isinstance(said.get("owner"), str):
            return None
        beat = said.get("beat")
        where = printable_line(
            f"process {said.get('pid')} on {said.get('host')}, state in {said.get('state')}"
        )
        return _Holder(
            said["owner"], beat if type(beat) is int else 0, where[:500], Origin.parse(said.get("origin"))
        )

    def _write(self) -> None:
        self._beat += 1
        origin = Origin.here()
        said: dict[str, Any] = {
            "owner": self._owner,
            "beat": self._beat,
            "pid": origin.pid,
            "host": socket.gethostname(),
            "state": str(self._state),
            "origin": origin.document(),
        }
        self._storage.write_bytes(NAME, json.dumps(said).encode())
        self._due = time.monotonic() + self._beat_seconds


def _owner_of(state: Path) -> str:
    """A name that no other state folder has. Raises OSError."""
    path = state / "owner"
    with contextlib.suppress(OSError, ValueError):
        owner = read_plain(path, 100).decode("ascii").strip()
        if re.fullmatch("[0-9a-f]{32}", owner):
            return owner
    owner = secrets.token_hex(16)
    path.write_text(f"{owner}\n")
    return owner
