"""Console: the one way to people, for every line that monitoring says, to stderr or to Python's logging.

What is said has no secret in it, steers no terminal, and is one line. That it cannot be said (a full disk, a
closed pipe, no stderr at all, a log handler that raises) is nothing that a training stops for, nor its
monitoring: the line is counted in `unsaid`, and all goes on.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import sys
import traceback
from collections.abc import Iterator
from typing import Any, TextIO

from entrenar_otel.interruption import from_outside
from entrenar_otel.redact import printable_line, printable_text, redacted

#: Lines that could not be written, in this process.
unsaid = 0
#: How long a line waits for a reader that does not read, as of a terminal that is held by Ctrl-S.
_WAIT_SECONDS = 0.2
#: What a pipe takes at once, less what is put around a line.
_MAX_LINE = 3_000


class Log:
    """A logger that never raises, whatever handlers and filters do, and logs lines that may be shown."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)  # noqa: TID251 - here it is made

    def default_level(self, level: int) -> None:
        """Say nothing below this level, unless the program has set one itself."""
        if self._logger.level == logging.NOTSET:
            self._logger.setLevel(level)

    def debug(self, message: str, *arguments: object) -> None:
        """Log at DEBUG; `arguments` are formatted into the message by `%`."""
        self.log(logging.DEBUG, message, *arguments, _level=3)

    def info(self, message: str, *arguments: object) -> None:
        """The same at INFO."""
        self.log(logging.INFO, message, *arguments, _level=3)

    def warning(self, message: str, *arguments: object, trace: bool = False) -> None:
        """The same at WARNING; with `trace`, the traceback goes along where DEBUG is on."""
        self.log(logging.WARNING, message, *arguments, trace=trace, _level=3)

    def log(self, level: int, message: str, *arguments: object, trace: bool = False, _level: int = 2) -> None:
        """The same at any level."""
        global unsaid
        try:
            if not self._logger.isEnabledFor(level):
                return
            if all(map(_takes, _streams_of(self._logger))):
                text = shown(message % arguments if arguments else message)
                if (
                    not self._logger.hasHandlers()
                ):  # Python prints the bare text, which does not say whose it is
                    text = f"entrenar: {text}"
                if trace and self._logger.isEnabledFor(logging.DEBUG):
                    text = f"{text}\n{printable_text(redacted(traceback.format_exc()))}"
                self._logger.log(level, text, stacklevel=_level)
            else:  # a handler would hold its lock, and everybody who logs, until somebody reads
                unsaid += 1
        except Exception as error:
            if from_outside(error):
                raise
            unsaid += 1


#: For what went wrong, or is worth knowing.
logger = Log("entrenar_otel")


def shown(text: str) -> str:
    """The text as it may be shown, in one line."""
    return printable_line(redacted(text))


def say(line: str) -> None:
    """Tell the person at the terminal, on stderr."""
    write(sys.stderr, f"entrenar: {shown(line)[:_MAX_LINE]}\n")


def write(stream: TextIO | None, text: str) -> bool:
    """Write a short text as it is; False where that is impossible, or would have to wait.

    Without a stream (a process that was started with stderr closed) it goes nowhere, least of all to stdout.
    """
    global unsaid
    is_written = False
    try:
        if stream is not None and _takes(stream):
            stream.write(text)
            stream.flush()
            is_written = True
    except Exception as error:  # a full disk, a closed pipe or file, a stranger's stream
        if from_outside(error):
            raise
    unsaid += not is_written
    return is_written


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a person looks at it."""
    try:
        return stream is not None and stream.isatty()
    except Exception as error:  # it is closed
        if from_outside(error):
            raise
        return False


def ipython_shell() -> Any:
    """The shell of IPython that this process runs in, a notebook's kernel say; None outside of one."""
    return getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()


def _streams_of(logger: logging.Logger | None) -> Iterator[TextIO]:
    """The streams that a line of this logger goes to."""
    has_handler = False
    while logger is not None:
        for handler in logger.handlers:
            has_handler = True
            if isinstance(handler, logging.StreamHandler) and handler.stream is not None:
                yield handler.stream
        logger = logger.parent if logger.propagate else None
    if not has_handler and logging.lastResort is not None and sys.stderr is not None:
        yield sys.stderr


def _takes(stream: TextIO) -> bool:
    """Whether it takes a line now: a pipe whose reader is stopped would hold whoever writes to it."""
    try:
        number = stream.fileno()
    except Exception as error:  # no file: a notebook's, a test's
        if from_outside(error):
            raise
        return True
    try:
        return bool(select.select([], [number], [], _WAIT_SECONDS)[1])
    except (ValueError, OSError):  # a number beyond what select takes; writing says more
        return True


def occupy_standard_descriptors() -> None:
    """Open the null device on each of the descriptors 0, 1 and 2 that is closed.

    Else the next file that is opened, a segment say, gets that number, and what anybody writes "to
    stderr" (a library in C, a process that aborts) goes into that file.
    """
    with contextlib.suppress(OSError):
        while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
            os.set_inheritable(number, True)
        os.close(number)
