"""Loop context: what Andon needs of the run around the loop that it acts in."""

from __future__ import annotations

from typing import Any, Protocol

from entrenar_processors import Coordinates
from entrenar_processors.alert import Alert

from entrenar_otel.recording.process.control import CommandRequest


class LoopContext(Protocol):
    """The run as Andon sees it: `RunContext`, or `NullContext` on a rank that records nothing."""

    world_size: int

    def hold(self) -> None:
        """Let the next `log` call `Andon.act`."""

    def here(self) -> Coordinates:
        """Where the loop is."""

    def record_action(self, action: str, alert: Alert, **attributes: Any) -> None:
        """Record a `training.action`."""

    def set_state(self, state: str) -> None:
        """`running` or `paused`."""

    def write_incident(self, alert: Alert) -> str | None:
        """Write the incident of a stop now, bounded; returns its folder or URL, None where there is none."""

    def stop_message(self, alert: Alert) -> str:
        """What AndonStop says."""

    def resume_command(self) -> str:
        """What to type so that a paused run goes on."""

    def take_command(self) -> CommandRequest | None:
        """A command of another process, if one waits."""

    def say(self, line: str) -> None:
        """Print a line for the person at the terminal."""
