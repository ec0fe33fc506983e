"""Process: what this one and its runs are called, when it began, and whether monitoring is switched off."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Mapping
from datetime import UTC, datetime

_ADJECTIVES = ("amber", "brisk", "calm", "deft", "eager", "fair", "keen", "lucid", "quiet", "swift")


def new_run_id(now: datetime | None = None) -> str:
    """A new id that sorts by time and can be said aloud, such as `20261124-091502-keen-4f1a`."""
    stamp = (now or datetime.now(UTC)).strftime("%Y%m%d-%H%M%S")
    return f"{stamp}-{secrets.choice(_ADJECTIVES)}-{secrets.token_hex(3)}"


def is_disabled(environ: Mapping[str, str]) -> bool:
    """`ENTRENAR_DISABLED` and `OTEL_SDK_DISABLED` are the same switch."""
    return any(
        environ.get(name, "").strip().lower() in ("1", "true", "yes", "on")
        for name in ("ENTRENAR_DISABLED", "OTEL_SDK_DISABLED")
    )


def process_started() -> datetime:
    """When this process was created, UTC, to a second; where the system does not say, now.

    Its date is the day of the attempt, whatever midnights it crosses.
    """
    import psutil  # 20 ms to import, and needed only where a run starts

    try:
        return datetime.fromtimestamp(psutil.Process().create_time(), UTC)
    except (psutil.Error, OSError, RuntimeError, ValueError):
        return datetime.now(UTC)


def host_name() -> str:
    """This host's name, as processes are named after it."""
    host = "".join(c if c.isalnum() or c in "._" else "_" for c in socket.gethostname())[:64]
    return host or "host"


def new_process_name() -> str:
    """A name that no other process ever has: host, pid, 64 random bits."""
    return f"{host_name()}-{os.getpid()}-{os.urandom(8).hex()}"
