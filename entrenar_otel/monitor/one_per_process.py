"""One per process: what `Monitor()` means in a process whose run `configure()` has already started."""

from __future__ import annotations

from typing import Any

from entrenar_otel.console import logger
from entrenar_otel.run import lifetime


class OnePerProcess(type):
    """Construction: once `configure()` has made the process's Monitor, `Monitor()` is that one."""

    def __call__(cls, run_id: str | None = None, **settings: Any) -> Any:
        known = lifetime.latest()
        if isinstance(known, cls) and known._is_configured and run_id in (None, known.run_id):
            if settings:
                logger.warning(
                    "run %s was already started by configure(); the settings given to Monitor() are ignored",
                    known.run_id,
                )
            return known
        return super().__call__(run_id, **settings)
