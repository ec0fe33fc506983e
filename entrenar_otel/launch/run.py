"""Run: a program from its start to its end, and with which exit code we leave.

86 says that AndonStop ended the run: a launcher that starts failed programs again must not start this one,
whose next attempt would come to the same NaN.
"""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from entrenar_otel.console import say
from entrenar_otel.identity.process import is_disabled
from entrenar_otel.launch.environment import prepared
from entrenar_otel.launch.program import Ended, Program
from entrenar_otel.launch.record import ProgramRecord
from entrenar_otel.run.supervisor import Note, told

#: The exit code of a program whose run AndonStop ended.
STOPPED_EXIT_CODE = 86


def run_program(
    command: Sequence[str],
    environ: Mapping[str, str],
    *,
    run_id: str | None = None,
    model_id: str | None = None,
    lake: str | None = None,
) -> Ended:
    """Start the program, wait for its end, and say with what to exit. Raises CannotStart."""
    folder = Path(tempfile.mkdtemp(prefix="entrenar-run-"))
    try:
        made = prepared(environ, folder, run_id=run_id, model_id=model_id, lake=lake)
        started_at = datetime.now(UTC)
        program = Program.start(command, made)
        if is_disabled(made):
            return program.wait(lambda: None)
        watch = _Watch(program, folder, ProgramRecord(command, program.pid, made, started_at=started_at))
        ended = program.wait(watch.look)
        return watch.end(ended, made["ENTRENAR_RUN_ID"])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Watch:
    """What the program's processes tell."""

    def __init__(self, program: Program, folder: Path, record: ProgramRecord) -> None:
        self._program, self._folder, self._record = program, folder, record
        self._again: Note | None = None  # of the run that we ended the program for

    def look(self) -> None:
        """Withdraw our own record where there is another; end a program that starts a stopped run again."""
        notes = told(self._folder)
        if notes:
            self._record.withdraw()
        again = started_again(notes)
        if again is not None and self._again is None:
            self._again = again
            say(f"run {again.run_id} was stopped, and is started again: the program is ended with SIGTERM")
            self._program.send(signal.SIGTERM)

    def end(self, ended: Ended, run_id: str) -> Ended:
        """How it ended, for whoever has started us."""
        notes = told(self._folder)
        if notes:
            self._record.withdraw()
        state, reason = ended.state
        if self._record.end(state, reason):
            why = f" ({reason})" if reason else ""
            say(f"run {run_id} {state}{why}; the program recorded nothing itself")
        stopped = stopped_by_andon(notes) or self._again  # whose next attempt has not come to the NaN
        if stopped is None:
            return ended
        say(f"run {stopped.run_id} was stopped: exit code {STOPPED_EXIT_CODE} instead of {ended.text}")
        return Ended(STOPPED_EXIT_CODE)


def stopped_by_andon(notes: Sequence[Note]) -> Note | None:
    """The run that AndonStop ended, where a rank's last run did.

    >>> first = Note("a", 1, "r", 0, started=1.0, state="stopped", is_stop=True)
    >>> stopped_by_andon([first]).run_id, stopped_by_andon([first, Note("b", 1, "r-2", 0, started=2.0)])
    ('r', None)
    """
    last = {note.rank: note for note in notes}
    return next((note for note in (last[rank] for rank in sorted(last)) if note.is_stop), None)


def started_again(notes: Sequence[Note]) -> Note | None:
    """A run that another process has begun after AndonStop had ended it.

    >>> first = Note("a", 1, "r", 0, started=1.0, state="stopped", is_stop=True)
    >>> started_again([first]), started_again([first, Note("b", 2, "r", 0, started=2.0)]).pid
    (None, 2)
    """
    stopped: dict[tuple[str, int], int] = {}
    for note in notes:
        if stopped.get((note.run_id, note.rank), note.pid) != note.pid:
            return note
        if note.is_stop:
            stopped[note.run_id, note.rank] = note.pid
    return None
