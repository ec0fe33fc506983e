"""NullContext: a rank that records nothing, and still answers when all ranks are asked whether to stop.

It may not have begun yet, its lake may have failed, or monitoring is switched off on its host. If it kept
silent, the others would wait for it in `agree`.
"""

from __future__ import annotations

from typing import Any

from entrenar_processors import Coordinates
from entrenar_processors.alert import Alert

from entrenar_otel.recording.control import Request


class NullContext:
    """The surroundings of an Andon without a run: nothing can be noted, nothing waits."""

    def __init__(self, rank: int, world_size: int) -> None:
        self.rank, self.world_size = rank, world_size

    def hold(self) -> None: ...

    def here(self) -> Coordinates:
        return Coordinates()

    def event(self, action: str, alert: Alert, **attributes: Any) -> None: ...

    def set_state(self, state: str) -> None: ...

    def keep_incident(self, alert: Alert) -> str | None:
        return None

    def stop_message(self, alert: Alert) -> str:
        return f"{alert.summary}. This is rank {self.rank} of {self.world_size}, which records nothing now."

    def resume_command(self) -> str:
        return ""

    def take_command(self) -> Request | None:
        return None

    def say(self, line: str) -> None: ...
