"""Control: how another process on this host stops, pauses and resumes a run.

A command is a small file beside the process's live segments, `PROCESS.control`, put there whole by a
rename. The run looks for it at every tick, and several times a second while it is paused; it deletes the
file when it has read it. Whoever may write into that folder may control the run. While the run is paused,
an empty file `PROCESS.paused` says so.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from entrenar_otel.recording.plain_file import open_plain, write_whole

#: The source of alerts that no rule makes: what a person, or another rank, asks for.
CONTROL = "control"
#: A command is a few hundred bytes; what is larger is not one.
_MAX_BYTES = 4096
#: Characters of a reason, and of who gave the command; longer ones end in `…`.
_MAX_REASON, _MAX_BY = 500, 100


class Command(StrEnum):
    """What can be asked of a run."""

    STOP = "stop"
    PAUSE = "pause"
    RESUME = "resume"


@dataclass(frozen=True, slots=True)
class CommandRequest:
    """A command, who gave it, and why."""

    command: Command
    by: str
    reason: str = ""

    def __str__(self) -> str:
        reason = f": {self.reason}" if self.reason else ""
        return f"{self.command} requested by {self.by}{reason}"


def control_path(live: str | os.PathLike[str], process: str) -> Path:
    """Where the commands for a process are put."""
    return Path(live) / f"{process}.control"


def _paused_path(live: str | os.PathLike[str], process: str) -> Path:
    return Path(live) / f"{process}.paused"


def is_paused(live: str | os.PathLike[str], process: str) -> bool:
    """Whether a process, which must be alive and on this host, is paused."""
    return os.path.exists(_paused_path(live, process))  # not there, or another user's: not known here


def send(live: str | os.PathLike[str], process: str, command: Command, reason: str = "") -> None:
    """Give a command to a process; it replaces an earlier one that was not read yet.

    >>> send(tmp_path, "host-1", Command.PAUSE, "look at the loss")
    >>> ControlFile(tmp_path, "host-1").take().command
    <Command.PAUSE: 'pause'>
    """
    path = control_path(live, process)
    document = {"command": str(command), "by": _who(), "reason": _cut(reason, _MAX_REASON)}
    write_whole(path, json.dumps(document).encode())


class ControlFile:
    """The receiving end, in the run's process."""

    def __init__(self, live: str | os.PathLike[str], process: str) -> None:
        self._path = control_path(live, process)
        self._pause_file = _paused_path(live, process)
        self._is_stuck = False  # something is there that is no file and cannot be removed

    def set_paused(self, paused: bool) -> None:
        """Let other processes see whether this one is paused."""
        with contextlib.suppress(OSError):
            if paused:
                self._pause_file.touch()
            else:
                self._pause_file.unlink(missing_ok=True)

    def take(self) -> CommandRequest | None:
        """The command that waits, once; None without one. Raises ValueError on what is not a command."""
        try:
            with open(open_plain(self._path), "rb") as file:
                data = file.read(_MAX_BYTES + 1)
        except FileNotFoundError:
            self._is_stuck = False
            return None
        except OSError as error:
            self._remove()
            if self._is_stuck:
                return None  # it was said
            self._is_stuck = os.path.lexists(self._path)
            raise ValueError(f"{self._path} is not a command: {error.strerror}") from None
        self._remove()
        if len(data) > _MAX_BYTES:
            raise ValueError(f"{self._path} is not a command: larger than {_MAX_BYTES} bytes")
        try:
            document = json.loads(data or b"null")
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict) or document.get("command") not in list(Command):
            raise ValueError(f"{self._path} is not a command: expected one of {', '.join(Command)}")
        return CommandRequest(
            Command(document["command"]),
            _cut(str(document.get("by", "somebody")), _MAX_BY),
            _cut(str(document.get("reason", "")), _MAX_REASON),
        )

    def close(self) -> None:
        """The run is over: no command waits, and it is not paused."""
        self._remove()
        self.set_paused(False)

    def _remove(self) -> None:
        """Delete what waits: it was read, or nobody will read it."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _who() -> str:
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = str(os.getuid())
    return f"{name} (pid {os.getpid()})"
