"""NullContext: a rank that records nothing, and still answers when all ranks are asked whether to stop.

Its run may not have begun, its lake may have failed, or monitoring is switched off on its host. Without an
answer from it the others would wait in `agree` for ever.
"""

from __future__ import annotations

from typing import Any

from entrenar_processors import Coordinates
from entrenar_processors.alert import Alert

from entrenar_otel.recording.process.control import CommandRequest


class NullContext:
    """The LoopContext of an Andon without a run: nothing is recorded, no command comes."""

    def __init__(self, rank: int, world_size: int) -> None:
        self.rank, self.world_size = rank, world_size

    def hold(self) -> None: ...

    def here(self) -> Coordinates:
        return Coordinates()

    def record_action(self, action: str, alert: Alert, **attributes: Any) -> None: ...

    def set_state(self, state: str) -> None: ...

    def write_incident(self, alert: Alert) -> str | None:
        return None

    def stop_message(self, alert: Alert) -> str:
        return f"{alert.summary}. This is rank {self.rank} of {self.world_size}, which records nothing now."

    def resume_command(self) -> str:
        return ""

    def take_command(self) -> CommandRequest | None:
        return None

    def say(self, line: str) -> None: ...
