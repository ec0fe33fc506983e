"""Control: how another process on this host stops, pauses and resumes a run.

A command is a small file beside the process's live segments, `PROCESS.control`, put there whole by a
rename. The run looks for it at every tick, and several times a second while it is paused; it takes the
file away when it has read it. Who may write into that folder may control the run. While it is paused an
empty file `PROCESS.paused` says so.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import secrets
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

#: The source of alerts that no rule makes: what a person, or another rank, asks for.
CONTROL = "control"
#: A command is a few hundred bytes; whatever is larger is none.
_MAX_BYTES = 4096


class Command(StrEnum):
    """What can be asked of a run."""

    STOP = "stop"
    PAUSE = "pause"
    RESUME = "resume"


@dataclass(frozen=True, slots=True)
class Request:
    """A command, who gave it and when."""

    command: Command
    by: str
    reason: str = ""

    def __str__(self) -> str:
        reason = f": {self.reason}" if self.reason else ""
        return f"{self.command} asked for by {self.by}{reason}"


def control_path(live: str | os.PathLike[str], process: str) -> Path:
    """Where the commands for a process are put."""
    return Path(live) / f"{process}.control"


def _paused_path(live: str | os.PathLike[str], process: str) -> Path:
    return Path(live) / f"{process}.paused"


def is_paused(live: str | os.PathLike[str], process: str) -> bool:
    """Whether that process, which must be alive and of this host, holds its loop in a pause."""
    return _paused_path(live, process).exists()


def send(live: str | os.PathLike[str], process: str, command: Command, reason: str = "") -> None:
    """Give a command to a process; a later one takes the place of one that was not read yet.

    >>> send(tmp_path, "host-1", Command.PAUSE, "look at the loss")
    >>> ControlFile(tmp_path, "host-1").take().command
    <Command.PAUSE: 'pause'>
    """
    path = control_path(live, process)
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    document = {"command": str(command), "by": _who(), "reason": reason[:500], "at": time.time()}
    try:
        temporary.write_text(json.dumps(document), encoding="utf-8")
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


class ControlFile:
    """The receiving end, in the run's process."""

    def __init__(self, live: str | os.PathLike[str], process: str) -> None:
        self._path = control_path(live, process)
        self._paused = _paused_path(live, process)

    def set_paused(self, paused: bool) -> None:
        """Let other processes see whether this one is paused."""
        with contextlib.suppress(OSError):
            if paused:
                self._paused.touch()
            else:
                self._paused.unlink(missing_ok=True)

    def take(self) -> Request | None:
        """The command that waits, once; None where there is none. Raises ValueError on what is none."""
        try:
            with open(self._path, "rb", opener=_open_at_once) as file:
                data = file.read(_MAX_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            self.remove()
            raise ValueError(f"{self._path} is no command: {error.strerror}") from None
        self.remove()
        if len(data) > _MAX_BYTES:
            raise ValueError(f"{self._path} is no command: larger than {_MAX_BYTES} bytes")
        try:
            document = json.loads(data or b"null")
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict) or document.get("command") not in list(Command):
            raise ValueError(f"{self._path} is no command: expected one of {', '.join(Command)}")
        return Request(
            Command(document["command"]),
            str(document.get("by", "somebody"))[:100],
            str(document.get("reason", ""))[:500],
        )

    def close(self) -> None:
        """The run is over: nothing waits, and nobody is paused."""
        self.remove()
        self.set_paused(False)

    def remove(self) -> None:
        """Take away what waits: it was read, or nobody will."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)


def _open_at_once(path: str, flags: int) -> int:
    """Without waiting for the other end, where somebody has put a pipe there."""
    return os.open(path, flags | os.O_NONBLOCK)


def _who() -> str:
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = str(os.getuid())
    return f"{name} (pid {os.getpid()})"
