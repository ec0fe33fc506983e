"""Stop, pause and resume a run from another process on its host."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from entrenar_otel.andon.control import Command, control_path, is_paused, send
from entrenar_otel.errors import RunError
from entrenar_otel.lake.query import is_dead
from entrenar_otel.lake.runs import RUNNING

if TYPE_CHECKING:
    from entrenar_otel.lake import Lake
    from entrenar_otel.lake.runs import RunRecord


@dataclass(frozen=True)
class Answer:
    """Whether a process of the run has taken the command, and whether it was paused before."""

    rank: int
    process: str
    taken: bool
    was_paused: bool


def give(lake: Lake, run_id: str, command: Command, reason: str, wait_seconds: float) -> list[Answer]:
    """Give the command to every process of a run on this host, and wait for it to be taken.

    Raises RunError where the run has no process here.
    """
    here = _processes(lake, run_id)
    paused = {one.process for one in here if is_paused(one.live, one.process)}
    for record in here:
        send(record.live, record.process, command, reason)
    deadline = time.monotonic() + wait_seconds
    paths = {record.process: control_path(record.live, record.process) for record in here}
    while any(path.exists() for path in paths.values()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return [
        Answer(one.rank, one.process, not paths[one.process].exists(), one.process in paused) for one in here
    ]


def paused_runs(lake: Lake) -> set[str]:
    """The running runs of which a process of this host is paused."""
    host, records = socket.gethostname(), lake.runs()
    newest: dict[str, int] = {}
    for one in records:
        newest[one.run_id] = max(one.attempt, newest.get(one.run_id, 0))
    return {
        one.run_id
        for one in records
        if one.state == RUNNING
        and one.host == host
        and one.attempt == newest[one.run_id]
        and is_paused(one.live, one.process)
        and not is_dead(lake.storage, one)
    }


def _processes(lake: Lake, run_id: str) -> list[RunRecord]:
    running = [
        record
        for record in lake.runs()
        if record.run_id == run_id and record.state == RUNNING and not is_dead(lake.storage, record)
    ]
    host = socket.gethostname()
    here = [record for record in running if record.host == host]
    if not running:
        raise RunError(f"run {run_id!r} is not running: expected one that is, see `entrenar-otel ls`")
    if not here:
        hosts = ", ".join(sorted({record.host for record in running}))
        raise RunError(f"run {run_id!r} runs on {hosts}, this is {host}: give the command there")
    return here
