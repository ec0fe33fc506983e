"""Stop, pause and resume a run from another process on its host."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from entrenar_otel.errors import RunError
from entrenar_otel.lake.overview import on_this_host, running
from entrenar_otel.lake.records.runs import ELSEWHERE
from entrenar_otel.recording.process.control import Command, control_path, is_paused, send

if TYPE_CHECKING:
    from entrenar_otel.lake import Lake
    from entrenar_otel.lake.records.runs import RunRecord


@dataclass(frozen=True)
class Answer:
    """Whether a process of the run has accepted the command, and whether it was paused before."""

    rank: int
    process: str
    taken: bool
    was_paused: bool


def give(lake: Lake, run_id: str, command: Command, reason: str, wait_seconds: float) -> list[Answer]:
    """Give the command to every process of a run on this host, and wait for it to be accepted.

    Raises RunError if the run has no process here.
    """
    here = _processes(lake, run_id)
    paused = {record.process for record in here if is_paused(record.live, record.process)}
    for record in here:
        send(record.live, record.process, command, reason)
    deadline = time.monotonic() + wait_seconds
    paths = {record.process: control_path(record.live, record.process) for record in here}
    while any(path.exists() for path in paths.values()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return [
        Answer(record.rank, record.process, not paths[record.process].exists(), record.process in paused)
        for record in here
    ]


def _processes(lake: Lake, run_id: str) -> list[RunRecord]:
    alive = running(lake, (record for record in lake.runs() if record.run_id == run_id))
    here = on_this_host(alive)
    if not alive:
        raise RunError(f"run {run_id!r} is not running; `entrenar-otel ls` shows which runs are")
    hosts = ", ".join(sorted({record.host for record in alive}))
    if not here and all(record.live == ELSEWHERE for record in alive):
        raise RunError(
            f"run {run_id!r} is in the lake of a sink, which only hears of it: give the command on {hosts}, "
            "with the run's own lake"
        )
    if not here:
        raise RunError(
            f"run {run_id!r} is running on {hosts}, not on {socket.gethostname()}: give the command there"
        )
    return here
