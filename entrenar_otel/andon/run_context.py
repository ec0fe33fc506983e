"""Run context: a recorded run, as Andon sees it from the loop's thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from entrenar_processors import Coordinates
from entrenar_processors.alert import Alert

from entrenar_otel.andon.control_alerts import ControlAlerts
from entrenar_otel.andon.reporter import AlertReporter
from entrenar_otel.andon.stop_message import StopMessage, command_line
from entrenar_otel.clock import Clock
from entrenar_otel.console import say
from entrenar_otel.errors import guard
from entrenar_otel.recording.process.control import CONTROL, CommandRequest, ControlFile

if TYPE_CHECKING:
    from entrenar_otel.lake import Lake
    from entrenar_otel.lake.records.runs import RunRecord
    from entrenar_otel.otel.metrics.run_state import RunState
    from entrenar_otel.recording.recorder import Recorder


class RunContext:
    """A `LoopContext`: holds the recorder, records what is done, takes commands, speaks on rank 0."""

    def __init__(
        self,
        recorder: Recorder,
        lake: Lake,
        record: RunRecord,
        state: RunState,
        *,
        reporter: AlertReporter,
        commands: ControlAlerts,
        clock: Clock,
    ) -> None:
        self.world_size = record.world_size
        self._recorder, self._state, self._clock = recorder, state, clock
        self._reporter, self._commands = reporter, commands
        self._stop_message = StopMessage(lake, record)
        self._resume_command = command_line("resume", record.run_id, lake.url)
        self._control = ControlFile(str(lake.live), record.process)
        self._speaks = record.rank == 0

    def hold(self) -> None:
        self._recorder.hold()

    def here(self) -> Coordinates:
        return Coordinates.at(self._clock.time_ns(), *self._recorder.coordinates())

    def record_action(self, action: str, alert: Alert, **attributes: Any) -> None:
        self._reporter.record_action(action, alert, attributes)
        if action == "resume" and alert.source == CONTROL:
            self._commands.resolve(alert)

    def set_state(self, state: str) -> None:
        self._state.name = state
        self._control.set_paused(state == "paused")

    def write_incident(self, alert: Alert) -> str | None:
        with guard("sync"):
            self._recorder.sync()
        if alert.source == CONTROL:
            self._commands.report(alert)
        return self._reporter.report_stop(alert)

    def stop_message(self, alert: Alert) -> str:
        return self._stop_message.text(alert)

    def resume_command(self) -> str:
        return self._resume_command

    def take_command(self) -> CommandRequest | None:
        return self._control.take()

    def say(self, line: str) -> None:
        if self._speaks:
            say(line)

    def close(self) -> None:
        """The run is over: commands are neither expected nor kept."""
        self._control.close()
